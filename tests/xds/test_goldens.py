"""Golden pairs: `in.yaml` is a worked case or a service with settings, the others what doors get for it.

`envoy.yaml`, `grpc.yaml`, and of worked cases `dns.txt`, what DNS answers a caller who asks for endpoints,
and `kernel.yaml`, the exact shares of addresses.
`pytest --update-golden` rewrites them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy.config.core.v3 import health_check_pb2
from envoy.config.endpoint.v3 import endpoint_pb2

from isthmus.dns import rrset
from isthmus.dns.readable import readable as dns_readable
from isthmus.model.names import ClusterId, ServiceKey, Vantage
from isthmus.model.policy import CircuitBreaker, DoorSettings, OutlierDetection, Retry, SessionAffinity
from isthmus.model.service import AddressFamily, Port, Protocol
from isthmus.traffic.addressshares import address_shares
from isthmus.xds import envoy, grpc
from isthmus.xds.bootstrap import envoy_bootstrap
from isthmus.xds.envoy.readable import readable
from isthmus.xds.rows import ResourceType

GOLDEN = Path(__file__).parent / "golden"
VECTORS = Path(__file__).parents[1] / "traffic" / "split-vectors.yaml"
SERVICES = ("defaults", "every-setting", "cookie-affinity", "header-affinity")


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def outline(assignment: endpoint_pb2.ClusterLoadAssignment) -> list[dict[str, Any]]:
    """An assignment, a line per host."""
    return [
        {
            "priority": group.priority,
            "locality": f"{group.locality.sub_zone}/{group.locality.region}/{group.locality.zone}",
            **_tier(group),
            "weight": group.load_balancing_weight.value,
            "hosts": [
                f"{host.endpoint.address.socket_address.address}:"
                f"{host.endpoint.address.socket_address.port_value} "
                f"{health_check_pb2.HealthStatus.Name(host.health_status)}"
                for host in group.lb_endpoints
            ],
        }
        for group in assignment.endpoints
    ]


def _tier(group: Any) -> dict[str, int]:
    """What the access log reads, where it is there."""
    labels = group.metadata.filter_metadata
    return {"tier": int(labels["isthmus.dev"]["tier"])} if "isthmus.dev" in labels else {}


def compare(folder: Path, name: str, found: Any, update: bool) -> None:
    path = folder / name
    text = yaml.safe_dump(found, sort_keys=False, width=110)
    if update:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text, f"{path} differs: look at it, then pytest --update-golden"


def test_worked_cases_are_rendered_as_before(worked_case: Any, update_golden: bool) -> None:
    folder = GOLDEN / slug(worked_case.name)
    raw = next(c for c in yaml.safe_load(VECTORS.read_text()) if c["name"] == worked_case.name)
    plan = worked_case.plan()
    compare(folder, "in.yaml", raw, update_golden)
    for name, rendered in (
        ("envoy.yaml", envoy.load_assignment(plan)),
        ("grpc.yaml", grpc.load_assignment(plan)),
    ):
        assignment = endpoint_pb2.ClusterLoadAssignment.FromString(rendered)
        compare(folder, name, {assignment.cluster_name: outline(assignment)}, update_golden)
    compare(folder, "dns.txt", answers(worked_case), update_golden)
    kernel = address_shares(plan, AddressFamily.IPV4)
    shares = {f"{one.address}:{one.port}": str(one.share) for one in kernel}
    compare(folder, "kernel.yaml", shares, update_golden)


def answers(worked_case: Any) -> Any:
    """What DNS says where the policy asks for endpoints."""
    plans = {}
    for name, port in (("", None), ("TCP/80", worked_case.service.ports[0])):
        plan = worked_case.plan(port)
        doors = dataclasses.replace(plan.doors, dns_answer="Endpoints")
        plans[name] = dataclasses.replace(plan, doors=doors)
    return dns_readable(rrset.row(worked_case.service, ("10.96.0.10",), plans), "clusterset.local")


def settings(given: dict[str, Any]) -> DoorSettings:
    kinds = {
        "outlier": OutlierDetection,
        "retry": Retry,
        "circuit_breaker": CircuitBreaker,
        "affinity": SessionAffinity,
    }
    return DoorSettings(**{k: kinds[k](**v) if k in kinds and v else v for k, v in given.items()})


def service(name: str) -> dict[str, Any]:
    """Everything but assignments, as plain values, for the service that `in.yaml` describes."""
    given = yaml.safe_load((GOLDEN / name / "in.yaml").read_text())
    key = ServiceKey(given["namespace"], given["name"])
    ports = [Port(**{**port, "protocol": Protocol(port["protocol"])}) for port in given["ports"]]
    doors = settings(given["settings"])
    listener = envoy.listener("127.0.0.1", 15001, log=given.get("access_log", False))
    routes = envoy.route_configuration([envoy.virtual_host(key, ports, doors)])
    return {
        "listener": readable(ResourceType.LDS, listener),
        "routes": readable(ResourceType.RDS, routes),
        "clusters": [readable(ResourceType.CDS, envoy.cluster(key, port, doors)) for port in ports],
    }


def for_grpc(name: str) -> dict[str, Any]:
    """The same service for gRPC clients."""
    given = yaml.safe_load((GOLDEN / name / "in.yaml").read_text())
    key = ServiceKey(given["namespace"], given["name"])
    ports = [Port(**{**port, "protocol": Protocol(port["protocol"])}) for port in given["ports"]]
    doors = settings(given["settings"])
    told = grpc.names(key, ports)
    held = {port.port: port for port in told.values()}.values()
    return {
        "listeners": [readable(ResourceType.LDS, grpc.listener(n, key, port)) for n, port in told.items()],
        "routes": [readable(ResourceType.RDS, grpc.route_configuration(key, port, doors)) for port in held],
        "clusters": [readable(ResourceType.CDS, grpc.cluster(key, port, doors)) for port in held],
    }


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_rendered_as_before(name: str, update_golden: bool) -> None:
    compare(GOLDEN / name, "envoy.yaml", service(name), update_golden)
    compare(GOLDEN / name, "grpc.yaml", for_grpc(name), update_golden)


def test_no_golden_is_left_of_a_case_that_is_gone(worked_cases: list[Any]) -> None:
    wanted = {slug(case.name) for case in worked_cases} | set(SERVICES)
    assert {path.name for path in GOLDEN.iterdir()} == wanted
    for folder in GOLDEN.iterdir():
        files = {"in.yaml", "envoy.yaml", "grpc.yaml"}
        files |= set() if folder.name in SERVICES else {"dns.txt", "kernel.yaml"}
        assert {path.name for path in folder.iterdir()} == files, folder.name


@pytest.mark.envoy
@pytest.mark.parametrize("name", SERVICES)
async def test_an_envoy_loads_the_goldens(name: str, envoy_binary: str, tmp_path: Path) -> None:
    plain = yaml.safe_load((GOLDEN / name / "envoy.yaml").read_text())
    config = envoy_bootstrap("n", Vantage("", "", ClusterId("eu-1")), "127.0.0.1:1", "127.0.0.1:9901")
    listener = plain["listener"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["rds"]
    manager["route_config"] = plain["routes"]
    config["static_resources"]["listeners"] = [listener]
    config["static_resources"]["clusters"] += plain["clusters"]
    path = tmp_path / "envoy.json"
    path.write_text(json.dumps(config))
    process = await asyncio.create_subprocess_exec(
        *(envoy_binary, "--mode", "validate", "-c", str(path), "-l", "warning"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
