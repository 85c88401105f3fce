"""Our answers beside those of CoreDNS' `kubernetes` plugin with `multicluster`, from the same objects.

Agents of two clusters write ServiceImports and slices; CoreDNS reads them from the API server, our worker has
its rows from control. Whatever differs is in the list below and in docs/dns.md, with its reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from corednslive import ask, coredns
from corednsworld import HEADLESS, HERE, SERVICES, THERE, TYPES, names, populate
from spine import Spine
from spineservers import Embedded, settles

from loadtests.ports import free_port

pytestmark = pytest.mark.realapi("coredns")

ZONE = "clusterset.local"
AT_ONCE = 32
DOCUMENT = Path(__file__).parents[2] / "docs" / "dns.md"


class Question(NamedTuple):
    name: str
    """Without the zone; "" is the zone itself."""
    rtype: str

    @property
    def service(self) -> str:
        """`namespace/name` of the service that it is about, "" where it is about none."""
        labels = self.name.split(".")
        return f"{labels[-2]}/{labels[-3]}" if len(labels) > 2 and labels[-1] == "svc" else ""

    @property
    def head(self) -> list[str]:
        """The labels before the service's name."""
        return self.name.split(".")[:-3]


class Reply(NamedTuple):
    """What is compared of a reply; TTLs are not."""

    rcode: str
    answers: frozenset[str]
    authority: frozenset[str]
    additional: frozenset[str]
    flags: int

    @classmethod
    def of(cls, message: dns.message.Message) -> Reply:
        answers, additional = (
            frozenset(
                f"{rrset.name.to_text().lower()} {dns.rdatatype.to_text(rrset.rdtype)} {_data(rdata)}"
                for rrset in section
                for rdata in rrset
            )
            for section in (message.answer, message.additional)
        )
        authority = frozenset(
            f"{rrset.name.to_text().lower()} {dns.rdatatype.to_text(rrset.rdtype)}"
            for rrset in message.authority
        )
        return cls(dns.rcode.to_text(message.rcode()), answers, authority, additional, int(message.flags))

    @property
    def outcome(self) -> str:
        return "NODATA" if self.rcode == "NOERROR" and not self.answers else self.rcode

    def unweighted(self) -> Reply:
        """Without the weights of SRV records."""
        return self._replace(answers=frozenset(map(_unweighted, self.answers)))


def _data(rdata: Any) -> str:
    if rdata.rdtype == dns.rdatatype.SOA:
        rdata = rdata.replace(serial=0)
    text: str = rdata.to_text()
    return text


def _unweighted(record: str) -> str:
    owner, rtype, *data = record.split(" ")
    return " ".join((owner, rtype, *([data[0], *data[2:]] if rtype == "SRV" else data)))


Excuse = Callable[[Question, Reply, Reply, frozenset[str]], bool]
"""Whether a difference is this one; the last argument has all names at which we have records."""


def outcomes(ours: str, theirs: str, about: Callable[[Question], bool]) -> Excuse:
    return lambda asked, mine, other, _names: (mine.outcome, other.outcome) == (ours, theirs) and about(asked)


def _version(asked: Question, mine: Reply, other: Reply, _names: frozenset[str]) -> bool:
    if asked.name != "dns-version":
        return False
    if asked.rtype == "TXT":
        return '"1.0.0"' in str(mine.answers) and '"1.1.0"' in str(other.answers)
    return (mine.outcome, other.outcome) == ("NODATA", "NXDOMAIN")


def _has_names_below(asked: Question, mine: Reply, other: Reply, held: frozenset[str]) -> bool:
    below = any(name.endswith(f".{asked.name}") for name in held)
    return (mine.outcome, other.outcome) == ("NODATA", "NXDOMAIN") and below


def _drawn(asked: Question, mine: Reply, other: Reply, _names: frozenset[str]) -> bool:
    less = mine.unweighted().answers < other.unweighted().answers and mine.additional <= other.additional
    return asked.service in HEADLESS and not _of_pod(asked) and bool(mine.answers) and less


def _two_families(asked: Question, mine: Reply, other: Reply, _names: frozenset[str]) -> bool:
    """The pod with 10.64.1.2 and fd00:64::2."""
    if ".".join(asked.head) == f"fd00-64--2.{HERE}":
        return (mine.rcode, other.rcode) == ("NXDOMAIN", "NOERROR")
    if ".".join(asked.head) == f"10-64-1-2.{HERE}":
        return (mine.outcome, other.outcome) == ("NOERROR", "NODATA")
    more = {record for record in other.unweighted().answers if "fd00-64--2" in record}
    return bool(more) and mine.unweighted().answers == other.unweighted().answers - more


def _endpoints(asked: Question, mine: Reply, other: Reply, _names: frozenset[str]) -> bool:
    return asked.service == "bank/ledger" and mine.outcome == other.outcome == "NOERROR"


def _at_port(asked: Question) -> bool:
    return asked.head[:1] != [] and asked.head[0].startswith("_") and asked.rtype in ("A", "AAAA")


def _of_pod(asked: Question) -> bool:
    return len(asked.head) >= 2 and not asked.head[0].startswith("_")


