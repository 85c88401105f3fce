"""The doors that callers come through, as scenarios name them, and which program asks through which."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

Program = Literal["http", "grpc", "dns"]
"""Callers of one program share a process; gRPC's library has one of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """`idempotent`: whether a proxy may repeat a call that somebody may have seen already.

    `beside` is the door of ours that a peer's stands beside; its callers do the same; "" is ours.

    `service` of the bed is asked for, at `port`; `target` is the port that its pods listen on.
    """

    name: str
    program: Program
    idempotent: bool
    service: str
    port: int
    target: int
    beside: str = ""

    def within(self, namespace: str) -> Self:
        """The same door to the service of that namespace."""
        name, _, rest = self.service.split(".", 2)
        return replace(self, service=f"{name}.{namespace}.{rest}")


def _door(
    name: str, program: Program, service: tuple[str, int, int], *, idempotent: bool = True, beside: str = ""
) -> Door:
    host, port, target = service
    return Door(
        name=name,
        program=program,
        idempotent=idempotent,
        service=host,
        port=port,
        target=target,
        beside=beside,
    )


_FRONT = ("front.shop.svc.clusterset.local", 80, 8080)
_CHECKOUT = ("checkout.shop.svc.clusterset.local", 8080, 8080)
_CART = ("cart.shop.svc.clusterset.local", 7070, 7070)

DOORS = {
    door.name: door
    for door in (
        _door("envoy-get", "http", _FRONT),
        _door("envoy-post", "http", _FRONT, idempotent=False),
        _door("grpc", "grpc", _CART),
        # A name is asked for, kept as long as its TTL says, and connected to without any proxy.
        _door("dns-udp", "dns", _CHECKOUT),
        _door("dns-tcp", "dns", _CHECKOUT),
        _door("envoy-static", "http", _FRONT, beside="envoy-get"),
        _door("envoy-tuned", "http", _FRONT, beside="envoy-get"),
        _door("envoy-naive", "http", _FRONT, beside="envoy-get"),
        _door("coredns-static", "dns", _CHECKOUT, beside="dns-udp"),
    )
}
OURS = tuple(door.name for door in DOORS.values() if not door.beside)
SERVICES = tuple(dict.fromkeys(DOORS[door].service.partition(".")[0] for door in OURS))
"""What callers ask for, by its name in its namespace."""
