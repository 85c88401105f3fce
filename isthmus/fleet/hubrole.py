"""The hub's one duty towards clusters: leases become Cluster states.

Pure: what was heard and the time give the statuses that should be. They change when a state does and not with
every heartbeat, so that the watchers of a thousand clusters hear of transitions only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isthmus.api import hub
from isthmus.fleet.states import LEASE_DURATION, Heard, State, judge
from isthmus.model.names import ClusterId


def cluster_status(obj: hub.Cluster, heard: Heard | None, state: State) -> dict[str, Any]:
    """The status of a Cluster in that state, to apply; conditions without their times.

    `lastHeartbeat` is the last renewal before the state began, in the agent's words: it stays with the state.
    """
    last = obj.status.last_heartbeat
    if obj.status.state != state.value:
        last = heard.mark if heard is not None else ""
    if state is State.READY:
        reason, message = "HeartbeatReceived", "The cluster renews its lease."
    elif heard is None:
        reason, message = "HeartbeatNeverSeen", "The cluster has never renewed its lease."
    else:
        reason, message = "HeartbeatLost", "The cluster has stopped renewing its lease; it may well be alive."
    return {
        "apiVersion": "hub.isthmus.dev/v1alpha1",
        "kind": "Cluster",
        "metadata": {"name": obj.metadata.name},
        "status": {
            "state": state.value,
            "lastHeartbeat": last,
            "conditions": [
                {
                    "type": "Heartbeat",
                    "status": "True" if state is State.READY else "Unknown",
                    "reason": reason,
                    "message": message,
                    "observedGeneration": obj.metadata.generation,
                }
            ],
        },
    }


def cluster_statuses(
    clusters: Mapping[ClusterId, hub.Cluster],
    heard: Mapping[ClusterId, Heard],
    *,
    listening_since: float | None,
    now: float,
    duration: float = LEASE_DURATION,
) -> tuple[dict[ClusterId, dict[str, Any]], float | None]:
    """The statuses of all clusters on which there is a judgement, and in how many seconds to ask again.

    `now` and `listening_since` are monotonic seconds (see `states.judge`).
    """
    statuses: dict[ClusterId, dict[str, Any]] = {}
    again: list[float] = []
    for name, obj in clusters.items():
        known = heard.get(name)
        judgement = judge(known, listening_since=listening_since, now=now, duration=duration)
        if judgement.state is not None:
            statuses[name] = cluster_status(obj, known, judgement.state)
        if judgement.ask_again is not None:
            again.append(judgement.ask_again)
    return statuses, min(again, default=None)
