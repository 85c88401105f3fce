"""Health checks and what they found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import msgspec

from isthmus.model.names import EndpointId, ServiceKey


class CheckProtocol(StrEnum):
    TCP = "TCP"
    HTTP = "HTTP"
    HTTPS = "HTTPS"
    GRPC = "GRPC"
    ICMP = "ICMP"
    DNS = "DNS"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """How to check an endpoint. `protocol` None: HTTP where `path` is set, else TCP. Times in seconds.

    `port` overrides the endpoint's own port. `rise` and `fall` are consecutive results.
    """

    protocol: CheckProtocol | None = None
    path: str = ""
    port: int | None = None
    interval: float = 0.5
    timeout: float = 0.4
    rise: int = 2
    fall: int = 2

    @property
    def effective(self) -> CheckProtocol:
        """The protocol that the check uses."""
        return self.protocol or (CheckProtocol.HTTP if self.path else CheckProtocol.TCP)


class CheckKey(NamedTuple):
    """One checked port of one endpoint of one service."""

    service: ServiceKey
    cluster: str
    endpoint: EndpointId
    port: str
    """`PROTOCOL/number` of the service port, e.g. `TCP/80` (see `port_id`)."""


class CheckTarget(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the prober does for a CheckKey: an address and port of the endpoint and how to check it."""

    address: str
    port: int
    check: HealthCheck
    canary: bool = False
    """True where nobody asked for this check: one of the few that speak for their (cluster, network)."""
    network: str = ""
    own_cluster: bool = False
    name: str = ""
    """The service's name in the clusterset: what TLS (SNI) and gRPC (:authority) ask for."""
    udp: bool = False
    """A DNS check over UDP."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the checks of one target say from here. `up` None: no verdict yet (counts as up).

    An endpoint that was never Up from here cannot become Down from here: such a one stays None. `wavering`
    is True while one more result can change the verdict (a DNS answer then gets a short TTL).
    """

    up: bool | None
    canary: bool = False
    wavering: bool = False
    since: float = 0.0
    """Wall clock of the last change, seconds since the epoch."""
    reason: str = ""
    """Last failure in a few words, e.g. `refused`, `timeout`, `HTTP 503`."""
