"""Plans as shares of plain addresses, by family."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import msgspec
from hypothesis import given
from worked_cases import WorkedCase
from worlds import World, worlds

from isthmus.model.plan import Plan
from isthmus.model.service import AddressFamily
from isthmus.traffic.addressshares import address_shares


def test_the_shares_of_addresses_are_those_of_their_groups(worked_case: WorkedCase) -> None:
    plan = worked_case.plan()
    found = {one.address: one.share for one in address_shares(plan, AddressFamily.IPV4)}
    for group in plan.shares:
        together = sum(found[backend.addresses[0]] for backend in group.backends)
        assert together == Fraction(group.basis_points, 10_000)
    assert {one.port for one in address_shares(plan, AddressFamily.IPV4)} == {8080}
    assert address_shares(plan, AddressFamily.IPV6) == ()


@given(worlds())
def test_a_family_sums_to_the_whole_or_has_nobody(world: World) -> None:
    found = address_shares(world.reckon().plan, AddressFamily.IPV4)
    assert sum(one.share for one in found) == (1 if found else 0)
    assert all(one.share > 0 for one in found)


def with_addresses(plan: Plan, *addresses: str) -> Plan:
    """The same plan where the first endpoint of the first group has these addresses."""
    first, *others = plan.shares
    changed = msgspec.structs.replace(first.backends[0], addresses=addresses)
    return replace(plan, shares=(replace(first, backends=(changed, *first.backends[1:])), *others))


def test_who_lacks_a_family_gives_its_part_to_the_others(worked_cases: list[WorkedCase]) -> None:
    plan = next(case for case in worked_cases if case.name == "ActiveActive 80/20").plan()
    ipv6_only = with_addresses(plan, "fd00::1")
    assert [(one.address, one.share) for one in address_shares(ipv6_only, AddressFamily.IPV6)] == [
        ("fd00::1", Fraction(1))
    ]
    assert sum(one.share for one in address_shares(ipv6_only, AddressFamily.IPV4)) == 1
    dual = with_addresses(plan, "10.64.0.9", "10.64.0.10", "fd00::1")
    found = address_shares(dual, AddressFamily.IPV4)
    assert [one.address for one in found][:1] == ["10.64.0.9"]
    assert "10.64.0.10" not in {one.address for one in found}
