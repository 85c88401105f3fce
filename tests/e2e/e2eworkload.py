"""Workloads of the conformance tests: pods that say who they are, behind Services of any shape."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from e2eground import SECONDS, Cluster, settles

WEB = 8080
"""Where every pod answers; Services say under which ports that is offered."""
SAY = (
    f'mkdir /tmp/www && echo "$CLUSTER $HOSTNAME" >/tmp/www/index.html && exec httpd -f -p {WEB} -h /tmp/www'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A Service in the namespace `shop` with its pods; `ports` are `name/number/protocol`."""

    name: str
    ports: tuple[str, ...] = ("tcp/42/TCP",)
    replicas: int = 1
    headless: bool = False
    stateful: bool = False
    affinity: bool = False

    def service(self) -> dict[str, Any]:
        """The Service as people write it."""
        spec: dict[str, Any] = {
            "selector": {"app": self.name},
            "ipFamilyPolicy": "PreferDualStack",
            "ports": [_port(text, self.headless) for text in self.ports],
        }
        if self.headless:
            spec["clusterIP"] = "None"
        if self.affinity:
            spec["sessionAffinity"] = "ClientIP"
        return {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(self.name), "spec": spec}

    def pods(self, cluster: str, image: str) -> dict[str, Any]:
        """The Deployment or StatefulSet behind it."""
        container = {
            "name": "web",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", SAY],
            "env": [{"name": "CLUSTER", "value": cluster}],
            "readinessProbe": {
                "httpGet": {"path": "/", "port": WEB},
                "periodSeconds": 1,
                "timeoutSeconds": 10,
                "failureThreshold": 30,
            },
        }
        spec: dict[str, Any] = {
            "replicas": self.replicas,
            "selector": {"matchLabels": {"app": self.name}},
            "template": {
                "metadata": {"labels": {"app": self.name}},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
            },
        }
        if self.stateful:
            spec |= {"serviceName": self.name, "podManagementPolicy": "Parallel"}
        kind = "StatefulSet" if self.stateful else "Deployment"
        return {"apiVersion": "apps/v1", "kind": kind, "metadata": _metadata(self.name), "spec": spec}

    def serve(self, cluster: Cluster, image: str) -> None:
        """Makes it in a cluster and waits for its pods; nobody exports it yet."""
        cluster.apply(self.service(), self.pods(cluster.name, image))
        kind = "statefulset" if self.stateful else "deployment"
        cluster.run("rollout", "status", "-n", "shop", f"{kind}/{self.name}", f"--timeout={SECONDS:g}s")

    def export(self, cluster: Cluster) -> None:
        """Exports it from a cluster, younger than any export before: their ages are told in whole seconds."""
        now = int(time.time())
        settles(lambda: time.time() >= now + 1.1, "a second passes")
        heading = {"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport"}
        cluster.apply({**heading, "metadata": _metadata(self.name)})


def _metadata(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": "shop"}


def _port(text: str, headless: bool) -> dict[str, Any]:
    name, number, protocol = text.split("/")
    port = {"name": name, "port": int(number), "protocol": protocol, "targetPort": WEB}
    return port | {"port": WEB} if headless else port
