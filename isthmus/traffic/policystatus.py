"""What is told on a policy's status: accepted or not and why, and what of it the clusterset does not have.

The reasons and types follow the Gateway API's policy conditions (Accepted, ResolvedRefs).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isthmus.model.refusal import Refused

_MESSAGE_LIMIT = 4096


def policy_conditions(
    generation: int, refused: Refused | None, *, older_in_force: bool, unresolved: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The conditions of a GlobalTrafficPolicy, without their times.

    `older_in_force`: the object was accepted in an earlier form, which holds until this one is mended.
    `unresolved` is what the policy names and nobody has, in words (see `accept.unresolved`).
    """
    if refused is None:
        accepted = _condition("Accepted", True, "Accepted", "The policy is in force.", generation)
    else:
        then = " The last accepted form stays in force." if older_in_force else ""
        accepted = _condition(
            "Accepted", False, refused.reason, f"{refused.message.rstrip('.')}.{then}", generation
        )
    if not unresolved:
        return [accepted, _condition("ResolvedRefs", True, "ResolvedRefs", "", generation)]
    named = f"The clusterset does not have: {', '.join(unresolved)}."
    return [accepted, _condition("ResolvedRefs", False, "RefNotFound", named, generation)]


def _condition(kind: str, status: bool, reason: str, message: str, generation: int) -> dict[str, Any]:
    return {
        "type": kind,
        "status": "True" if status else "False",
        "reason": reason,
        "message": message[:_MESSAGE_LIMIT],
        "observedGeneration": generation,
    }
