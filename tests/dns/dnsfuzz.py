"""What a fuzzer feeds, and what must hold then. As a program it runs atheris over it (`make fuzz`).

The first byte of an input says what the rest is: a query over UDP or TCP (both paths answer it, with the same
bytes), a reply of a server that was asked about another zone, or a row from control. `corpus.txt` has inputs
that each reach something of their own, one a line in hex; the tests replay them, under sanitisers too.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

CORPUS: Final = Path(__file__).with_name("corpus.txt")
LONGEST: Final = 400
KINDS: Final = 4


def corpus() -> list[bytes]:
    return [bytes.fromhex(line) for line in CORPUS.read_text().splitlines()]


class Target:
    """A world of some services, and `feed` for one input; what is wrong raises."""

    def __init__(self, library: ctypes.CDLL | None) -> None:
        from conftest import Make, Server

        from isthmus.dns.places import Prefix, Zones
        from isthmus.dns.row import decode

        self.server: Any = Server(fast=library)
        pods = [Make.backend("eu-1", f"10.64.0.{n}", hostname=f"db-{n}", port=8080) for n in range(3)]
        many = [Make.backend("eu-1", f"10.64.1.{n}", f"fd00::{n}", port=80) for n in range(40)]
        self.server.put(Make.service("a/c"), ["10.96.0.10", "fd96::10"])
        for name, backends, headless in (("h", pods, True), ("d", many, False), ("m", many, True)):
            plans = Make.plans(f"a/{name}", ("eu-1", 10_000, backends))
            self.server.put(Make.service(f"a/{name}", headless=headless), [], plans)
        # Who asks here stands in a zone, where one service is another one.
        zones = Zones(("eu-1/eu/a",), (Prefix(bytes((10, 0, 0, 1)), 32, 0),))
        self.server.zone.stand(zones)
        near = Make.render(
            Make.service("a/z", headless=True), [], Make.plans("a/z", ("eu-1", 10_000, pods[:1]))
        )
        self.server.put(Make.service("a/z", headless=True), [], Make.plans("a/z", ("eu-1", 10_000, many)))
        key, place = Make.key("a/z"), self.server.zone.places.number("eu-1/eu/a")
        self.server.zone.put(key, decode(near), place)

    def feed(self, data: bytes) -> None:
        if not data:
            return
        rest = data[1:]
        match data[0] % KINDS:
            case 0:
                self._query(rest, "udp")
            case 1:
                self._query(rest, "tcp")
            case 2:
                self._reply(rest)
            case _:
                self.row(rest)

    def _query(self, query: bytes, transport: str) -> None:
        reply = self.server.raw(query, transport=transport)
        if reply is None:
            assert len(query) < 12 or query[2] & 0x80
            return
        assert reply[:2] == query[:2]
        assert reply[2] & 0x80
        assert len(reply) <= (1232 if transport == "udp" else 65_535)

    def _reply(self, data: bytes) -> None:
        from isthmus.dns.question import name_end
        from isthmus.dns.upstream import answered, asked_anew, is_reply

        query, reply = data[: len(data) // 2], data[len(data) // 2 :]
        end = name_end(query, 12) if len(query) > 12 else None
        if end is None or len(query) < end + 4:
            return
        made = asked_anew(query, end)
        assert made.lower()[2:] == query.lower()[2:]
        whole = made[:2] + bytes((made[2] | 0x80,)) + made[3:] + reply
        if is_reply(whole, made, end):
            told = answered(whole, query, end)
            assert (told[:2], told[12:end]) == (query[:2], query[12:end])
        is_reply(reply, made, end, fold=True)

    def row(self, raw: bytes) -> None:
        """A row from control: refused, or all its names are answered."""
        from isthmus.dns import row
        from isthmus.errors import WireError

        try:
            found = row.decode(raw)
        except WireError:
            return
        self.server.zone.put("fuzz", found)
        self.server.zone.put("fuzz", found, self.server.zone.places.number("eu-1/eu/a"))
        for name in list(self.server.zone._names)[-4:]:
            for rtype in (1, 28, 33, 255):
                self._query(bytes(5) + b"\x01" + bytes(6) + name + bytes((0, rtype, 0, 1)), "udp")
        self.server.zone.drop("fuzz")
        self.server.zone.drop("fuzz", self.server.zone.places.number("eu-1/eu/a"))


def seeds() -> Iterator[bytes]:
    """Inputs to begin with: real queries of all sorts, whole and spoilt, and rows."""
    import dns.edns
    import dns.message
    from conftest import Make

    chance = random.Random(6)
    names = [
        "c.a",
        "h.a",
        "d.a",
        "m.a",
        "z.a",
        "db-0.eu-1.z.a",
        "db-1.eu-1.h.a",
        "_http._tcp.h.a",
        "_http._tcp.c.a",
        "no.a",
        "a",
    ]
    wholes = [f"{name}.svc.clusterset.local" for name in names]
    options = [[], [dns.edns.ECSOption("192.0.2.0", 24)], [dns.edns.CookieOption(b"12345678", b"")]]
    for name in [
        *wholes,
        "clusterset.local",
        "dns-version.clusterset.local",
        "ns.dns.clusterset.local",
        "x.y",
        ".",
    ]:
        for rtype in ("A", "AAAA", "SRV", "ANY", "SOA", "TYPE65"):
            more: dict[str, Any] = chance.choice([{}, {"use_edns": 0, "options": chance.choice(options)}])
            query = dns.message.make_query(name, rtype, **more).to_wire()
            yield bytes((chance.randrange(2),)) + query
            spoilt = bytearray(query)
            spoilt[chance.randrange(len(query))] = chance.randrange(256)
            yield bytes((chance.randrange(2),)) + spoilt[: chance.randrange(len(query) + 1)]
    yield b"\x02" + dns.message.make_query(wholes[0], "A").to_wire() * 2
    for headless in (False, True):
        plans = Make.plans("b/x", ("eu-1", 10_000, ["10.0.0.1", "fd00::1"]))
        yield b"\x03" + Make.render(Make.service("b/x", headless=headless), ["10.0.0.9"], plans)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--keep", action="store_true", help="write what was found to corpus.txt")
    parser.add_argument("--artifacts", default="/tmp", help="folder for an input that fails")
    given = parser.parse_args()
    import atheris

    from isthmus.dns.fastpath import load
    from isthmus.dns.library import library

    with atheris.instrument_imports(include=["isthmus.dns"]):
        from isthmus.dns import answer, forward, question, row, subnet, upstream, wire, zone  # noqa: F401
    path = library()
    target = Target(load(path) if path is not None else None)
    with tempfile.TemporaryDirectory(prefix="isthmus-dnsfuzz-") as temporary:
        folder = Path(temporary)
        for number, data in enumerate(corpus() if CORPUS.exists() else seeds()):
            (folder / f"seed-{number:04}").write_bytes(data)
        child = os.fork()  # it ends where it stands when the time is over
        if not child:
            limits = [f"-max_total_time={given.seconds}", f"-max_len={LONGEST}", "-timeout=10"]
            found = f"-artifact_prefix={given.artifacts}/"
            atheris.Setup([sys.argv[0], *limits, found, str(folder)], target.feed)
            atheris.Fuzz()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if given.keep:
            kept = {file.read_bytes() for file in folder.iterdir()}
            lines = (f"{data.hex()}\n" for data in sorted(kept, key=lambda one: (len(one), one)))
            CORPUS.write_text("".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
