"""A plan as shares of single addresses: what a door draws from that knows neither groups nor endpoints.

This is the input of the kernel's alias tables, one for each address family. Invariant: the shares of a family
sum to 1 where an endpoint of it has a share; an endpoint without an address of the family gives its part to
the others, in proportion.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from isthmus.model.plan import Plan
from isthmus.model.service import AddressFamily


class AddressShare(NamedTuple):
    """An address to connect to (`port` None in a plan of a service as a whole), its exact share, 0..1."""

    address: str
    port: int | None
    share: Fraction


def address_shares(plan: Plan, family: AddressFamily) -> tuple[AddressShare, ...]:
    """The addresses of a family with a share, in the order of the plan; empty where there is none."""
    found = list(_weighed(plan, family))
    whole = sum((share for _, _, share in found), Fraction(0))
    return tuple(AddressShare(address, port, share / whole) for address, port, share in found)


def _weighed(plan: Plan, family: AddressFamily) -> Iterator[AddressShare]:
    """One address of each endpoint, its first: an endpoint with two is not drawn twice as often."""
    for group in plan.shares:
        each = Fraction(group.basis_points, len(group.backends))
        for backend in group.backends:
            of_family = (
                text for text in backend.addresses if (":" in text) is (family is AddressFamily.IPV6)
            )
            if (address := next(of_family, None)) is not None:
                yield AddressShare(address, backend.port, each)
