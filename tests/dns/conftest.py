"""Services, plans and a responder for the tests of the DNS door."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from isthmus.dns import row, rrset
from isthmus.dns.answer import Responder
from isthmus.dns.fastpath import ASK_PYTHON, FastPath, load
from isthmus.dns.library import OVERRIDE, build
from isthmus.dns.zone import Zone
from isthmus.model.names import ClusterId, EndpointId, Locality, ServiceKey, Vantage
from isthmus.model.plan import Backend, Plan, PlanGroup, PlanKey, port_id
from isthmus.model.policy import DoorSettings
from isthmus.model.service import Port, Protocol, Service, ServiceType

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

ORIGIN = "clusterset.local"
VANTAGE = Vantage("eu", "", ClusterId("eu-1"))
HTTP = Port(name="http", protocol=Protocol.TCP, port=80)


def key_of(text: str) -> ServiceKey:
    namespace, _, name = text.partition("/")
    return ServiceKey(namespace, name)


class Make:
    """Builders with defaults; a group is (cluster, basis points, addresses or backends)."""

    http = HTTP
    vantage = VANTAGE
    origin = ORIGIN

    @staticmethod
    def port(name: str, number: int, protocol: str = "TCP") -> Port:
        return Port(name=name, protocol=Protocol(protocol), port=number)

    @staticmethod
    def service(key: str, *, headless: bool = False, ports: Sequence[Port] = (HTTP,)) -> Service:
        return Service(
            key=key_of(key),
            type=ServiceType.HEADLESS if headless else ServiceType.CLUSTER_SET_IP,
            ports=tuple(ports),
            exports=(),
            ip_families=(),
            affinity=None,
            internal_traffic_policy="Cluster",
            traffic_distribution="",
            labels=(),
            annotations=(),
            conflicts=(),
        )

    @staticmethod
    def backend(
        cluster: str, *addresses: str, hostname: str = "", port: int | None = None, name: str = ""
    ) -> Backend:
        return Backend(
            id=EndpointId(name or f"pod-{addresses[0]}"),
            cluster=ClusterId(cluster),
            addresses=addresses,
            port=port,
            hostname=hostname,
        )

    @classmethod
    def group(
        cls, cluster: str, points: int, backends: Sequence[Backend | str], port: int | None = None
    ) -> PlanGroup:
        made = [b if isinstance(b, Backend) else cls.backend(cluster, b, port=port) for b in backends]
        return PlanGroup(
            locality=Locality(ClusterId(cluster), "eu", ""), step=0, basis_points=points, backends=tuple(made)
        )

    @classmethod
    def plan(
        cls,
        key: str,
        *groups: tuple[str, int, Sequence[Backend | str]],
        port: Port | None = None,
        target: int = 8080,
        answer: Literal["ClusterSetIP", "Endpoints"] = "Endpoints",
        ttl: int = 5,
        wavering: bool = False,
        ready_anywhere: bool | None = None,
        **others: tuple[PlanGroup, ...],
    ) -> Plan:
        number = None if port is None else target
        return Plan(
            key=PlanKey(key_of(key), port_id(port), VANTAGE),
            port=port,
            shares=tuple(cls.group(*group, port=number) for group in groups),
            doors=DoorSettings(dns_answer=answer, dns_ttl=ttl),
            wavering=wavering,
            ready_anywhere=bool(groups) if ready_anywhere is None else ready_anywhere,
            **others,
        )

    @classmethod
    def plans(
        cls,
        key: str,
        *groups: tuple[str, int, Sequence[Backend | str]],
        ports: Sequence[Port] = (HTTP,),
        **more: Any,
    ) -> dict[str, Plan]:
        """One plan for the whole and an equal one for each port."""
        every: list[Port | None] = [None, *ports]
        return {port_id(port): cls.plan(key, *groups, port=port, **more) for port in every}

    @staticmethod
    def key(key: str) -> str:
        return row.row_key(VANTAGE, key_of(key))

    @staticmethod
    def render(service: Service, ips: Sequence[str] = (), plans: dict[str, Plan] | None = None) -> bytes:
        return rrset.render(service, ips, plans or {})


class Server:
    """A responder over a zone, without sockets; time stands still unless a test moves it.

    Where the fast path is, all it answers is compared with what Python answers: they are never to differ.
    """

    def __init__(self, *, fast: ctypes.CDLL | None = None, **zone: Any) -> None:
        self.now = 1_800_000_000.0
        self.fast = FastPath(fast, 1232) if fast is not None else None
        self.zone = Zone(zone.pop("origin", ORIGIN), clock=lambda: self.now, mirror=self.fast, **zone)
        self.zone.synced = True
        self.responder = Responder(self.zone)
        self.answered_fast = 0

    def put(self, service: Service, ips: Sequence[str] = (), plans: dict[str, Plan] | None = None) -> None:
        """Hands over a row as it would arrive: encoded."""
        self.zone.put(row.row_key(VANTAGE, service.key), row.decode(Make.render(service, ips, plans)))

    def drop(self, key: str) -> None:
        self.zone.drop(Make.key(key))

    def raw(self, query: bytes, client: str = "10.0.0.1", transport: Any = "udp") -> bytes | None:
        reply = self.responder.answer(query, client, self.now, transport)
        if self.fast is not None:
            fast = self.fast.answer(query, client, self.now, transport)
            if fast != ASK_PYTHON:
                assert fast == reply
                self.answered_fast += 1
        return reply

    def ask(
        self, name: str, rtype: str = "A", *, client: str = "10.0.0.1", transport: Any = "udp", **query: Any
    ) -> dns.message.Message:
        """The reply, parsed; it must be one to this very question."""
        rdclass = query.pop("rdclass", "IN")
        asked = dns.message.make_query(name, rtype, rdclass, **query)
        reply = self.raw(asked.to_wire(), client, transport)
        assert reply is not None
        parsed = dns.message.from_wire(reply)
        assert asked.is_response(parsed)
        return parsed

    def rcode(self, name: str, rtype: str = "A", **query: Any) -> str:
        """The code, where a positive answer without records is told apart as NODATA."""
        reply = self.ask(name, rtype, **query)
        code = dns.rcode.to_text(reply.rcode())
        return "NODATA" if code == "NOERROR" and not reply.answer else code

    def data(self, name: str, rtype: str = "A", **query: Any) -> list[str]:
        """The data of the answer's records of that type, in their order."""
        reply = self.ask(name, rtype, **query)
        wanted = dns.rdatatype.from_text(rtype)
        return [item.to_text() for rrset in reply.answer if rrset.rdtype == wanted for item in rrset]


