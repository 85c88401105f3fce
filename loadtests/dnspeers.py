"""DNS servers over one zone, to be measured side by side: ours as its users run it, and others.

The zone: `svc<i>.ns<i mod 10>.svc.clusterset.local`, each with one address; `drawn<i>…` (ours alone) with 20
endpoints of which each answer draws eight.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from isthmus.dns.library import library
from isthmus.dns.row import DrawRow, Member, Row, encode, row_key
from isthmus.dns.worker import TABLE
from isthmus.flow import Table
from isthmus.flow.replica import Publisher
from isthmus.flow.stats import STATS
from isthmus.flow.table import Writer
from isthmus.model.names import ClusterId, ServiceKey, Vantage
from loadtests.ports import free_port

VANTAGE = Vantage("eu", "", ClusterId("eu-1"))
ENDPOINTS = 20
CONTROL = "link.sock"
ROOT = Path(__file__).parents[1]


@dataclass(kw_only=True)
class Server:
    """One that answers on a loopback port; `process` is the one that answers."""

    name: str
    port: int
    process: asyncio.subprocess.Process
    log: Path
    rows: Writer[str, bytes] | None = None

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far, to the nanosecond."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    @property
    def memory(self) -> float:
        """Proportional share of memory, in megabytes."""
        rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024


def missing() -> list[str]:
    """What has to be installed first."""
    wanted = {
        "dnsperf": "dnsperf: apt install dnsperf",
        "gdnsd": "gdnsd: apt install gdnsd",
    }
    found = [text for program, text in wanted.items() if shutil.which(program) is None]
    if library() is None:
        found.append("the fast path of DNS: run `make fastpath`, which needs a C compiler")
    if coredns() is None:
        found.append("coredns: put it on PATH, or run `make tools`")
    return found


def coredns() -> str | None:
    """CoreDNS from PATH, or one that the tests' tools have built."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "isthmus"
    built = sorted(cache.glob("coredns-*/coredns"))
    return shutil.which("coredns") or (str(built[-1]) if built else None)


def name(number: int, kind: str = "svc") -> str:
    return f"{kind}{number}.ns{number % 10}.svc.clusterset.local"


def address(number: int) -> str:
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def key(number: int, kind: str = "svc") -> str:
    return row_key(VANTAGE, ServiceKey(f"ns{number % 10}", f"{kind}{number}"))


def fixed_row(number: int) -> bytes:
    """A service with one clusterset IP."""
    ips = (socket.inet_aton(address(number)),)
    return encode(Row(f"ns{number % 10}", f"svc{number}", 5, v4=ips))


def drawn_row(number: int, *, version: int = 0, headless: bool = False, kind: str = "drawn") -> bytes:
    """A service of 20 endpoints with equal shares; the version is in the address of the first."""
    hosts = [f"{number >> 8 & 255}.{number & 255}.{at + 1}" for at in range(ENDPOINTS)]
    addresses = [socket.inet_aton(f"10.{host}") for host in hosts]
    addresses[0] = socket.inet_aton(f"11.{version >> 8 & 255}.{version & 255}.1")
    members = tuple(Member(f"pod-{at}", "eu-1", (packed,), ()) for at, packed in enumerate(addresses))
    digest = (number << 32 | version).to_bytes(8, "big")
    draw = DrawRow(((10_000, ENDPOINTS),), tuple(range(ENDPOINTS)), (8080,) * ENDPOINTS, digest, False)
    return encode(
        Row(f"ns{number % 10}", f"{kind}{number}", 5, headless=headless, members=members, draw=draw)
    )


def moved_row(number: int, version: int) -> tuple[bytes, bytes]:
    """A service of 20 endpoints one of which takes all, and the address of that one."""
    taker = socket.inet_aton(f"12.0.{version >> 8}.{version & 255}")
    others = [socket.inet_aton(f"10.{number}.0.{at}") for at in range(1, ENDPOINTS)]
    members = tuple(Member(f"pod-{at}", "eu-1", (packed,), ()) for at, packed in enumerate([taker, *others]))
    draw = DrawRow(((10_000, 1),), (0,), (8080,), version.to_bytes(8, "big"), False)
    return encode(Row(f"ns{number % 10}", f"many{number}", 5, members=members, draw=draw)), taker


def query(asked: str) -> bytes:
    """A plain query for A."""
    labels = b"".join(bytes((len(part),)) + part.encode() for part in asked.split("."))
    return b"\x00\x01\x00\x00\x00\x01" + bytes(6) + labels + b"\x00\x00\x01\x00\x01"


@contextlib.asynccontextmanager
async def _running(title: str, port: int, folder: Path, *command: str, **env: str) -> AsyncIterator[Server]:
    log = folder / "log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=out, stderr=out, env={**os.environ, **env}, cwd=ROOT
        )
        try:
            yield Server(name=title, port=port, process=process, log=log)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


