"""What checks cost, and how soon a death is noticed while the machine is busy.

Cost: the prober itself with 1,000 targets at the default interval (100 for HTTPS and gRPC) against servers in
another process, over loopback; rounds of all protocols take turns. A figure is checks for each second of CPU
time (user and system) of the prober's process; on loopback that includes the kernel's work for the other end.
ICMP is measured where this group may (`net.ipv4.ping_group_range`).

Detection: 1,000 TCP targets with the defaults, each a listener of its own. One after another they die, at
random moments of 25 seconds: in one run of a round the listener is closed (refused), in the other a socket
filter drops every packet (silent). Time runs from just before that system call to the verdict. Meanwhile one
process for each core, in a session of its own, does nothing but burn CPU time. Where others load the machine
as well, give the bench a share: `setsid sh -c 'echo -15 >/proc/self/autogroup; exec make bench NAME=probes'`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import datetime
import gc
import json
import logging
import multiprocessing
import os
import random
import resource
import selectors
import socket
import ssl
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.table import Table as Screen

sys.path.append(str(Path(__file__).parents[2]))

from isthmus.flow import Table
from isthmus.model.health import CheckKey, CheckProtocol, CheckTarget, HealthCheck, Verdict
from isthmus.model.names import EndpointId, ServiceKey
from isthmus.probes.budget import Budget
from isthmus.probes.prober import Prober

PORT = 8080
TARGETS = {
    CheckProtocol.TCP: 1_000,
    CheckProtocol.HTTP: 1_000,
    CheckProtocol.HTTPS: 100,
    CheckProtocol.GRPC: 100,
    CheckProtocol.DNS: 1_000,
    CheckProtocol.ICMP: 1_000,
}
FLOORS = {"tcp_per_cpu_s": 5_000, "http_per_cpu_s": 3_000, "https_per_cpu_s": 500}
BOUNDS = {"refused_p99_s": 0.7, "silent_p99_s": 1.5}
PATIENT = 10.0
"""Where cost is measured the other end may be late."""
WARM_SECONDS, MEASURED_SECONDS = 1.5, 4.0
VICTIMS, DYING_SECONDS = 1_000, 25.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
REFUSED = b"\x80\x05"
NAME_SERVER = "127.78.0.1"
SO_ATTACH_FILTER = 26

spawn = multiprocessing.get_context("spawn")


def address(number: int) -> str:
    return f"127.77.{number // 250}.{1 + number % 250}"


# The other end, in a process of its own.


def serve(pipe: Connection, folder: str) -> None:
    """A server for each protocol on a port of its own; tells the ports."""

    class Web(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(ANSWER)
            self.transport.close()

    class Names(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(data[:2] + REFUSED + data[4:], addr)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(Path(folder) / "server.pem")
        plain = await loop.create_server(Web, "0.0.0.0", 0, backlog=1_024)
        secure = await loop.create_server(Web, "0.0.0.0", 0, backlog=1_024, ssl=context)
        # An answer comes from the address that was asked only where the socket is bound to it.
        names, _ = await loop.create_datagram_endpoint(Names, local_addr=(NAME_SERVER, 0))
        servicer, rpc = health.aio.HealthServicer(), grpc.aio.server()
        await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, rpc)
        rpc_port = rpc.add_insecure_port("0.0.0.0:0")
        await rpc.start()
        web, tls = (server.sockets[0].getsockname()[1] for server in (plain, secure))
        dns = names.get_extra_info("sockname")[1]
        pipe.send({"TCP": web, "HTTP": web, "HTTPS": tls, "GRPC": rpc_port, "DNS": dns, "ICMP": 0})
        await asyncio.Event().wait()

    asyncio.run(main())


def listen(pipe: Connection) -> None:
    """A listener for each target; closes or silences those that the pipe names and answers with the time."""
    raise_file_limit()
    selector = selectors.DefaultSelector()
    listeners = [socket.create_server((address(n), PORT), backlog=64) for n in range(VICTIMS + 3)]
    for listener in listeners:
        listener.setblocking(False)
        selector.register(listener, selectors.EVENT_READ)
    selector.register(pipe, selectors.EVENT_READ)
    pipe.send("ready")
    while True:
        for key, _ in selector.select():
            if isinstance(key.fileobj, socket.socket):
                with contextlib.suppress(OSError):
                    key.fileobj.accept()[0].close()
                continue
            kind, number = pipe.recv()
            selector.unregister(listeners[number])
            when = time.monotonic()
            if kind == "refused":
                listeners[number].close()
            else:
                _drop_all(listeners[number])
            pipe.send(when)


def _drop_all(listener: socket.socket) -> None:
    """Attaches a filter of one instruction: keep no byte (BPF_RET | BPF_K, 0)."""
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    program = struct.pack("HxxxxxxP", 1, ctypes.addressof(instruction))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def raise_file_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def burn(_pipe: Connection) -> None:
    os.setsid()  # the scheduler gives shares to sessions
    while True:
        pass


@contextlib.contextmanager
def process(main: Any, *arguments: Any) -> Iterator[Connection]:
    ours, theirs = spawn.Pipe()
    child = spawn.Process(target=main, args=(theirs, *arguments), daemon=True)
    child.start()
    try:
        yield ours
    finally:
        child.kill()
        child.join()


# The prober.


class Bench:
    """A prober with its tables."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.rows: Table[CheckKey, CheckTarget] = Table("checks")
        self.targets = self.rows.partition("bench")
        self.health: Table[CheckKey, Verdict] = Table("health")
        budget = Budget(rate=1e9, host_rate=1e9)
        self.prober = Prober(
            self.rows, self.health.partition("prober"), registry=self.registry, budget=budget
        )

    def aim(
        self, count: int, protocol: CheckProtocol, port: int, *, own: int = 0, timeout: float = 0.4
    ) -> None:
        check = HealthCheck(protocol=protocol, timeout=timeout)
        rows = {}
        for n in range(count):
            key = CheckKey(ServiceKey("bench", "web"), "own" if n >= count - own else "far", _id(n), "TCP/80")
            rows[key] = CheckTarget(
                address=NAME_SERVER if protocol is CheckProtocol.DNS else address(n),
                port=port,
                check=check,
                own_cluster=n >= count - own,
                name="web.bench",
                udp=protocol is CheckProtocol.DNS,
            )
        self.targets.replace(rows)

    def checks(self, result: str) -> float:
        return self.registry.get_sample_value("isthmus_probes_checks_total", {"result": result}) or 0.0

    async def all_up(self) -> None:
        while not len(self.health) or any(row.up is not True for _, row in self.health.items()):
            await asyncio.sleep(0.1)


