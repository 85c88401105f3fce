"""What Envoy would refuse is found before it is sent, on the policy that it comes from."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from google.protobuf import descriptor
from hypothesis import given
from hypothesis import strategies as st
from worked_cases import policy_object

from isthmus.agent.acceptance import judged
from isthmus.model.names import ClusterId, ServiceKey, Vantage
from isthmus.model.policy import (
    CircuitBreaker,
    DoorSettings,
    OutlierDetection,
    Policy,
    Retry,
    SessionAffinity,
)
from isthmus.model.refusal import Refused
from isthmus.model.service import Port, Protocol
from isthmus.xds import envoy
from isthmus.xds.bootstrap import envoy_bootstrap
from isthmus.xds.envoy.readable import readable
from isthmus.xds.rows import ResourceType
from isthmus.xds.settings import REASON, refusal
from isthmus.xds.validation import rules_of, violations

ROOT = Path(__file__).parents[2]
WEB = ServiceKey("shop", "web")
HTTP = Port(name="http", protocol=Protocol.TCP, port=80)

BAD = {
    "outlier interval": (
        DoorSettings(outlier=OutlierDetection(interval=0)),
        "spec.outlierDetection",
        "interval",
    ),
    "ejection": (
        DoorSettings(outlier=OutlierDetection(base_ejection=0)),
        "spec.outlierDetection",
        "base_ejection_time",
    ),
    "back-off": (DoorSettings(retry=Retry(back_off_base=0.0)), "spec.retry", "base_interval"),
    "header": (
        DoorSettings(affinity=SessionAffinity(header="x-user\n")),
        "spec.sessionAffinity",
        "header_name",
    ),
}

SECONDS = st.floats(0.001, 86_400, allow_nan=False)
SETTINGS = st.builds(
    DoorSettings,
    outlier=st.none()
    | st.builds(
        OutlierDetection,
        consecutive_failures=st.integers(1, 1000),
        interval=st.floats(0.01, 3600),
        base_ejection=st.floats(0.1, 3600),
    ),
    retry=st.none()
    | st.builds(
        Retry,
        attempts=st.integers(1, 10),
        per_try_timeout=st.none() | SECONDS,
        back_off_base=st.floats(0.001, 60),
        back_off_max=st.floats(0.001, 600),
        asked=st.booleans(),
    ),
    timeout=st.none() | SECONDS,
    circuit_breaker=st.none()
    | st.builds(
        CircuitBreaker,
        max_connections=st.none() | st.integers(1, 2_147_483_647),
        max_pending_requests=st.none() | st.integers(1, 2_147_483_647),
        max_requests=st.none() | st.integers(1, 2_147_483_647),
    ),
    affinity=st.none()
    | st.builds(
        SessionAffinity,
        cookie=st.from_regex(r"[A-Za-z0-9_.-]{1,128}", fullmatch=True),
        ttl=st.floats(0, 31_536_000),
    )
    | st.builds(SessionAffinity, header=st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True)),
    slow_start=st.just(0.0) | SECONDS,
)


@given(SETTINGS)
def test_whatever_the_schema_lets_through_can_be_sent(doors: DoorSettings) -> None:
    assert refusal(doors) is None


@pytest.mark.parametrize("name", BAD)
def test_bad_settings_are_refused_with_the_field_and_the_rule(name: str) -> None:
    doors, field, rule = BAD[name]
    answer = refusal(doors)
    assert isinstance(answer, Refused)
    assert answer.reason == REASON
    assert answer.message.startswith(f"{field}: ")
    assert f"{rule} must" in answer.message


def test_a_policy_without_fault_is_accepted() -> None:
    answer = judged(policy_object({"timeout": "1s", "slowStart": "30s"}), "member")
    assert isinstance(answer, Policy)
    assert (answer.doors.timeout, answer.doors.slow_start) == (1.0, 30.0)


@pytest.mark.envoy
@pytest.mark.parametrize("name", BAD)
async def test_an_envoy_refuses_what_is_refused_here(name: str, envoy_binary: str, tmp_path: Path) -> None:
    doors, _, rule = BAD[name]
    output = await _validated(envoy_binary, tmp_path, doors)
    assert output is not None, "Envoy takes what is refused here"
    assert rule in output or rule.title().replace("_", "") in output, output


@pytest.mark.envoy
async def test_an_envoy_takes_the_defaults(envoy_binary: str, tmp_path: Path) -> None:
    assert await _validated(envoy_binary, tmp_path, DoorSettings()) is None


async def _validated(binary: str, folder: Path, doors: DoorSettings) -> str | None:
    """What Envoy complains of in a service with these settings; None where it takes them."""
    config = envoy_bootstrap("n", Vantage("", "", ClusterId("eu-1")), "127.0.0.1:1", "127.0.0.1:9901")
    listener: Any = readable(ResourceType.LDS, envoy.listener("127.0.0.1", 15001))
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["rds"]
    hosts = envoy.virtual_host(WEB, [HTTP], doors)
    manager["route_config"] = readable(ResourceType.RDS, envoy.route_configuration([hosts]))
    config["static_resources"]["listeners"] = [listener]
    config["static_resources"]["clusters"].append(readable(ResourceType.CDS, envoy.cluster(WEB, HTTP, doors)))
    (folder / "envoy.json").write_text(json.dumps(config))
    process = await asyncio.create_subprocess_exec(
        *(binary, "--mode", "validate", "-c", str(folder / "envoy.json"), "-l", "warning"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return output.decode() if process.returncode else None


def test_violations_name_the_path_of_the_field() -> None:
    assignment = endpoint_pb2.ClusterLoadAssignment()
    place = assignment.endpoints.add(priority=129)
    place.lb_endpoints.add().endpoint.address.socket_address.port_value = 70_000
    assert [str(violation) for violation in violations(assignment)] == [
        "cluster_name must not be empty",
        "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address must not be empty",
        "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value must be at most 65535",
        "endpoints[0].priority must be at most 128",
    ]


def test_a_choice_that_is_not_made_is_no_fault_of_the_others() -> None:
    found = route_pb2.RouteConfiguration(name="r")
    host = found.virtual_hosts.add(name="h", domains=["*"])
    host.routes.add().match.prefix = "/"
    assert [str(violation) for violation in violations(found)] == [
        "virtual_hosts[0].routes[0].action must be set"
    ]


def test_packed_messages_are_looked_into() -> None:
    listener = listener_pb2.Listener.FromString(envoy.listener("127.0.0.1", 15001))
    packed = listener.filter_chains[0].filters[0].typed_config
    assert violations(listener) == []
    packed.value = b""
    (violation, *_) = violations(listener)
    assert violation.path.startswith("filter_chains[0].filters[0].typed_config(HttpConnectionManager)")


def test_every_rule_that_can_be_reached_is_understood() -> None:
    seen: set[str] = set()

    def visit(kind: descriptor.Descriptor) -> None:
        if kind.full_name not in seen:
            seen.add(kind.full_name)
            rules_of(kind)
            for field in kind.fields:
                if field.message_type is not None:
                    visit(field.message_type)

    for message in (
        cluster_pb2.Cluster,
        endpoint_pb2.ClusterLoadAssignment,
        listener_pb2.Listener,
        route_pb2.RouteConfiguration,
    ):
        visit(message.DESCRIPTOR)
    assert len(seen) > 200


def test_the_list_of_rules_is_current() -> None:
    command = [sys.executable, str(ROOT / "tools" / "xds_rules.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
