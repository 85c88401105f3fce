"""A health check as people and hub objects write it.

    {"protocol": "HTTP", "path": "/healthz", "port": 8080,
     "interval": "500ms", "timeout": "400ms", "rise": 2, "fall": 2}

All fields are optional. Durations are Kubernetes' (`500ms`, `5s`, `1m30s`), counted in whole milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from isthmus.api.duration import parse_duration
from isthmus.mcs.limits import check_probe
from isthmus.model.health import CheckProtocol, HealthCheck
from isthmus.model.refusal import Refused


class _Spec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    protocol: CheckProtocol | None = None
    path: str = ""
    port: int | None = None
    interval: str = "500ms"
    timeout: str = "400ms"
    rise: int = 2
    fall: int = 2


def parse_probe(spec: Mapping[str, Any] | bytes | str) -> HealthCheck | Refused:
    """The check that a JSON text or object describes."""
    try:
        raw = (
            msgspec.json.decode(spec, type=_Spec)
            if isinstance(spec, bytes | str)
            else msgspec.convert(spec, _Spec)
        )
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        return Refused(reason="InvalidProbe", message=f"probe: {str(error)[:200]}")
    times: list[float] = []
    for field, text in (("interval", raw.interval), ("timeout", raw.timeout)):
        try:
            times.append(parse_duration(text))
        except ValueError as error:
            return Refused(reason="InvalidProbe", message=f"probe.{field}: {error}")
    check = HealthCheck(
        protocol=raw.protocol,
        path=raw.path,
        port=raw.port,
        interval=times[0],
        timeout=times[1],
        rise=raw.rise,
        fall=raw.fall,
    )
    return check_probe(check) or check


def render_probe(check: HealthCheck) -> dict[str, Any]:
    """The object that `parse_probe` reads back as the same check."""
    spec: dict[str, Any] = {
        "interval": _duration(check.interval),
        "timeout": _duration(check.timeout),
        "rise": check.rise,
        "fall": check.fall,
    }
    if check.protocol is not None:
        spec["protocol"] = check.protocol.value
    if check.path:
        spec["path"] = check.path
    if check.port is not None:
        spec["port"] = check.port
    return spec


def _duration(seconds: float) -> str:
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return (f"{whole}s" if whole else "") + (f"{milliseconds}ms" if milliseconds or not whole else "")
