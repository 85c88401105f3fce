"""A health check as people and hub objects write it.

    {"protocol": "HTTP", "path": "/healthz", "port": 8080,
     "interval": "500ms", "timeout": "400ms", "rise": 2, "fall": 2}

All fields are optional. Durations are Kubernetes' (`500ms`, `5s`, `1m30s`), counted in whole milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from isthmus.mcs.limits import check_probe
from isthmus.model.health import CheckProtocol, HealthCheck
from isthmus.model.refusal import Refused

_DURATION = re.compile(
    r"(?:(\d{1,3})h)?(?:(\d{1,4})m)?(?:(\d{1,5}(?:\.\d{1,3})?)s)?(?:(\d{1,7})ms)?", re.ASCII
)


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
        seconds = _seconds(text)
        if seconds is None:
            return Refused(
                reason="InvalidProbe", message=f"probe.{field}: not a duration such as 500ms or 5s"
            )
        times.append(seconds)
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
        "interval": f"{round(check.interval * 1000)}ms",
        "timeout": f"{round(check.timeout * 1000)}ms",
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


def _seconds(text: str) -> float | None:
    found = _DURATION.fullmatch(text) if text else None
    if found is None:
        return None
    hours, minutes, seconds, millis = (float(part or 0) for part in found.groups())
    return round(hours * 3600 + minutes * 60 + seconds + millis / 1000, 3)
