"""A naive controller for each cluster, and the plain Envoy that reads the files it writes."""

from __future__ import annotations

import sys

from isthmus.demo.envoy import envoy_with
from isthmus.demo.stage import Stage
from isthmus.demo.world import Member
from loadtests.load.peers.peer import Peer


class NaiveController(Peer):
    """Its Kubernetes client is a dependency of ours."""

    async def start_in(self, stage: Stage, member: Member) -> None:
        name, (namespace, _) = f"{self.name}-{member.name}", self.service
        folder = stage.folder / name
        folder.mkdir()
        sources = {}
        for kind in ("lds", "cds"):
            file = folder / f"{kind}.json"
            file.write_text('{"resources": []}')  # an Envoy does not start without
            sources[f"{kind}_config"] = {"path_config_source": {"path": str(file)}}
        bootstrap = {"node": {"id": self.name, "cluster": member.name}, "dynamic_resources": sources}
        where = (str(stage.folder / "kubeconfig"), str(folder), f"{member.envoy}:{self.port}", namespace)
        contexts = [m.name for m in stage.world.members]
        controller = [sys.executable, "-m", "loadtests.load.peers.naive", *where, *contexts]
        await stage.processes.start(f"{name}-controller", controller)
        await stage.processes.start(name, envoy_with(stage.envoy, bootstrap, folder / "bootstrap.json"))


NAIVE = NaiveController(
    name="envoy-naive",
    about="a naive controller for each cluster: watches EndpointSlices of all with the Kubernetes client, "
    "writes all that a plain Envoy reads anew after each change; no checks, retries as envoy-tuned",
    port=15103,
)