def _id(number: int) -> EndpointId:
    return EndpointId(f"e{number}")


async def cost(protocol: CheckProtocol, port: int) -> float:
    """Checks for each second of this process' CPU time."""
    bench = Bench()
    bench.aim(TARGETS[protocol], protocol, port, timeout=PATIENT)
    task = asyncio.create_task(bench.prober.run())
    await bench.all_up()
    await asyncio.sleep(WARM_SECONDS)
    before, began = bench.checks("passed"), time.process_time()
    await asyncio.sleep(MEASURED_SECONDS)
    spent, done = time.process_time() - began, bench.checks("passed") - before
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return done / spent


async def detection(kind: str, pipe: Connection) -> tuple[list[float], int]:
    """Seconds from each death to its verdict, and how many that live were called Down."""
    bench = Bench()
    bench.aim(VICTIMS + 3, CheckProtocol.TCP, PORT, own=3)
    died: dict[str, float] = {}
    found: dict[str, float] = {}
    wrong = 0

    def observe(key: CheckKey, _old: Verdict | None, new: Verdict | None) -> None:
        nonlocal wrong
        if new is not None and new.up is False and key.endpoint not in found:
            if key.endpoint not in died and key.endpoint not in dying:
                wrong += 1
            found[key.endpoint] = time.monotonic()

    dying: set[str] = set()
    bench.health.observe(observe)
    task = asyncio.create_task(bench.prober.run())
    await bench.all_up()
    loop = asyncio.get_running_loop()
    moments = sorted((random.random() * DYING_SECONDS, n) for n in random.sample(range(VICTIMS), VICTIMS))
    start = loop.time() + 1.0
    replies: asyncio.Queue[float] = asyncio.Queue()
    loop.add_reader(pipe.fileno(), lambda: replies.put_nowait(pipe.recv()))
    for moment, n in moments:
        await asyncio.sleep(max(0.0, start + moment - loop.time()))
        dying.add(_id(n))
        pipe.send((kind, n))
        died[_id(n)] = await replies.get()
    loop.remove_reader(pipe.fileno())
    async with asyncio.timeout(60):
        while not died.keys() <= found.keys():
            await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return [found[name] - died[name] for name in died], wrong