DIFFERENCES: Final[dict[str, Excuse]] = {
    "`dns-version`": _version,
    "ANY": lambda asked, mine, other, _names: (
        asked.rtype == "ANY" and mine.rcode in ("NOERROR", other.rcode) and "RFC8482" in str(mine.answers)
    ),
    "NS of the zone": outcomes("NOERROR", "NODATA", lambda asked: asked == ("", "NS")),
    "TXT and PTR where there are none": outcomes(
        "NODATA", "NXDOMAIN", lambda asked: asked.rtype == "TXT" or asked == ("ns.dns", "PTR")
    ),
    "SOA of a name that does not exist": outcomes(
        "NXDOMAIN", "NODATA", lambda asked: asked.rtype == "SOA" and asked.name != ""
    ),
    "`pod`": outcomes("NXDOMAIN", "NODATA", lambda asked: asked.name == "pod"),
    "`NAMESPACE.svc` without a service": outcomes(
        "NXDOMAIN", "NODATA", lambda asked: asked.name == "kube-system.svc"
    ),
    "a name that only has names below it": _has_names_below,
    "cluster ids of two labels": lambda asked, mine, other, _names: (
        mine.rcode == "NOERROR" and other.rcode == "NXDOMAIN" and ".".join(asked.head[1:]) == THERE
    ),
    "per-pod names of a ClusterSetIP service": lambda asked, mine, other, _names: (
        (mine.rcode, other.rcode) == ("NXDOMAIN", "NOERROR")
        and _of_pod(asked)
        and asked.service in SERVICES.keys() - HEADLESS
    ),
    "SRV of per-pod names": outcomes(
        "NODATA", "NOERROR", lambda asked: asked.rtype == "SRV" and _of_pod(asked)
    ),
    "a pod of both families without a hostname": _two_families,
    "A and AAAA of `_PORT._PROTOCOL…`": outcomes("NODATA", "NOERROR", _at_port),
    "`_PORT.PROTOCOL…`": lambda asked, mine, other, _names: (
        mine.rcode == "NXDOMAIN" and other.rcode == "NOERROR" and asked.head == ["_http", "tcp"]
    ),
    "`dns: {answer: Endpoints}`": _endpoints,
    "headless answers": _drawn,
    "SRV weight": lambda asked, mine, other, _names: mine.unweighted() == other.unweighted(),
}
"""By the first column of the table in docs/dns.md."""


@asynccontextmanager
async def side_by_side(root: Path) -> AsyncIterator[tuple[int, int]]:
    """The ports of our DNS and of CoreDNS, both of which have seen everything."""
    port = free_port()
    plugin = f"kubernetes {ZONE} {{\n kubeconfig {root}/kubeconfig {HERE}\n multicluster {ZONE}\n }}"
    corefile = f"{ZONE}:{port} {{\n bind 127.0.0.1\n errors\n {plugin}\n}}\n"
    ranges = dict.fromkeys((HERE, THERE), "10.96.0.0/16,fd00:96::/112")
    async with Spine(root, Embedded((HERE, THERE), cidrs=ranges)) as spine:
        await populate(spine)
        await spine.start("hub", HERE, THERE)
        agent = spine.agents[HERE]
        async with coredns(corefile, root):
            for place, log in ((agent.dns_port, agent.log), (port, root / "coredns.log")):
                await settles(lambda place=place: _knows_all(place), "all is known", log)
            yield agent.dns_port, port


async def _knows_all(port: int) -> bool:
    """Whether whoever answers there has the service of each kind that becomes known last."""
    wanted = {("db", "AAAA"): 3, ("web", "A"): 1, ("idle", "A"): 1, ("many", "A"): 8, ("plain", "SRV"): 1}
    for (service, rtype), count in wanted.items():
        reply = await ask(port, f"{service}.shop.svc.{ZONE}", rtype)
        if sum(map(len, reply.answer)) < count:
            return False
    known = await ask(port, f"ledger.bank.svc.{ZONE}")
    near = await ask(port, f"near-0.{HERE}.near.shop.svc.{ZONE}")
    return bool(known.answer and near.answer)


async def compared(ours: int, theirs: int) -> dict[Question, tuple[Reply, Reply]]:
    gate = asyncio.Semaphore(AT_ONCE)
    found: dict[Question, tuple[Reply, Reply]] = {}

    async def one(asked: Question) -> None:
        full = f"{asked.name}.{ZONE}" if asked.name else ZONE
        tcp = asked.rtype == "SRV"  # over UDP each leaves out what it likes
        async with gate:
            found[asked] = (
                Reply.of(await ask(ours, full, asked.rtype, tcp=tcp)),
                Reply.of(await ask(theirs, full, asked.rtype, tcp=tcp)),
            )

    async with asyncio.TaskGroup() as group:
        for asked in questions():
            group.create_task(one(asked))
    return found


def questions() -> Iterator[Question]:
    for name in dict.fromkeys(names()):
        for rtype in TYPES:
            yield Question(name, rtype)


async def test_every_difference_from_coredns_is_listed_and_each_listed_one_is_there(tmp_path: Path) -> None:
    async with side_by_side(tmp_path) as (ours, theirs):
        found = await compared(ours, theirs)
    held = frozenset(asked.name for asked, (mine, _) in found.items() if mine.answers)
    seen: set[str] = set()
    unlisted = []
    for asked, (mine, other) in sorted(found.items()):
        if mine == other:
            continue
        excuse = next(
            (title for title, is_it in DIFFERENCES.items() if is_it(asked, mine, other, held)), None
        )
        if excuse is None:
            unlisted.append(f"{asked}\n  ours   {mine}\n  theirs {other}")
        else:
            seen.add(excuse)
    assert not unlisted, f"{len(unlisted)} differ:\n" + "\n".join(unlisted[:20])
    assert seen == DIFFERENCES.keys(), "a difference that is no longer there"
    same = [asked for asked, (mine, other) in found.items() if mine == other and mine.answers]
    assert {asked.service for asked in same} >= SERVICES.keys() - {"shop/empty", "bank/ledger", "shop/many"}


def test_the_differences_are_those_that_users_read_about() -> None:
    section = DOCUMENT.read_text().partition("## Differences from CoreDNS")[2].partition("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")]
    assert set(rows[1:]) == DIFFERENCES.keys()
