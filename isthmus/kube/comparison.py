"""Does an object say what we want it to say? Pure comparison of desired and observed dicts.

Invariant: only what is desired is compared, so that defaults of the server and fields of other writers
never cause a write. That a field is not desired any more shows in the annotation `APPLIED`, a fingerprint
of what was applied last; a status has no annotations of its own and does without.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from isthmus.api.labels import APPLIED
from isthmus.model.timestamp import format_time

CONDITIONS = "conditions"
TRANSITION = "lastTransitionTime"


def fingerprint(desired: Mapping[str, Any]) -> str:
    """A short hash of an object, the same for equal objects."""
    return hashlib.sha256(msgspec.json.encode(desired, order="deterministic")).hexdigest()[:12]


def with_fingerprint(desired: Mapping[str, Any]) -> dict[str, Any]:
    """The object with the annotation `APPLIED` added."""
    metadata = dict(desired["metadata"])
    metadata["annotations"] = {**(metadata.get("annotations") or {}), APPLIED: fingerprint(desired)}
    return {**desired, "metadata": metadata}


def differs(desired: Any, observed: Any) -> bool:
    """Whether `observed` lacks or contradicts anything of `desired`.

    Maps: every desired key must be there and equal, an empty desired value may be missing (servers drop
    those). Lists: same length, element by element. Conditions: by type, without their transition times.
    """
    if isinstance(desired, Mapping):
        return not isinstance(observed, Mapping) or any(
            _field_differs(name, value, observed) for name, value in desired.items()
        )
    if _is_list(desired):
        if not _is_list(observed) or len(desired) != len(observed):
            return True
        return any(differs(want, found) for want, found in zip(desired, observed, strict=True))
    # bool is an int in Python, but not in JSON.
    return bool(desired != observed or isinstance(desired, bool) != isinstance(observed, bool))


def has_more_conditions(desired: Mapping[str, Any], observed: Mapping[str, Any]) -> bool:
    """Whether the observed status has conditions of types that the desired one has not."""
    want, have = (one.get("status") or {} for one in (desired, observed))
    return bool(_by_type(have.get(CONDITIONS)).keys() - _by_type(want.get(CONDITIONS)).keys())


def residue(desired: Mapping[str, Any], observed: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch that makes lists equal which server-side apply leaves different; {} for none.

    In a list with keys (ports by number) apply keeps the entries of other writers, even where they contradict
    ours. Metadata and conditions have other rightful writers and are left to them.
    """
    made: dict[str, Any] = {}
    for name, value in desired.items():
        found = observed.get(name)
        if name in ("metadata", CONDITIONS):
            continue
        if isinstance(value, Mapping):
            if inner := residue(value, found if isinstance(found, Mapping) else {}):
                made[name] = inner
        elif _is_list(value) and _is_list(found) and differs(value, found):
            made[name] = value
    return made


def stamped(desired: Any, observed: Any, now: float) -> Any:
    """`desired` with `lastTransitionTime` in all its conditions.

    A condition whose status is the observed one keeps its time, else it gets `now` (seconds since the epoch).
    """
    if isinstance(desired, Mapping):
        found: Mapping[str, Any] = observed if isinstance(observed, Mapping) else {}
        return {
            name: _stamped_conditions(value, found.get(name), now)
            if name == CONDITIONS and _is_list(value)
            else stamped(value, found.get(name), now)
            for name, value in desired.items()
        }
    if _is_list(desired):
        beside = observed if _is_list(observed) and len(observed) == len(desired) else [None] * len(desired)
        return [stamped(want, found, now) for want, found in zip(desired, beside, strict=True)]
    return desired


def _field_differs(name: str, value: Any, observed: Mapping[str, Any]) -> bool:
    if name not in observed:
        return bool(value)
    if name == CONDITIONS and _is_list(value):
        found = _by_type(observed[name])
        return any(differs(_timeless(want), found.get(want["type"])) for want in value)
    return differs(value, observed[name])


def _stamped_conditions(conditions: Sequence[Mapping[str, Any]], observed: Any, now: float) -> list[Any]:
    found = _by_type(observed)
    stamp = format_time(now)[:19] + "Z"
    made = []
    for want in conditions:
        before = found.get(want["type"], {})
        kept = before.get(TRANSITION) if before.get("status") == want.get("status") else None
        made.append({**want, TRANSITION: kept or stamp})
    return made


def _timeless(condition: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in condition.items() if name != TRANSITION}


def _by_type(conditions: Any) -> dict[str, Mapping[str, Any]]:
    if not _is_list(conditions):
        return {}
    return {c["type"]: c for c in conditions if isinstance(c, Mapping) and isinstance(c.get("type"), str)}


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
