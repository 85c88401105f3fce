"""Decodes resources with `envoy-data-plane`, an xDS API that shares no code with protobuf.

Runs under a Python of its own that has it. Reads JSON lines {"type": full name, "value": base64}, writes for
each a JSON line with the fields that are set, packed messages unpacked.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import enum
import importlib
import json
import sys
from typing import Any


def class_of(full_name: str) -> Any:
    """The generated class of a protobuf type; nested types are joined without a dot."""
    parts = full_name.split(".")
    first = next(index for index, part in enumerate(parts) if part[0].isupper())
    module = importlib.import_module("envoy_data_plane." + ".".join(parts[:first]))
    return getattr(module, "".join(parts[first:]))


def plain(value: Any) -> Any:
    """A decoded value as JSON, an object with the fields that are set."""
    match value:
        case datetime.timedelta():
            return {"seconds": value.total_seconds()}
        case enum.Enum():
            return int(value.value)
        case bytes():
            return base64.b64encode(value).decode()
        case list():
            return [plain(one) for one in value]
        case dict():
            return {str(key): plain(one) for key, one in value.items()}
    if not dataclasses.is_dataclass(value):
        return value
    if hasattr(value, "type_url") and hasattr(value, "value"):
        name = value.type_url.rpartition("/")[2]
        return {"@type": name, "held": plain(class_of(name).parse(value.value))}
    assert not getattr(value, "_unknown_fields", b""), f"{type(value).__name__} has unknown fields"
    return {
        field.name.rstrip("_"): plain(held)
        for field in dataclasses.fields(value)
        if (held := getattr(value, field.name)) is not None and (is_optional(field) or not is_default(held))
    }


def is_optional(field: Any) -> bool:
    """Whether a field is known to be set, or not: None stands for the latter."""
    return "None" in str(field.type)


def is_default(held: Any) -> bool:
    number = held.value if isinstance(held, enum.Enum) else held
    return number in ("", b"", 0, False, [], {})


def main() -> None:
    for line in sys.stdin:
        told = json.loads(line)
        message = class_of(told["type"]).parse(base64.b64decode(told["value"]))
        sys.stdout.write(json.dumps(plain(message)) + "\n")


if __name__ == "__main__":
    main()
