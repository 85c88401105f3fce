"""What the planner decided, in words: from the console's plans."""

from __future__ import annotations

from typing import Any

from isthmus.demo.decisions import decided, words


def group(cluster: str, points: int = 0, backends: int = 2) -> dict[str, Any]:
    return {"cluster": cluster, "basisPoints": points, "backends": [{"id": str(n)} for n in range(backends)]}


def plan(**parts: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "shares": [], "standby": [], "unhealthy": [], "draining": [], "leftOut": [], "panic": False
    }  # fmt: skip
    return empty | parts


BOTH = decided(plan(shares=[group("eu-1", 2500, 1), group("eu-1", 2500, 1), group("eu-2", 5000)]))
ONE = [group("eu-1", 10_000)]


def test_a_plan_that_stays_is_not_told() -> None:
    assert words(BOTH, BOTH) == ""
    jitter = decided(plan(shares=[group("eu-1", 5020), group("eu-2", 4980)]))
    assert words(BOTH, jitter) == ""


def test_endpoints_that_fail_their_checks_are_the_reason_and_losers_come_first() -> None:
    sick = decided(plan(shares=ONE, unhealthy=[group("eu-2")]))
    assert words(BOTH, sick) == "eu-2 50% to 0%, eu-1 50% to 100%; 2 endpoints fail checks in eu-2"
    assert words(sick, BOTH) == "eu-1 100% to 50%, eu-2 0% to 50%; eu-2 passes its checks again"
    one = decided(plan(shares=[group("eu-1", 6667), group("eu-2", 3333, 1)], unhealthy=[group("eu-2", 0, 1)]))
    assert words(BOTH, one).endswith("; 1 endpoint fails checks in eu-2")


def test_a_drain_is_told_both_ways() -> None:
    drained = decided(plan(shares=ONE, draining=[group("eu-2")]))
    assert words(BOTH, drained).endswith("; eu-2 drains")
    assert words(drained, BOTH).endswith("; eu-2 drains no more")


def test_a_cluster_that_stands_by_is_told() -> None:
    local = decided(plan(shares=ONE, standby=[group("eu-2")]))
    assert words(BOTH, local).endswith("; eu-2 stands by")
    assert words(local, BOTH).endswith("; eu-2 stands by no more")


def test_endpoints_that_come_and_go_are_counted() -> None:
    more = decided(plan(shares=[group("eu-1", 4000), group("eu-2", 6000, 3)]))
    assert words(BOTH, more).endswith("; eu-2 has 3 endpoints now")
    assert words(BOTH, decided(plan(shares=ONE))).endswith("; eu-2 has 0 endpoints now")


def test_panic_and_what_was_left_out_are_told() -> None:
    panic = decided(plan(shares=[group("eu-1", 5000), group("eu-2", 5000)], panic=True))
    assert words(BOTH, panic) == "panic: too few are healthy, so all count"
    assert words(panic, BOTH) == "enough are healthy again, panic is over"
    left = decided(plan(shares=ONE, leftOut=[{"cluster": "eu-2", "endpoint": "a", "reason": "weight is 0"}]))
    assert words(BOTH, left).endswith("eu-2: weight is 0")
