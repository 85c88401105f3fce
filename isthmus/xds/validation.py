"""What Envoy refuses by the rules in its own API, found before it is sent (`validate.rules` of the fields).

Envoy rejects a whole response for one bad resource in it. The rules are options of the fields in the compiled
descriptors, so they are those of the API version that is rendered. Invariants: what is found here names the
resource's field and the rule; a message without fault costs one walk over the fields that have rules, or may
hold a message that has; packed messages (Any) are looked into where their type is known.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from google.protobuf import any_pb2, descriptor, symbol_database
from google.protobuf.message import Message
from validate import validate_pb2

from isthmus.xds.fieldrules import Check, checks_of, is_required

_MESSAGE = descriptor.FieldDescriptor.TYPE_MESSAGE
_WRAPPERS = "google.protobuf."
MAX_VIOLATIONS = 5


class Violation(NamedTuple):
    """One field that breaks one rule, both in words."""

    path: str
    rule: str

    def __str__(self) -> str:
        return f"{self.path} must {self.rule}"


class _Field(NamedTuple):
    """How one field is looked at. `checks` are of its value, or of each of its items."""

    name: str
    repeated: bool
    presence: bool
    whole: tuple[Check, ...]
    checks: tuple[Check, ...]
    keys: tuple[Check, ...]
    required: str
    wrapped: bool
    deep: bool


def violations(message: Message) -> list[Violation]:
    """The first few rules that a message breaks, in order of fields; [] where Envoy would take it."""
    found: list[Violation] = []
    for violation in _walk(message, ""):
        found.append(violation)
        if len(found) == MAX_VIOLATIONS:
            break
    return found


def rules_of(kind: descriptor.Descriptor) -> list[tuple[str, str]]:
    """Every field of a message type that has rules, with these in words."""
    listed = []
    for field in _fields(kind):
        words = [check.words for check in (*field.whole, *field.checks, *field.keys)]
        words += [field.required] if field.required else []
        if words:
            listed.append((field.name, "; ".join(words)))
    listed += [(name, "one of them must be set") for name in _required_choices(kind)]
    return listed


def _walk(message: Any, path: str) -> Iterator[Violation]:
    kind = message.DESCRIPTOR
    if kind.full_name == "google.protobuf.Any":
        yield from _packed(message, path)
        return
    for field in _fields(kind):
        yield from _look(message, field, f"{path}.{field.name}" if path else field.name)
    for choice in _required_choices(kind):
        if message.WhichOneof(choice) is None:
            yield Violation(f"{path}.{choice}" if path else choice, "be set")


def _look(message: Any, field: _Field, path: str) -> Iterator[Violation]:
    if field.presence and not message.HasField(field.name):
        if field.required:
            yield Violation(path, field.required)
        return
    value = getattr(message, field.name)
    yield from (Violation(path, check.words) for check in field.whole if not check.holds(value))
    if not field.repeated:
        yield from _value(value, field, path)
    elif hasattr(value, "items"):
        for key in value:
            yield from (Violation(path, check.words) for check in field.keys if not check.holds(key))
            yield from _value(value[key], field, f"{path}[{key}]")
    else:
        for index, item in enumerate(value):
            yield from _value(item, field, f"{path}[{index}]")


def _value(value: Any, field: _Field, path: str) -> Iterator[Violation]:
    held = value.value if field.wrapped else value
    yield from (Violation(path, check.words) for check in field.checks if not check.holds(held))
    if field.deep:
        yield from _walk(value, path)


def _packed(message: any_pb2.Any, path: str) -> Iterator[Violation]:
    name = message.type_url.rpartition("/")[2]
    try:
        inner = symbol_database.Default().GetSymbol(name)()
    except KeyError:
        return  # nobody here renders that type
    inner.ParseFromString(message.value)
    yield from _walk(inner, f"{path}({name.rpartition('.')[2]})")


@functools.cache
def _fields(kind: descriptor.Descriptor) -> tuple[_Field, ...]:
    """The fields of a message type that have to be looked at."""
    if _ignored(kind):
        return ()
    found = (_field(field) for field in kind.fields)
    return tuple(f for f in found if f.whole or f.checks or f.keys or f.required or f.deep)


def _field(field: descriptor.FieldDescriptor) -> _Field:
    rules = field.GetOptions().Extensions[validate_pb2.rules]
    is_message = field.type == _MESSAGE
    is_map = is_message and _held(field).GetOptions().map_entry
    value = _held(field).fields_by_name["value"] if is_map else field
    of_message = value.type == _MESSAGE
    wrapped = of_message and _is_wrapper(_held(value))
    choice = field.containing_oneof
    chosen = choice is not None and len(choice.fields) > 1  # an optional field has a choice of its own
    whole, checks, keys = checks_of(field, rules)
    return _Field(
        name=field.name,
        repeated=field.is_repeated,
        presence=field.has_presence,
        whole=tuple(whole),
        checks=tuple(checks),
        keys=tuple(keys),
        required="" if chosen else is_required(rules),
        wrapped=wrapped,
        deep=of_message and not rules.message.skip and _deep(_held(value)),
    )


def _held(field: descriptor.FieldDescriptor) -> descriptor.Descriptor:
    """The type of message in a field."""
    return cast("descriptor.Descriptor", field.message_type)


def _is_wrapper(kind: descriptor.Descriptor) -> bool:
    return kind.full_name.startswith(_WRAPPERS) and kind.full_name.endswith("Value") and len(kind.fields) == 1


@functools.cache
def _deep(kind: descriptor.Descriptor) -> bool:
    """Whether a message of that type can break any rule, itself or by what it holds."""
    return kind.full_name in _reachable_rules(kind)


@functools.cache
def _reachable_rules(kind: descriptor.Descriptor) -> frozenset[str]:
    """Names of the types, reached from this one, from which a rule is reached."""
    children: dict[str, set[str]] = {}
    ruled: set[str] = set()
    waiting = [kind]
    while waiting:
        one = waiting.pop()
        if one.full_name in children:
            continue
        reached = children[one.full_name] = set()
        if one.full_name == "google.protobuf.Any" or _has_rules(one):
            ruled.add(one.full_name)
        for field in one.fields:
            if field.type == _MESSAGE:
                reached.add(_held(field).full_name)
                waiting.append(_held(field))
    grown = True
    while grown:
        more = {name for name, reached in children.items() if name not in ruled and reached & ruled}
        ruled |= more
        grown = bool(more)
    return frozenset(ruled)


def _has_rules(kind: descriptor.Descriptor) -> bool:
    if _ignored(kind):
        return False
    return bool(_required_choices(kind)) or any(
        field.GetOptions().HasExtension(validate_pb2.rules) for field in kind.fields
    )


def _ignored(kind: descriptor.Descriptor) -> bool:
    options = kind.GetOptions()
    return bool(options.Extensions[validate_pb2.disabled] or options.Extensions[validate_pb2.ignored])


@functools.cache
def _required_choices(kind: descriptor.Descriptor) -> tuple[str, ...]:
    return tuple(
        choice.name for choice in kind.oneofs if choice.GetOptions().Extensions[validate_pb2.required]
    )
