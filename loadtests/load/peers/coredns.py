"""CoreDNS with static records of all clusters (its hosts plugin), answers shuffled, TTL as ours."""

from __future__ import annotations

from typing import ClassVar

from isthmus.demo.population import DemoService
from isthmus.demo.reach import resolves
from isthmus.demo.stage import Stage
from isthmus.demo.world import Member
from loadtests.dnspeers import coredns
from loadtests.load.doors import DOORS
from loadtests.load.peers.peer import Peer

TTL_SECONDS = 5


class StaticCoreDns(Peer):
    """It listens beside an agent's DNS, at the same address."""

    beside_role: ClassVar[str] = "dns"

    def missing(self) -> str:
        if coredns() is None:
            return "there is no coredns: put one on PATH, or run `tools/go_tools.sh coredns`"
        return ""

    def address(self, member: Member) -> str:
        return member.agent

    async def start_in(self, stage: Stage, member: Member) -> None:
        program = coredns()
        assert program is not None
        file, records = stage.folder / f"coredns-{member.name}", stage.folder / f"coredns-hosts-{member.name}"
        name = DOORS[self.name].service
        records.write_text("".join(f"{address} {name}\n" for _, address, _ in self.endpoints(stage)))
        file.write_text(
            f"clusterset.local:{self.port} {{\n bind {member.agent}\n"
            f" hosts {records} {{\n  ttl {TTL_SECONDS}\n  reload 0\n }}\n loadbalance\n}}\n"
        )
        await stage.processes.start(f"{self.name}-{member.name}", [program, "-conf", str(file)])

    async def serves(self, member: Member, service: DemoService) -> str:
        return await resolves(member, service, self.port)


STATIC = StaticCoreDns(
    name="coredns-static",
    about="CoreDNS, the addresses of all clusters in its hosts plugin, shuffled; TTL 5 s as ours",
    port=5301,
)
