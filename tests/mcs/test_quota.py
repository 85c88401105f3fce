"""What one cluster may offer, and which of its services are too many."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from isthmus.mcs.quota import Age, Load, Quota, export_load, surplus
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.refusal import Refused
from isthmus.model.service import Export, Port, Protocol, ServiceType

SMALL = Quota(services=3, endpoints=100, bytes=10_000)


def place(number: int, created: float = 0.0) -> Age:
    return created, ServiceKey("shop", f"s{number:02}")


def export(key: ServiceKey, created: float) -> Export:
    http = Port(name="http", protocol=Protocol.TCP, port=80)
    kind = ServiceType.CLUSTER_SET_IP
    return Export(cluster=ClusterId("eu-1"), key=key, created=created, type=kind, ports=(http,))


def refused(offers: Mapping[Age, Load], quota: Quota = SMALL) -> set[Age]:
    over = surplus(offers, quota)
    if over is None:
        return set()
    return {age for age in offers if isinstance(over.refuses(export(age[1], age[0])), Refused)}


def test_what_fits_is_all_heard() -> None:
    assert refused({place(n): Load(1, 33, 3_000) for n in range(3)}) == set()


def test_the_youngest_are_refused_and_the_message_says_of_what_there_is_too_much() -> None:
    offers = {place(n, created=float(9 - n)): Load(1, 1, 1) for n in range(5)}
    assert refused(offers) == {place(0, 9.0), place(1, 8.0)}
    over = surplus(offers, SMALL)
    assert over is not None
    answer = over.refuses(export(place(0)[1], created=9.0))
    assert isinstance(answer, Refused)
    assert answer.reason == "QuotaExceeded"
    assert "eu-1 offers more than 3 services" in answer.message


def test_each_bound_counts_and_names_break_ties() -> None:
    assert refused({place(0): Load(1, 60, 0), place(1): Load(1, 60, 0)}) == {place(1)}
    assert refused({place(0): Load(1, 0, 6_000), place(1): Load(1, 0, 6_000)}) == {place(1)}


def test_a_small_service_does_not_slip_in_behind_one_that_is_too_large() -> None:
    """Else whether it is heard would hang on the sizes of all that are older."""
    assert refused({place(0): Load(1, 101, 0), place(1): Load(1, 1, 0)}) == {place(0), place(1)}


LOADS = st.builds(Load, st.just(1), st.integers(0, 60), st.integers(0, 6_000))
OFFERS = st.dictionaries(st.tuples(st.integers(0, 20), st.integers(0, 3)), LOADS, max_size=10).map(
    lambda rows: {place(number, float(created)): load for (number, created), load in rows.items()}
)


@given(OFFERS, st.randoms(use_true_random=False))
def test_the_answer_does_not_depend_on_the_order_of_arrival(
    offers: dict[Age, Load], shuffler: random.Random
) -> None:
    shuffled = list(offers.items())
    shuffler.shuffle(shuffled)
    assert surplus(offers, SMALL) == surplus(dict(shuffled), SMALL)


@given(OFFERS, st.integers(0, 20), LOADS)
def test_a_newcomer_costs_no_older_service_its_place(
    offers: dict[Age, Load], number: int, load: Load
) -> None:
    newcomer = place(number, created=9.0)
    assert refused(offers) == refused(offers | {newcomer: load}) - {newcomer}


@given(OFFERS)
def test_what_is_heard_fits_the_quota(offers: dict[Age, Load]) -> None:
    heard = [offers[age] for age in offers.keys() - refused(offers)]
    total = Load()
    for load in heard:
        total = total.plus(load)
    assert not SMALL.exceeded(total)


def test_an_exports_texts_weigh() -> None:
    bare = export(ServiceKey("a", "b"), 0.0)
    dressed = replace(bare, labels=(("k", "v" * 60),))
    assert export_load(dressed).bytes - export_load(bare).bytes == 61
    assert export_load(bare).services == 1