@pytest.fixture(scope="session")
def make() -> type[Make]:
    return Make


@pytest.fixture(scope="session")
def library_file(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The fast path, built from its source as it is now; None without a compiler."""
    target = tmp_path_factory.mktemp("fastpath") / "fastpath.so"
    reason = build(
        target,
        "-Wall",
        "-Wextra",
        "-Wshadow",
        "-Wconversion",
        "-Werror",
        *os.environ.get("FASTPATH_CFLAGS", "").split(),
    )
    assert reason is None or "no C compiler" in reason, reason
    return target if reason is None else None


@pytest.fixture(scope="session")
def library(library_file: Path | None) -> ctypes.CDLL | None:
    return load(library_file) if library_file is not None else None


@pytest.fixture(params=["fast", "python"])
def path(
    request: pytest.FixtureRequest, library_file: Path | None, monkeypatch: pytest.MonkeyPatch
) -> Literal["fast", "python"]:
    """Which path workers of this test have: the test runs once with each."""
    if request.param == "fast" and library_file is None:
        pytest.skip("no C compiler (cc) to build the fast path with")
    monkeypatch.setenv(OVERRIDE, str(library_file) if request.param == "fast" else "off")
    wanted: Literal["fast", "python"] = request.param
    return wanted


@pytest.fixture(scope="session")
def new_server(library: ctypes.CDLL | None) -> Iterator[Callable[..., Server]]:
    with ExitStack() as stack:

        def new(**options: Any) -> Server:
            server = Server(fast=library, **options)
            if server.fast is not None:
                stack.callback(server.fast.close)
            return server

        yield new


@pytest.fixture
def server(new_server: Callable[..., Server]) -> Server:
    return new_server()
