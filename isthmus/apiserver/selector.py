"""Label and field selectors of list and watch requests (k8s.io/apimachinery `labels` and `fields`).

A selector is parsed once per request into requirements; matching is pure and allocation-free.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from isthmus.apiserver.status import bad_request

Operator = Literal["in", "notin", "exists", "absent", "gt", "lt"]

_SET = re.compile(r"^(?P<key>[^\s!=<>,()]+)\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)$")
_COMPARE = re.compile(r"^(?P<key>[^\s!=<>,()]+)\s*(?P<op>==|!=|=|>|<)\s*(?P<value>[^\s!=<>,()]*)$")
_EXISTS = re.compile(r"^(?P<absent>!)?\s*(?P<key>[^\s!=<>,()]+)$")
_FIELDS = ("metadata.name", "metadata.namespace")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "in":
                return value is not None and value in self.values
            case "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "absent":
                return value is None
            case _:
                return self._ordered(value)

    def _ordered(self, value: str | None) -> bool:
        try:
            left, right = int(value or ""), int(next(iter(self.values)))
        except ValueError:
            return False
        return left > right if self.operator == "gt" else left < right


@dataclass(frozen=True, slots=True)
class Selector:
    """What a list or watch asks for: all requirements must hold."""

    labels: tuple[Requirement, ...] = ()
    name: str | None = None
    namespace: str | None = None
    not_fields: tuple[tuple[str, str], ...] = ()

    @property
    def everything(self) -> bool:
        return not (self.labels or self.not_fields) and self.name is None and self.namespace is None

    def matches(self, namespace: str, name: str, labels: Mapping[str, str]) -> bool:
        """Whether an object of this key and these labels is selected."""
        if self.name is not None and name != self.name:
            return False
        if self.namespace is not None and namespace != self.namespace:
            return False
        for field, value in self.not_fields:
            if (name if field == "metadata.name" else namespace) == value:
                return False
        return all(requirement.matches(labels) for requirement in self.labels)


EVERYTHING = Selector()


def parse(label_selector: str, field_selector: str) -> Selector:
    """Selector of the two query parameters; raises a 400 StatusError for what cannot be parsed."""
    labels = tuple(_requirement(part) for part in _split(label_selector))
    equal: dict[str, str] = {}
    unequal: list[tuple[str, str]] = []
    for part in _split(field_selector):
        match = _COMPARE.match(part)
        if match is None or match["op"] in "<>":
            raise bad_request(f"invalid selector: '{field_selector}'; can't understand '{part}'")
        if match["key"] not in _FIELDS:
            raise bad_request(f'field label not supported: "{match["key"]}"')
        if match["op"] == "!=":
            unequal.append((match["key"], match["value"]))
        else:
            equal[match["key"]] = match["value"]
    return Selector(labels, equal.get("metadata.name"), equal.get("metadata.namespace"), tuple(unequal))


def _requirement(text: str) -> Requirement:
    if match := _SET.match(text):
        values = frozenset(value.strip() for value in match["values"].split(","))
        return Requirement(match["key"], "in" if match["op"] == "in" else "notin", values)
    if match := _COMPARE.match(text):
        operators: dict[str, Operator] = {"!=": "notin", ">": "gt", "<": "lt"}
        return Requirement(match["key"], operators.get(match["op"], "in"), frozenset((match["value"],)))
    if match := _EXISTS.match(text):
        return Requirement(match["key"], "absent" if match["absent"] else "exists")
    raise bad_request(f"unable to parse requirement: {text!r}")


def _split(text: str) -> list[str]:
    """Parts between commas that are not inside parentheses."""
    if not text.strip():
        return []
    parts: list[str] = []
    depth = start = 0
    for position, char in enumerate(text):
        if char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:position].strip())
            start = position + 1
    parts.append(text[start:].strip())
    return parts
