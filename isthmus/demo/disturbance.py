"""How long an accident was felt, computed from samples: by whom it reached, and by how long requests took.

Pure. Machines that run a whole clusterset stutter, so one slow request proves nothing: both measures follow
the disturbance from the accident's beginning and end where it ends, and neither takes a later stutter for it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

from isthmus.demo.load import REQUEST_TIMEOUT, Request

SLOW_MS = 200.0
"""A request that took longer may have waited for somebody who was dead."""
GAP_SECONDS = 0.5
"""Without a slow request for so long, a disturbance is over."""
WINDOW_SECONDS = 0.5
STEP_SECONDS = 0.05
HOLD_SECONDS = 0.5
"""So long must every window be calm, that is a second of requests, to count as settled."""
BEFORE_SECONDS = 2.5
CALM_MS = 5.0
"""A p99 below this is calm, whatever it was before."""


def moved_ms(requests: Sequence[Request], victim: str, began: float) -> float:
    """Milliseconds from `began` until the last request that the accident reached, 0.0 if it reached none.

    Reached are: requests that `victim` still served, up to their answer; requests that failed, up to their
    end; and slow ones (over SLOW_MS), up to when they were sent, as long as they hang together with the
    beginning: each was under way within GAP_SECONDS of the disturbance so far. A slow request among quick
    ones seconds later is noise. `requests`: those sent while the accident lasted, in any order.
    """
    felt = [began]
    felt += [_end(r) for r in requests if r.status != 200 or (victim and r.cluster == victim)]
    reach = began
    for slow in sorted((r for r in requests if r.status == 200 and r.ms > SLOW_MS), key=lambda r: r.at):
        if slow.at > reach + GAP_SECONDS:
            break
        reach = max(reach, _end(slow))
        felt.append(slow.at)
    return round((max(felt) - began) * 1000, 1)


def _end(request: Request) -> float:
    return request.at + request.ms / 1000


def settled_ms(requests: Sequence[Request], began: float, ended: float) -> float | None:
    """Milliseconds from `began` until latency is back; None when it is not before `ended`."""
    level = level_ms(requests, began)
    return None if level is None else back_ms(requests, began, ended, level)


def level_ms(requests: Sequence[Request], began: float) -> float | None:
    """What a p99 may be to be back: CALM_MS, or twice its level before; None when nobody called before.

    That level is what three quarters of the windows in the BEFORE_SECONDS before `began` stay within.
    """
    before = sorted(p99 for _, p99 in _windows(requests, began - BEFORE_SECONDS, began))
    return max(CALM_MS, 2 * before[math.ceil(0.75 * len(before)) - 1]) if before else None


def back_ms(requests: Sequence[Request], began: float, ended: float, level: float) -> float | None:
    """Milliseconds from `began` until p99 is at most `level`; None when it is not before `ended`.

    That is the first moment from which, for HOLD_SECONDS, every window of WINDOW_SECONDS is. A request
    belongs to the window it was due in, and a window's beginning is the moment that counts. A failed request
    counts as the longest there is.
    """
    since: float | None = None
    for at, p99 in _windows(requests, began, ended):
        if p99 > level:
            since = None
        elif since is None:
            since = at
        if since is not None and at - since >= HOLD_SECONDS:
            return round((since - began) * 1000, 1)
    return None


def _windows(requests: Sequence[Request], start: float, end: float) -> list[tuple[float, float]]:
    """(beginning, p99 in milliseconds) of the windows that hold a request and fit between start and end."""
    ordered = sorted((r for r in requests if start <= r.at < end), key=lambda r: r.at)
    found = []
    for step in range(int((end - start - WINDOW_SECONDS) / STEP_SECONDS) + 1):
        at = start + step * STEP_SECONDS
        low = bisect_left(ordered, at, key=lambda r: r.at)
        high = bisect_left(ordered, at + WINDOW_SECONDS, key=lambda r: r.at)
        if low < high:
            taken = sorted(r.ms if r.status == 200 else REQUEST_TIMEOUT * 1000 for r in ordered[low:high])
            found.append((at, taken[math.ceil(0.99 * len(taken)) - 1]))
    return found
