"""Two clusters whose exports have all the shapes that names can take, and the questions to ask about them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple

sys.path.append(str(Path(__file__).parents[1] / "agent"))  # test folders are not packages

from spine import Spine, thing

from isthmus.api import kinds

HERE, THERE = "eu-1", "ap.eu-2"
"""The cluster that is asked, and one whose id has two labels."""

WEB = ({"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"})
DB = ({"name": "pg", "port": 5432}, {"name": "metrics", "port": 9187})
SERVICES: Final = {
    "shop/web": WEB,
    "shop/plain": ({"port": 8080},),
    "shop/idle": ({"name": "http", "port": 80},),
    "shop/db": DB,
    "shop/near": DB,
    "shop/many": DB,
    "shop/empty": DB,
    "bank/ledger": ({"name": "http", "port": 80},),
}
HEADLESS: Final = {"shop/db", "shop/near", "shop/many", "shop/empty"}
TYPES: Final = ("A", "AAAA", "SRV", "TXT", "MX", "SOA", "NS", "CNAME", "PTR", "HTTPS", "ANY", "TYPE65280")


class Pod(NamedTuple):
    """An endpoint: its service, addresses, host name; whether Kubernetes has it as ready."""

    service: str
    addresses: tuple[str, ...]
    hostname: str = ""
    ready: bool = True


PODS: Final = {
    HERE: (
        Pod("shop/web", ("10.64.0.1",)),
        Pod("shop/plain", ("10.64.0.2",)),
        Pod("bank/ledger", ("10.64.0.3",)),
        Pod("shop/db", ("10.64.1.1", "fd00:64::1"), "db-0"),
        Pod("shop/db", ("10.64.1.2", "fd00:64::2")),
        Pod("shop/db", ("10.64.1.3",), "db-2", ready=False),
        Pod("shop/near", ("10.64.3.1",), "near-0"),
        *(Pod("shop/many", (f"10.64.2.{n}",), f"many-{n}") for n in range(12)),
    ),
    THERE: (
        Pod("shop/web", ("10.66.0.1",)),
        Pod("shop/db", ("10.66.1.1", "fd00:66::1"), "db-0"),
        Pod("shop/near", ("10.66.3.1",), "near-0"),
    ),
}


async def populate(spine: Spine) -> None:
    """Every service with its pods in both clusters, exported where it has some (and the empty ones here)."""
    for cluster, pods in PODS.items():
        await spine.apply(cluster, kinds.NAMESPACE, thing(kinds.NAMESPACE, "", "bank"))
        for key, ports in SERVICES.items():
            namespace, name = key.split("/")
            own = [pod for pod in pods if pod.service == key]
            if not own and (cluster != HERE or key not in ("shop/idle", "shop/empty")):
                continue
            spec: dict[str, Any] = {"selector": {"app": name}, "ports": list(ports)}
            if key in HEADLESS:
                spec["clusterIP"] = "None"
            if key == "shop/db":
                spec |= {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}
            await spine.apply(cluster, kinds.SERVICE, thing(kinds.SERVICE, namespace, name, spec=spec))
            for family in ("IPv4", "IPv6"):
                body = _slice(namespace, name, family, ports, own)
                if body["endpoints"]:
                    await spine.apply(cluster, kinds.ENDPOINT_SLICE, body)
            await spine.apply(cluster, kinds.SERVICE_EXPORT, thing(kinds.SERVICE_EXPORT, namespace, name))
    for namespace, name, spec in (
        ("bank", "ledger", {"dns": {"answer": "Endpoints"}}),
        ("shop", "db", {"strategy": "ActiveActive"}),
    ):
        await spine.apply(HERE, kinds.POLICY, thing(kinds.POLICY, namespace, name, spec=spec))


def _slice(namespace: str, name: str, family: str, ports: Any, pods: list[Pod]) -> dict[str, Any]:
    endpoints = [
        {
            "addresses": [address],
            "conditions": {"ready": pod.ready},
            **({"hostname": pod.hostname} if pod.hostname else {}),
            "targetRef": {"kind": "Pod", "namespace": namespace, "name": f"{name}-{pod.addresses[0]}",
                          "uid": pod.addresses[0]},
        }
        for pod in pods
        for address in pod.addresses
        if (":" in address) == (family == "IPv6")
    ]  # fmt: skip
    return thing(
        kinds.ENDPOINT_SLICE,
        namespace,
        f"{name}-{family.lower()}",
        metadata={"labels": {"kubernetes.io/service-name": name}},
        addressType=family,
        ports=[{"protocol": "TCP", **port} for port in ports],
        endpoints=endpoints,
    )


def names() -> Iterator[str]:
    """Every shape of name about every service, about some that are not there, and about none."""
    yield from ("", "svc", "pod", "dns-version", "a.dns-version", "nope", "ns.dns", "dns")
    for namespace in ("shop", "bank", "kube-system", "nope"):
        yield from (f"{namespace}.svc", f"{namespace}.pod", f"10-64-0-1.{namespace}.pod", namespace)
    ports = sorted({port["name"] for every in SERVICES.values() for port in every if "name" in port})
    hosts = ["db-0", "db-2", "many-3", "near-0", "10-64-1-2", "fd00-64--2", "10-64-0-1", "nope"]
    for key in (*SERVICES, "shop/nope", "nope/web"):
        namespace, name = key.split("/")
        service = f"{name}.{namespace}.svc"
        yield service
        yield from (f"{one}.{service}" for one in ("_tcp", "_udp", "_sctp", "tcp", "nope", HERE, THERE))
        yield from (f"_{port}._{proto}.{service}" for port, proto in product(ports, ("tcp", "udp")))
        yield from (f"http.tcp.{service}", f"_http.tcp.{service}", f"_80._tcp.{service}")
        clusters = (HERE, THERE, "nope")
        yield from (f"{host}.{cluster}.{service}" for host, cluster in product(hosts, clusters))
        yield from (f"{host}.{service}" for host in hosts)
        yield f"a.b.c.d.{service}"
