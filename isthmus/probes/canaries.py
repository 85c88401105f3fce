"""How often canaries are checked, and whom a failure brings forward.

Nobody asked for them, so all of them together cost an idle agent no more than a set rate: above it they are
checked less often, the clusters with the most first. What has not changed can wait; news cannot. The first
result that speaks against a verdict brings the same service's canaries in that cluster forward, and a second
one, of another service, all canaries of that cluster: a dead cluster or link is noticed as soon as if each
was checked twice a second. Pure: times are seconds of any monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from isthmus.model.health import CheckKey
from isthmus.model.names import ServiceKey
from isthmus.probes.budget import Budget
from isthmus.probes.targets import DEFAULT_CHECK

NEWS_SECONDS = 1.0
"""Two results so close together are the same news."""
HURRIED_SECONDS = 20.0


def intervals(counts: Mapping[str, int], rate: float) -> dict[str, float]:
    """Seconds between two checks of a canary, by cluster, so that all make at most `rate` checks a second.

    `counts` are canaries by cluster. Clusters that want less than an equal part of the rate have what they
    want, the others share the rest.
    """
    left, found = rate, {}
    ordered = sorted((count, cluster) for cluster, count in counts.items() if count)
    for position, (count, cluster) in enumerate(ordered):
        given = min(count / DEFAULT_CHECK.interval, left / (len(ordered) - position))
        found[cluster] = count / given
        left -= given
    return found


class Canaries:
    """The canaries of each cluster.

    So that no flapping cluster makes the exception the rule, only so many are brought forward by whole
    clusters in a while (`Budget.hurried`).
    """

    def __init__(self, budget: Budget) -> None:
        self._rate = budget.canary_rate
        self._hurried = budget.hurried / HURRIED_SECONDS
        self._booked = 0.0
        """The allowance of those that hurry is used up to this time."""
        self._held: dict[str, dict[CheckKey, None]] = {}
        self._intervals: dict[str, float] | None = {}
        """None: to be reckoned again."""
        self._news: dict[str, tuple[float, ServiceKey]] = {}
        """The latest of each cluster: when, and of which service."""
        self._called: dict[str, float] = {}
        """When all canaries of a cluster were last brought forward."""

    def come(self, key: CheckKey) -> None:
        self._held.setdefault(key.cluster, {})[key] = None
        self._intervals = None

    def go(self, key: CheckKey) -> None:
        held = self._held.get(key.cluster)
        if held is not None and key in held:
            del held[key]
            self._intervals = None
            if not held:
                for known in (self._held, self._news, self._called):
                    known.pop(key.cluster, None)

    def interval(self, cluster: str) -> float:
        """Seconds between two checks of a canary of that cluster whose verdict stands."""
        return self._known().get(cluster, DEFAULT_CHECK.interval)

    @property
    def longest(self) -> float:
        """The longest such interval of all clusters."""
        return max(self._known().values(), default=DEFAULT_CHECK.interval)

    def _known(self) -> dict[str, float]:
        if self._intervals is None:
            self._intervals = intervals({name: len(held) for name, held in self._held.items()}, self._rate)
        return self._intervals

    def forward(self, key: CheckKey, now: float) -> Iterable[CheckKey]:
        """Which canaries are checked at once because the result of `key` is news."""
        held = self._held.get(key.cluster)
        if held is None or self.interval(key.cluster) <= DEFAULT_CHECK.interval:
            return ()
        at, service = self._news.get(key.cluster, (float("-inf"), key.service))
        self._news[key.cluster] = now, key.service
        if service != key.service and now - at <= NEWS_SECONDS:
            if now - self._called.get(key.cluster, float("-inf")) < NEWS_SECONDS or self._booked > now:
                return ()
            self._called[key.cluster] = now
            self._booked = max(self._booked, now - HURRIED_SECONDS) + len(held) / self._hurried
            return list(held)
        return [other for other in held if other.service == key.service and other != key]
