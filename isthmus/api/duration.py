"""Durations as people write them in Kubernetes objects: `500ms`, `5s`, `1m30s` (GEP-2257).

The value is a float of seconds; a Duration with bounds annotates pydantic fields and their CRD schema.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

PATTERN = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"
_WHOLE = re.compile(r"([0-9]{1,5}(h|m|s|ms)){1,4}")
_PART = re.compile(r"([0-9]{1,5})(h|ms|m|s)")
_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_MAX_LENGTH = 28


def parse_duration(text: str) -> float:
    """Seconds of a duration like `1m30s`; ValueError where it is not one."""
    if not _WHOLE.fullmatch(text):
        raise ValueError("must be a duration like 500ms, 5s or 1m30s")
    return sum(int(number) * _MILLISECONDS[unit] for number, unit in _PART.findall(text)) / 1_000


@dataclass(frozen=True, slots=True)
class Duration:
    """Bounds of a duration field, written as durations themselves, both inclusive."""

    low: str
    high: str

    def _check(self, value: object) -> float:
        if not isinstance(value, str):
            raise ValueError("must be a duration in quotes, like 500ms, 5s or 1m30s")
        seconds = parse_duration(value)
        if not parse_duration(self.low) <= seconds <= parse_duration(self.high):
            raise ValueError(f"must be between {self.low} and {self.high}")
        return seconds

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {
            "type": "string",
            "pattern": PATTERN,
            "maxLength": _MAX_LENGTH,
            "x-kubernetes-validations": [
                {
                    "rule": f"duration(self) >= duration('{self.low}') && "
                    f"duration(self) <= duration('{self.high}')",
                    "message": f"must be between {self.low} and {self.high}",
                }
            ],
        }
