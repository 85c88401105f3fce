"""Annotations that people write on their objects: where each stands, what it may hold, and what it does.

Invariant: what is wrong in one annotation is named and harms nothing else. docs/annotations.md shows this
table. A wrong value counts as none at all, except where that could offer a service to somebody who was not
meant or take away what is in use: those say here what they do instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from isthmus.api import labels

PREFIX = "isthmus.dev/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """One annotation: the kinds it stands on, its legal values and its effect, in words for people."""

    name: str
    on: tuple[str, ...]
    values: str
    effect: str
    wrong: str = "counts as absent"
    """What a wrong value does."""


ANNOTATIONS = (
    Annotation(
        name=labels.AUTO_EXPORT,
        on=("Namespace", "Service"),
        values="`true` or `false`",
        effect="a ServiceExport is made for the Service, or for every Service of the namespace; a Service's "
        "own value wins",
        wrong="nothing is made and nothing is removed for the Services it speaks of",
    ),
    Annotation(
        name=labels.EXPORT_TO,
        on=("ServiceExport",),
        values="cluster names and `label=value`, with commas between, at most 64",
        effect="only these clusters, and the exporting one, import the service",
        wrong="a wrong item names no cluster; the others count",
    ),
    Annotation(
        name=labels.PROBE,
        on=("ServiceExport",),
        values="a JSON object: `protocol`, `path`, `port`, `interval`, `timeout`, `rise`, `fall`",
        effect="every endpoint of the export is checked so, by every cluster that imports it",
    ),
    Annotation(
        name=labels.DRAIN,
        on=("ServiceExport",),
        values="`true` or `false`",
        effect="new sessions go to other clusters; those that exist stay",
    ),
    Annotation(
        name=labels.EXPECTED_ENDPOINTS,
        on=("ServiceExport",),
        values="a number, 1 to 1000000",
        effect="endpoints missing below this number count as unhealthy ones, so traffic spills earlier",
    ),
    Annotation(
        name=labels.DETACH,
        on=("ServiceExport", "ServiceImport"),
        values="`true` or `false`",
        effect="Isthmus lets go of the object: what exists of it stays as it is",
    ),
    Annotation(
        name=labels.ADOPT,
        on=("ServiceImport",),
        values="`true` or `false`",
        effect="Isthmus takes over an import that somebody else has made",
    ),
)

OURS = frozenset(
    {
        labels.EXPORTED_AT,
        labels.CLUSTER,
        labels.APPLIED,
        labels.LEFT,
        labels.RELEASE,
        labels.POLICY_ORIGIN,
    }
)
"""What Isthmus itself writes under its prefix, or reads from files."""


def flag(annotations: Mapping[str, str], name: str) -> tuple[bool | None, str]:
    """The value of a `true`/`false` annotation, None where it is absent or wrong; and what is wrong."""
    text = annotations.get(name)
    match text:
        case None:
            return None, ""
        case "true" | "false":
            return text == "true", ""
        case _:
            return None, wrong(name, text, 'must be "true" or "false"')


def is_set(annotations: Mapping[str, str], name: str) -> bool:
    """Whether a `true`/`false` annotation says `true`."""
    return annotations.get(name) == "true"


def wrong(name: str, value: str, must: str) -> str:
    """What is told of a wrong value: the annotation, the value, and what is allowed."""
    return f"{name}: {quoted(value)} {must}"


def misplaced(annotations: Mapping[str, str], kind: str) -> list[str]:
    """In words, the annotations of our prefix that mean nothing on this kind of object."""
    known = {one.name: one for one in ANNOTATIONS}
    told: list[str] = []
    for name in sorted(annotations):
        if not name.startswith(PREFIX) or name in OURS:
            continue
        found = known.get(name)
        if found is None:
            ours = ", ".join(sorted(one.name for one in ANNOTATIONS if kind in one.on))
            told.append(f"{name[:200]}: is unknown; a {kind} may have {ours}")
        elif kind not in found.on:
            told.append(f"{name}: means nothing on a {kind}; it belongs on a {' or a '.join(found.on)}")
    return told


def quoted(text: str) -> str:
    """The text in quotes, cut to what fits a condition."""
    return '"' + (text if len(text) <= 80 else text[:77] + "...") + '"'
