"""Everything that is rendered says the same to `envoy-data-plane`, which shares no code with protobuf."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import symbol_database
from google.protobuf.descriptor import FieldDescriptor

from isthmus.model.names import ServiceKey
from isthmus.model.policy import CircuitBreaker, DoorSettings, Retry, SessionAffinity
from isthmus.model.service import Port, Protocol
from isthmus.xds import envoy, grpc
from isthmus.xds.envoy.readable import message_of
from isthmus.xds.rows import ResourceType

HERE = Path(__file__).parent
WEB = ServiceKey("shop", "web")
PORTS = [
    Port(name=name, protocol=Protocol.TCP, port=number)
    for number, name in enumerate(("http", "http2", "grpc", "redis"), 80)
]
SETTINGS = (
    DoorSettings(),
    DoorSettings(outlier=None, retry=None, timeout=1.5),
    DoorSettings(
        affinity=SessionAffinity(cookie="sid", ttl=60.0),
        circuit_breaker=CircuitBreaker(max_connections=1, max_requests=2),
        slow_start=10.0,
    ),
    DoorSettings(affinity=SessionAffinity(header="x-user"), retry=Retry(per_try_timeout=0.5, asked=True)),
)


@pytest.fixture(scope="module")
def other_python() -> str:
    found = sorted(Path.home().glob(".cache/isthmus/envoy-data-plane-*/bin/python"))
    if not found:
        pytest.skip("no envoy-data-plane: tools/data_plane.sh installs it")
    return str(found[-1])


def rendered(worked_cases: list[Any]) -> Iterator[tuple[ResourceType, bytes]]:
    """Every sort of resource, with every setting, and the assignments of all worked cases."""
    for doors in SETTINGS:
        for port in PORTS:
            yield ResourceType.CDS, envoy.cluster(WEB, port, doors)
            yield ResourceType.CDS, grpc.cluster(WEB, port, doors)
            yield ResourceType.RDS, envoy.captured_routes(WEB, port, doors)
            yield ResourceType.RDS, grpc.route_configuration(WEB, port, doors)
        yield ResourceType.RDS, envoy.route_configuration([envoy.virtual_host(WEB, PORTS, doors)])
    chains = [envoy.filter_chain(WEB, port, ("10.96.0.1", "fd00::1"), log=True) for port in PORTS]
    yield ResourceType.LDS, envoy.captured_listener("127.0.0.1", 15001, chains, both_families=True)
    yield ResourceType.LDS, envoy.listener("127.0.0.1", 15001, log=True)
    for name, port in grpc.names(WEB, PORTS).items():
        yield ResourceType.LDS, grpc.listener(name, WEB, port)
    for case in worked_cases:
        yield ResourceType.EDS, envoy.load_assignment(case.plan())
        yield ResourceType.EDS, grpc.load_assignment(case.plan())


def plain(message: Any) -> Any:
    """A message in the form that `decoding` gives it."""
    name = message.DESCRIPTOR.full_name
    if name == "google.protobuf.Any":
        kind = message.type_url.rpartition("/")[2]
        inner = symbol_database.Default().GetSymbol(kind)()
        inner.ParseFromString(message.value)
        return {"@type": kind, "held": plain(inner)}
    if name == "google.protobuf.Duration":
        return {"seconds": round(message.seconds + message.nanos / 1e9, 6)}
    if name.startswith("google.protobuf.") and name.endswith("Value") and len(message.DESCRIPTOR.fields) == 1:
        return message.value
    found = {}
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            held_is_message = field.message_type.fields_by_name["value"].type == FieldDescriptor.TYPE_MESSAGE
            found[field.name] = {key: plain(value[key]) if held_is_message else value[key] for key in value}
        elif field.is_repeated:
            found[field.name] = [_one(field, one) for one in value]
        else:
            found[field.name] = _one(field, value)
    return found


def _one(field: FieldDescriptor, value: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return plain(value)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def rounded(value: Any) -> Any:
    """Durations come as floats there."""
    if isinstance(value, dict):
        if set(value) == {"seconds"}:
            return {"seconds": round(value["seconds"], 6)}
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list) else value


async def test_every_resource_decodes_to_the_same_content(other_python: str, worked_cases: list[Any]) -> None:
    messages = [message_of(kind, resource) for kind, resource in rendered(worked_cases)]
    lines = [
        json.dumps(
            {
                "type": message.DESCRIPTOR.full_name,
                "value": base64.b64encode(message.SerializeToString(deterministic=True)).decode(),
            }
        )
        for message in messages
    ]
    process = await asyncio.create_subprocess_exec(
        *(other_python, str(HERE / "decoding.py")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate("\n".join(lines).encode())
    assert process.returncode == 0
    decoded = [json.loads(line) for line in output.splitlines()]
    assert len(decoded) == len(messages) > 80
    for message, found in zip(messages, decoded, strict=True):
        assert rounded(found) == json.loads(json.dumps(rounded(plain(message)))), message.DESCRIPTOR.full_name
