"""To whom an export is offered: cluster names and labels of clusters (`isthmus.dev/export-to`).

The text of the annotation and the record on the hub have one syntax: items, each the name of a cluster or
`key=value`; `region=value` speaks of the Cluster's region, any other key of its labels. A cluster may import
if one item fits. Invariant: a wrong item fits nobody, so a mistake never offers a service to more clusters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from isthmus.mcs.annotations import quoted
from isthmus.mcs.limits import is_label_value, is_subdomain
from isthmus.model.names import ClusterId, is_cluster_id
from isthmus.model.service import Audience

MAX_ITEMS = 64

_KEY = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", re.ASCII)


def split_audience(text: str) -> list[str]:
    """The items of an annotation, without blanks and empty ones."""
    return [item.strip() for item in text.split(",") if item.strip()]


def parse_audience(items: Iterable[str], most: int = MAX_ITEMS) -> tuple[Audience, list[str]]:
    """The clusters that the good items name, and in words what is wrong with the others."""
    clusters: set[ClusterId] = set()
    labels: set[tuple[str, str]] = set()
    problems: list[str] = []
    for at, item in enumerate(items):
        if at == most:
            problems.append(f"only the first {most} items count")
            break
        key, equals, value = item.partition("=")
        if equals and value and _is_label_key(key) and is_label_value(value):
            labels.add((key, value))
        elif not equals and is_cluster_id(item):
            clusters.add(ClusterId(item))
        else:
            problems.append(f"{quoted(item)} must be the name of a cluster or label=value")
    return Audience(clusters=tuple(sorted(clusters)), labels=tuple(sorted(labels))), problems


def render_audience(audience: Audience, own: ClusterId) -> list[str]:
    """The items that `parse_audience` reads back; never empty, because the exporter itself is one of them."""
    clusters = {own, *audience.clusters}
    return [*sorted(clusters), *(f"{key}={value}" for key, value in audience.labels)]


def _is_label_key(text: str) -> bool:
    prefix, slash, name = text.rpartition("/")
    return _KEY.fullmatch(name) is not None and (not slash or is_subdomain(prefix))