def certificate(folder: str) -> None:
    """A self-signed P-256 certificate with its key, as most servers have one of that kind."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    (Path(folder) / "server.pem").write_bytes(private + made.sign(key, hashes.SHA256()).public_bytes(pem))


def may_ping() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close()
    except PermissionError:
        return False
    return True


def costs(rounds: int) -> dict[str, list[float]]:
    """Checks for each CPU second, by figure, in rounds of all protocols."""
    protocols = [p for p in TARGETS if p is not CheckProtocol.ICMP or may_ping()]
    rates: dict[str, list[float]] = {f"{name.value.lower()}_per_cpu_s": [] for name in protocols}
    with tempfile.TemporaryDirectory() as folder:
        certificate(folder)
        with process(serve, folder) as pipe:
            ports = pipe.recv()
            for _ in range(rounds):
                for protocol in protocols:
                    rate = asyncio.run(cost(protocol, ports[protocol.value]))
                    rates[f"{protocol.value.lower()}_per_cpu_s"].append(rate)
    return rates


def deaths(kind: str) -> tuple[list[float], int]:
    """One run of `detection` beside one process for each core that burns CPU time."""
    with contextlib.ExitStack() as stack:
        pipe = stack.enter_context(process(listen))
        if pipe.recv() != "ready":
            raise RuntimeError("the listeners did not start")
        for _ in range(os.cpu_count() or 1):
            stack.enter_context(process(burn))
        return asyncio.run(detection(kind, pipe))


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["cost", "detection"])
    options = parser.parse_args()
    raise_file_limit()
    figures: dict[str, float] = {}
    screen = Screen("figure", "median", "min", "max", "target", title="Probes")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    gc.freeze()
    if options.only != "detection":
        for name, values in costs(options.rounds).items():
            figures[name] = round(statistics.median(values))
            target = f">= {FLOORS[name]:,}" if name in FLOORS else ""
            screen.add_row(name, *(f"{f(values):,.0f}" for f in (statistics.median, min, max)), target)
    if options.only != "cost":
        runs = [(kind, *deaths(kind)) for _ in range(options.rounds) for kind in ("refused", "silent")]
        for kind in ("refused", "silent"):
            for part, name in ((0.5, "p50"), (0.99, "p99"), (1.0, "max")):
                values = [percentile(times, part) for of, times, _ in runs if of == kind]
                figures[f"{kind}_{name}_s"] = round(statistics.median(values), 3)
                target = f"<= {BOUNDS[f'{kind}_{name}_s']}" if f"{kind}_{name}_s" in BOUNDS else ""
                row = (f"{f(values):.3f}" for f in (statistics.median, min, max))
                screen.add_row(f"{kind}_{name}_s", *row, target)
            figures[f"{kind}_wrongly_down"] = sum(wrong for of, _, wrong in runs if of == kind)
            screen.add_row(f"{kind}_wrongly_down", str(figures[f"{kind}_wrongly_down"]), "", "", "0")
    Console().print(screen)
    passed = all(figures[name] >= floor for name, floor in FLOORS.items() if name in figures) and all(
        figures[name] <= bound for name, bound in BOUNDS.items() if name in figures
    )
    report = {
        "bench": "probes",
        "figures": figures,
        "rounds": options.rounds,
        "load_average": round(os.getloadavg()[0], 1),
        "targets": FLOORS | BOUNDS,
        "passed": passed,
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
