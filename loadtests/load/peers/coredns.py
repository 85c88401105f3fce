"""CoreDNS with static records of all clusters (its hosts plugin), answers shuffled, TTL as ours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from isthmus.demo.reach import resolves
from isthmus.demo.stage import Stage
from isthmus.demo.world import Member
from loadtests.dnspeers import coredns
from loadtests.load.peers.peer import NAMESPACE, endpoints

SERVICE = "checkout"
TTL_SECONDS = 5


@dataclass(frozen=True, kw_only=True)
class StaticCoreDns:
    name: str
    about: str
    port: int

    beside_role: ClassVar[str] = "dns"

    def missing(self) -> str:
        if coredns() is None:
            return "there is no coredns: put one on PATH, or run `tools/go_tools.sh coredns`"
        return ""

    def address(self, member: Member) -> str:
        return member.agent

    async def start(self, stage: Stage) -> None:
        program = coredns()
        assert program is not None
        service = next(s for s in stage.named if (s.namespace, s.name) == (NAMESPACE, SERVICE))
        records = stage.folder / "coredns-hosts"
        lines = [f"{address} {service.authority}\n" for _, address, _ in endpoints(stage, SERVICE)]
        records.write_text("".join(lines))
        for member in stage.world.members:
            file = stage.folder / f"coredns-{member.name}"
            file.write_text(
                f"clusterset.local:{self.port} {{\n bind {member.agent}\n"
                f" hosts {records} {{\n  ttl {TTL_SECONDS}\n  reload 0\n }}\n loadbalance\n}}\n"
            )
            await stage.processes.start(f"{self.name}-{member.name}", [program, "-conf", str(file)])
        for member in stage.world.members:
            await stage.until(f"{self.name} of {member.name}", partial(resolves, member, service, self.port))


STATIC = StaticCoreDns(
    name="coredns-static",
    about="CoreDNS, the addresses of all clusters in its hosts plugin, shuffled; TTL 5 s as ours",
    port=5301,
)