@contextlib.asynccontextmanager
async def isthmus(
    folder: Path, rows: dict[str, bytes], title: str = "isthmus", *, fast: bool = True, forward: str = ""
) -> AsyncIterator[Server]:
    """A DNS worker of the agent, and beside it, in this process, the control that it follows.

    `forward`: HOST:PORT of the server that is asked about all other zones, none if it is "".
    """
    state = folder / title.replace(" ", "-")
    state.mkdir()
    table: Table[str, bytes] = Table(TABLE)
    stats: Table[str, bytes] = Table(STATS)
    writer = table.partition("bench")
    writer.replace(rows)
    port = free_port()
    settings = {
        "cluster": VANTAGE.cluster,
        "region": VANTAGE.region,
        "zone": "clusterset.local",
        "dns_listen": f"127.0.0.1:{port}",
        "dns_query_log": 10,
        "dns_forward": forward,
        "log_level": "info",
        "log_format": "json",
    }
    (state / "settings.json").write_text(json.dumps(settings))
    control = asyncio.create_task(Publisher(state / CONTROL, {TABLE: table}, {STATS: stats}).run())
    command = (sys.executable, "-m", "isthmus.agent.worker", str(state / "settings.json"), "dns", "0")
    try:
        async with _running(title, port, state, *command, **({} if fast else OFF)) as server:
            server.rows = writer
            yield server
    finally:
        control.cancel()
        await asyncio.gather(control, return_exceptions=True)


OFF = {"ISTHMUS_DNS_FASTPATH": "off"}


@contextlib.asynccontextmanager
async def gdnsd(folder: Path, services: int) -> AsyncIterator[Server]:
    """gdnsd with one UDP thread; the zone `cluster.local` has the same names."""
    port = free_port()
    base = folder / "gdnsd"
    for part in ("zones", "run", "state"):
        (base / part).mkdir(parents=True)
    options = f"udp_threads => 1, tcp_threads => 1, run_dir => {base}/run, state_dir => {base}/state"
    (base / "config").write_text(f"options => {{ listen => 127.0.0.1:{port}, {options} }}\n")
    head = "@ 5 SOA ns.dns hostmaster 1 7200 1800 86400 5\n@ 5 NS ns.dns\nns.dns 5 A 127.0.0.1\n"
    lines = [f"svc{i}.ns{i % 10}.svc 5 A {address(i)}\n" for i in range(services)]
    for zone in ("clusterset.local", "cluster.local"):
        (base / "zones" / zone).write_text(head + "".join(lines))
    async with _running("gdnsd", port, base, "gdnsd", "-c", str(base), "start") as server:
        yield server


@contextlib.asynccontextmanager
async def coredns_hosts(folder: Path, services: int) -> AsyncIterator[Server]:
    """CoreDNS with its hosts plugin."""
    binary = coredns()
    assert binary is not None
    port = free_port()
    base = folder / "coredns"
    base.mkdir()
    (base / "hosts").write_text("".join(f"{address(i)} {name(i)}\n" for i in range(services)))
    corefile = f".:{port} {{\n bind 127.0.0.1\n hosts {base}/hosts clusterset.local {{\n ttl 5\n }}\n}}\n"
    (base / "Corefile").write_text(corefile)
    async with _running("coredns hosts", port, base, binary, "-conf", str(base / "Corefile")) as server:
        yield server


@contextlib.asynccontextmanager
async def asyncio_dnslib(folder: Path, services: int) -> AsyncIterator[Server]:
    """What a Python program would be that uses a DNS library: this file, run as a program."""
    port = free_port()
    base = folder / "dnslib"
    base.mkdir()
    command = (sys.executable, __file__, str(port), str(services))
    async with _running("asyncio + dnslib", port, base, *command, PYTHONPATH=str(ROOT)) as server:
        yield server


def _serve_with_dnslib(port: int, services: int) -> None:
    import dnslib

    addresses = {name(i): dnslib.A(address(i)) for i in range(services)}
    soa = dnslib.SOA("ns.dns.clusterset.local", "hostmaster.clusterset.local", (1, 7200, 1800, 86_400, 5))

    class Protocol(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.DatagramTransport", transport)

        def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
            query = dnslib.DNSRecord.parse(data)
            reply = query.reply(ra=0)
            asked = str(query.q.qname).rstrip(".").lower()
            found = addresses.get(asked)
            if found is not None and query.q.qtype == dnslib.QTYPE.A:
                reply.add_answer(dnslib.RR(query.q.qname, dnslib.QTYPE.A, ttl=5, rdata=found))
            else:
                reply.header.rcode = dnslib.RCODE.NOERROR if found else dnslib.RCODE.NXDOMAIN
                reply.add_auth(dnslib.RR("clusterset.local", dnslib.QTYPE.SOA, ttl=5, rdata=soa))
            if query.ar:
                reply.add_ar(dnslib.EDNS0(udp_len=1232))
            self.transport.sendto(reply.pack(), sender)

    async def serve() -> None:
        await asyncio.get_running_loop().create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", port))
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    _serve_with_dnslib(int(sys.argv[1]), int(sys.argv[2]))
