"""Rejected responses are taken apart until only what is bad is held back."""

from __future__ import annotations

import math

import pytest
from ads_client import CDS, EDS, TYPE_URLS, contents, routes, running, running_delta, value
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.xds.quarantine import MOST_IN_A_ROW, Quarantine
from isthmus.xds.snapshot import Resource
from isthmus.xds.stream import ACK_SECONDS

MANY = [f"s{number:03}" for number in range(200)]


def resources(names: list[str], number: int = 0) -> list[Resource]:
    return [Resource(name, b"", hash((name, number))) for name in names]


def rejections(bad: set[str], names: list[str], naming: bool = False) -> tuple[Quarantine, int]:
    """Plays a client that rejects a response that holds something bad; how often it did."""
    quarantine, sent, times = Quarantine(), resources(names), 0
    while sent:
        found = sorted(one.name for one in sent if one.name in bad)
        if found:
            times += 1
            quarantine.reject(sent, f"error in {found[0]}: bad" if naming else "bad")
        else:
            quarantine.accept(sent)
        trial = quarantine.next_trial()
        sent = [one for one in resources(names) if one.name in trial and not quarantine.holds(one)]
    return quarantine, times


@settings(deadline=None)
@given(st.sets(st.sampled_from(MANY), max_size=6), st.booleans())
def test_exactly_what_is_bad_is_refused(bad: set[str], naming: bool) -> None:
    quarantine, times = rejections(bad, MANY, naming)
    assert quarantine.refused.keys() == bad
    assert not quarantine.trying
    assert times <= len(bad) * (math.log2(len(MANY)) + 2)


def test_a_name_in_the_text_shortens_the_search() -> None:
    assert rejections({"s007"}, MANY)[1] > 5
    assert rejections({"s007"}, MANY, naming=True)[1] == 2


def test_a_client_that_rejects_everything_is_given_up() -> None:
    quarantine, times = rejections(set(MANY), MANY)
    assert times == MOST_IN_A_ROW
    assert quarantine.refused.keys() == set(MANY)


def test_what_has_changed_is_not_held_back() -> None:
    quarantine, _ = rejections({"s001"}, MANY)
    assert quarantine.holds(resources(["s001"])[0])
    assert not quarantine.holds(resources(["s001"], 1)[0])


def test_a_full_state_goes_out_with_what_was_good_instead_of_what_is_bad() -> None:
    world, client = running("a", "b", "c")
    changes = {"cds|*|a": value("a", 1), "cds|*|b": value("b", 9), "cds|*|c": None}
    world.batch(
        {**changes, "eds|eu-1/eu/a|c": None, "rds|envoy@eu-1/eu/a@127.0.0.1:15001|explicit": routes("ab")}
    )
    client.settle()
    assert client.view[CDS] == {"a": b"a=1", "b": b"b=0"}
    assert client.warming == set()


def test_a_cluster_that_was_never_good_is_left_out() -> None:
    world, client = running("a")
    world.apply(cds_b=value("b", 9))
    client.settle()
    assert client.view[CDS] == {"a": b"a=0"}
    world.apply(cds_b=value("b", 1))
    client.settle()
    assert client.view[CDS] == {"a": b"a=0", "b": b"b=1"}


def test_a_rejection_after_a_late_answer_does_not_hide_what_the_client_has() -> None:
    world, client = running()
    world.apply(cds_a=value("a", 0))
    world.clock.now += 10
    world.apply(cds_a=None, cds_b=value("b", 9))
    assert len(client.inbox) == 2
    client.settle()
    assert client.view[CDS] == {}


@pytest.mark.parametrize("kind", [CDS, EDS])
def test_a_client_that_rejects_everything_costs_a_bounded_number_of_responses(kind: str) -> None:
    names = [f"s{number:03}" for number in range(100)]
    world, client = running(*names)
    world.batch({f"{kind}|{'*' if kind == CDS else 'eu-1/eu/a'}|{name}": value(name, 1) for name in names})
    for _ in range(500):
        if not client.inbox:
            break
        client.process(accept=client.inbox[0].type_url != TYPE_URLS[CDS if kind == CDS else EDS])
    sent = [r for r in client.received if r.type_url.endswith(".Cluster" if kind == CDS else "Assignment")]
    assert len(sent) <= 3 * MOST_IN_A_ROW
    assert not client.inbox
    client.received.clear()
    for _ in range(5):
        world.clock.now += 10
        world.ads.tick()
    assert client.received == []
    assert not any(contents(r) for r in client.received)


@pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])
def test_what_was_good_in_a_response_that_is_rejected_late_goes_out_again(delta: bool) -> None:
    """A newer response has overtaken it meanwhile, of other resources."""
    world, client = (running_delta if delta else running)("a", "b", "c")
    world.apply(eds_a=value("a", 1), eds_b=value("b", 9))
    world.clock.now += ACK_SECONDS + 1
    world.apply(eds_c=value("c", 1))
    assert len(client.inbox) == 2
    client.settle()
    assert client.view[EDS] == {"a": b"a=1", "b": b"b=0", "c": b"c=1"}
    assert client.stream.subscriptions[EDS].quarantine.refused.keys() == {"b"}
    assert not client.stream.subscriptions[EDS].late
