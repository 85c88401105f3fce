"""The election: never two holders, whatever is delayed, lost or restarted; and the claims it writes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from isthmus.api.core import Lease
from isthmus.api.meta import ObjectKey
from isthmus.errors import ConfigError
from isthmus.kube.lease import Acquire, Election, Lost, Observed, Renew, Terms, Wait, claim, observed

TERMS = Terms(duration=15.0, renew_within=10.0, period=2.0)
KEY = ObjectKey("isthmus-system", "writer")


def holding(election: Election, sent: float, version: str = "1") -> Observed:
    lease = Observed(version=version, holder=election.identity, duration=15.0)
    election.written(lease, sent)
    return lease


def test_a_lease_that_does_not_exist_or_names_nobody_is_taken_at_once() -> None:
    for found in (Observed(), Observed(version="7")):
        election = Election("me", TERMS)
        election.observe(found, 0.0)
        assert election.decide(0.0) == Acquire()
        assert not election.holds(0.0)


def test_anothers_lease_is_taken_after_a_whole_duration_without_change() -> None:
    election = Election("me", TERMS)
    election.observe(Observed(version="1", holder="other", duration=15.0, renewed="a"), 100.0)
    assert election.decide(100.0) == Wait(15.0)
    election.observe(Observed(version="2", holder="other", duration=15.0, renewed="b"), 114.0)
    assert election.decide(116.0) == Wait(13.0)
    assert election.decide(129.0) == Acquire()


def test_a_recorded_duration_can_only_lengthen_the_wait_and_not_without_end() -> None:
    for recorded, least in ((1.0, 15.0), (40.0, 40.0), (1e9, 60.0)):
        election = Election("me", TERMS)
        election.observe(Observed(version="1", holder="other", duration=recorded), 0.0)
        assert election.decide(0.0) == Wait(least)


def test_a_holder_trusts_its_renewal_from_the_moment_it_was_sent() -> None:
    election = Election("me", TERMS)
    lease = holding(election, sent=100.0)
    election.observe(lease, 109.0)
    assert election.holds(109.9)
    assert election.decide(109.9) == Renew()
    assert not election.holds(110.0)
    assert election.decide(110.0) == Lost()


def test_a_holder_knows_how_long_nobody_else_can_act() -> None:
    mine, other = Election("me", TERMS), Election("other", TERMS)
    assert mine.left(100.0) == 0.0
    lease = holding(mine, sent=100.0)
    other.observe(lease, 100.0)
    assert mine.left(109.0) == 6.0
    assert other.decide(109.0 + mine.left(109.0) - 0.1) == Wait(pytest.approx(0.1))
    assert mine.left(110.0) == 0.0


def test_a_holder_that_sees_another_in_the_lease_has_lost_it_at_once() -> None:
    election = Election("me", TERMS)
    holding(election, sent=100.0)
    election.observe(Observed(version="2", holder="other", duration=15.0), 101.0)
    assert election.decide(101.0) == Lost()
    assert not election.holds(101.0)
    assert election.decide(101.0) == Wait(15.0)


def test_a_released_lease_is_not_held_any_more() -> None:
    election = Election("me", TERMS)
    holding(election, sent=100.0)
    election.released()
    assert not election.holds(100.1)


def test_claims_count_transitions_and_keep_the_time_of_acquisition() -> None:
    election = Election("me", TERMS)
    election.observe(Observed(version="4", holder="other", transitions=2, acquired="x"), 0.0)
    taken = claim(election, KEY, wall=1_700_000_000.25)
    assert taken["metadata"] == {"name": "writer", "namespace": "isthmus-system", "resourceVersion": "4"}
    assert taken["spec"] == {
        "holderIdentity": "me",
        "leaseDurationSeconds": 15,
        "acquireTime": "2023-11-14T22:13:20.250000Z",
        "renewTime": "2023-11-14T22:13:20.250000Z",
        "leaseTransitions": 3,
    }
    election.written(Observed(version="5", holder="me", transitions=3, acquired="then"), 0.0)
    renewed = claim(election, KEY, wall=1_700_000_002.0)["spec"]
    assert renewed["acquireTime"] == "then"
    assert renewed["leaseTransitions"] == 3
    assert renewed["renewTime"] == "2023-11-14T22:13:22.000000Z"


def test_the_first_claim_has_no_version_and_no_transition() -> None:
    first = claim(Election("me", TERMS), KEY, wall=0.0)
    assert "resourceVersion" not in first["metadata"]
    assert first["spec"]["leaseTransitions"] == 0


def test_an_empty_lease_object_is_nobodys() -> None:
    assert observed(Lease()) == Observed()


@pytest.mark.parametrize("wrong", [{"renew_within": 15.0}, {"period": 10.0}, {"period": 0.0}])
def test_terms_that_are_not_safe_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="period < renew_within < duration"):
        Terms(**wrong)


class ElectionModel(RuleBasedStateMachine):
    """Three candidates, one stored lease; requests travel slowly, and their answers may be lost."""

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.skew = {"a": 0.0, "b": 1e4, "c": -500.0}
        self.candidates = {name: Election(name, TERMS) for name in self.skew}
        self.stored = Observed()
        self.version = 0
        self.flying: list[tuple[Election, float, Observed, Observed]] = []

    def clock(self, name: str) -> float:
        return self.now + self.skew[name]

    @rule(name=st.sampled_from("abc"), read_delay=st.floats(0.0, 12.0))
    def look(self, name: str, read_delay: float) -> None:
        """Reads (the answer takes its time); a write that follows arrives later or never."""
        election = self.candidates[name]
        found = self.stored
        self.now += read_delay
        election.observe(found, self.clock(name))
        if isinstance(election.decide(self.clock(name)), Acquire | Renew):
            body = claim(election, KEY, self.now)["spec"]
            wanted = Observed(
                holder=name,
                duration=float(body["leaseDurationSeconds"]),
                transitions=body["leaseTransitions"],
                acquired=body["acquireTime"],
                renewed=f"{self.now}",
            )
            self.flying.append((election, self.clock(name), found, wanted))

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), answered=st.booleans(), delay=st.floats(0.0, 20.0))
    def write_arrives(self, data: st.DataObject, answered: bool, delay: float) -> None:
        index = data.draw(st.integers(0, len(self.flying) - 1))
        election, sent, expected, wanted = self.flying.pop(index)
        self.now += delay
        if expected.version != self.stored.version:
            return  # the server refuses: somebody else wrote first
        self.version += 1
        self.stored = replace(wanted, version=str(self.version))
        if answered:
            election.written(self.stored, sent)

    @precondition(lambda self: self.flying)
    @rule()
    def write_is_lost(self) -> None:
        self.flying.pop(0)

    @rule(seconds=st.floats(0.0, 20.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=st.sampled_from("abc"))
    def restart(self, name: str) -> None:
        """A new life knows nothing; what the old one sent may still arrive."""
        self.candidates[name] = Election(name, TERMS)

    @rule(name=st.sampled_from("abc"))
    def release(self, name: str) -> None:
        election = self.candidates[name]
        held = election.holds(self.clock(name))
        election.released()
        if held and election.seen == self.stored:
            self.version += 1
            self.stored = replace(self.stored, holder="", version=str(self.version))

    @invariant()
    def there_is_at_most_one_holder(self) -> None:
        holders = [name for name, e in self.candidates.items() if e.holds(self.clock(name))]
        assert len(holders) <= 1


ElectionModel.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestElectionModel = ElectionModel.TestCase


def test_two_candidates_hand_over_when_the_holder_falls_silent() -> None:
    """The model above proves safety; this proves that somebody does win."""
    first, second = Election("a", TERMS), Election("b", TERMS)
    lease = holding(first, sent=0.0)
    second.observe(lease, 1.0)
    winner_at = next(now for now in range(100) if second.decide(float(now)) == Acquire())
    assert winner_at == 16
    assert not first.holds(float(winner_at))
