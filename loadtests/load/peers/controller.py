"""A naive controller for each cluster, and the plain Envoy that reads the files it writes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from isthmus.demo.envoy import envoy_with
from isthmus.demo.reach import serves
from isthmus.demo.stage import Stage
from isthmus.demo.world import Member
from loadtests.load.peers.peer import NAMESPACE

SERVICE = "front"


@dataclass(frozen=True, kw_only=True)
class NaiveController:
    name: str
    about: str
    port: int

    beside_role: ClassVar[str] = "envoy"

    def missing(self) -> str:
        return ""  # the Kubernetes client is a dependency of ours

    def address(self, member: Member) -> str:
        return member.envoy

    async def start(self, stage: Stage) -> None:
        clusters = [member.name for member in stage.world.members]
        service = next(s for s in stage.routed if (s.namespace, s.name) == (NAMESPACE, SERVICE))
        for member in stage.world.members:
            folder = stage.folder / f"{self.name}-{member.name}"
            folder.mkdir()
            sources = {}
            for name in ("lds", "cds"):
                file = folder / f"{name}.json"
                file.write_text('{"resources": []}')  # an Envoy does not start without
                sources[name] = {"path_config_source": {"path": str(file)}}
            bootstrap = {
                "node": {"id": self.name, "cluster": member.name},
                "dynamic_resources": {"lds_config": sources["lds"], "cds_config": sources["cds"]},
            }
            controller = [
                sys.executable,
                "-m",
                "loadtests.load.peers.naive",
                str(stage.folder / "kubeconfig"),
            ]
            controller += [str(folder), f"{member.envoy}:{self.port}", NAMESPACE, *clusters]
            await stage.processes.start(f"{self.name}-{member.name}-controller", controller)

            command = envoy_with(stage.envoy, bootstrap, folder / "bootstrap.json")
            await stage.processes.start(f"{self.name}-{member.name}", command)
        for member in stage.world.members:
            await stage.until(f"{self.name} of {member.name}", partial(serves, member, service, self.port))


NAIVE = NaiveController(
    name="envoy-naive",
    about="a naive controller for each cluster: watches EndpointSlices of all with the Kubernetes client, "
    "writes all that a plain Envoy reads anew after each change; no checks, retries as envoy-tuned",
    port=15103,
)
