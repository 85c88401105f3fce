"""Rules of custom resources in CEL: `x-kubernetes-validations` of structural schemas.

A rule sees the value of its node as `self` and, on updates, the value before as `oldSelf`; a rule that speaks
of `oldSelf` is left out where there is none. A violation that an update leaves as it was is let pass, as the
real server does. Messages and reasons are those of apiextensions.k8s.io/v1; static types and cost estimates
of the real server are not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isthmus.apiserver import status
from isthmus.apiserver.cel import CelError, truth
from isthmus.apiserver.celparser import CelSyntaxError, compile_expression
from isthmus.apiserver.status import Cause
from isthmus.apiserver.topology import Schema, child, element, items
from isthmus.apiserver.values import type_name

Rule = dict[str, Any]
KEYWORD = "x-kubernetes-validations"
_UNSUPPORTED = ("messageExpression", "optionalOldSelf")
_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_BLOCKING = (
    "FieldValueNotSupported",
    "FieldValueRequired",
    "FieldValueTooLong",
    "FieldValueTooMany",
    "FieldValueTypeInvalid",
)
UNCHECKED = Cause(
    "FieldValueInvalid",
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation",
    "<nil>",
)


def blocked(causes: list[Cause]) -> bool:
    """Whether an object is too wrong for its rules to be asked."""
    return any(cause.reason in _BLOCKING for cause in causes)


def has_rules(schema: Schema) -> bool:
    """Whether a schema has a rule anywhere."""
    if schema.get(KEYWORD):
        return True
    below = [
        *(schema.get("properties") or {}).values(),
        schema.get("items"),
        schema.get("additionalProperties"),
    ]
    return any(has_rules(each) for each in below if isinstance(each, dict))


def refusals(schema: Schema, path: str) -> Iterator[Cause]:
    """What is wrong with the rules of one node of a schema; they are only compiled."""
    for index, rule in enumerate(schema.get(KEYWORD) or ()):
        here = f"{path}.{KEYWORD}[{index}]"
        if not isinstance(rule, dict) or not isinstance(rule.get("rule"), str):
            yield status.required(f"{here}.rule")
            continue
        for name in _UNSUPPORTED:
            if rule.get(name) is not None:
                yield status.forbidden_field(f"{here}.{name}", "this server does not support it")
        if (reason := rule.get("reason", _REASONS[0])) not in _REASONS:
            yield status.unsupported(f"{here}.reason", reason, _REASONS)
        try:
            unknown = compile_expression(rule["rule"]).names - {"self", "oldSelf"}
        except CelSyntaxError as wrong:
            yield status.invalid_value(f"{here}.rule", rule, f"compilation failed: {wrong}")
            continue
        for name in sorted(unknown):
            why = f"compilation failed: undeclared reference to '{name}'"
            yield status.invalid_value(f"{here}.rule", rule, why)


def violations(value: Any, schema: Schema, old: Any = None, path: str = "") -> Iterator[Cause]:
    """What the rules of a schema have against a value: of a node first, then of what is in it."""
    if value is None:
        return
    for rule in schema.get(KEYWORD) or ():
        if (cause := _broken(rule, value, old, path)) is not None:
            yield cause
    if isinstance(value, dict):
        before = old if isinstance(old, dict) else {}
        for name, member in value.items():
            below = child(schema, name)
            if below:
                here = f"{path}.{name}" if path else name
                yield from violations(member, below, before.get(name), here)
    elif isinstance(value, list):
        below = items(schema)
        keyed = schema.get("x-kubernetes-list-type") == "map"
        earlier = {element(item, schema): item for item in old} if keyed and isinstance(old, list) else {}
        for index, item in enumerate(value):
            was = earlier.get(element(item, schema)) if keyed else None
            yield from violations(item, below, was, f"{path}[{index}]")


def _broken(rule: Rule, value: Any, old: Any, path: str) -> Cause | None:
    program = compile_expression(rule["rule"])
    transition = "oldSelf" in program.names
    if old is None and transition:
        return None
    text, where = rule.get("message", "").strip(), path or "<nil>"
    try:
        if truth(program.run({"self": value, "oldSelf": old})):
            return None
    except CelError as wrong:
        return _invalid(where, value, f"{wrong} evaluating rule: {text or rule['rule'].strip()}")
    if not transition and old is not None and old == value:
        return None
    where = path + rule.get("fieldPath", "") if path else rule.get("fieldPath", "").removeprefix(".") or where
    message = text or f"failed rule: {rule['rule'].strip()}"
    match rule.get("reason"):
        case "FieldValueForbidden":
            return status.forbidden_field(where, message)
        case "FieldValueRequired":
            return status.required(where, message)
        case "FieldValueDuplicate":
            return status.duplicate(where, type_name(value))
        case _:
            return _invalid(where, value, message)


def _invalid(path: str, value: Any, message: str) -> Cause:
    return status.invalid_value(path, type_name(value), message)
