"""Kubeconfigs for the demo's API servers: plain HTTP, one context per server, named after it."""

from __future__ import annotations

from collections.abc import Mapping

import yaml


def kubeconfig(servers: Mapping[str, str], current: str) -> str:
    """The text of a kubeconfig with one context per (name, URL)."""
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": current,
            "clusters": [{"name": name, "cluster": {"server": url}} for name, url in servers.items()],
            "users": [{"name": "demo", "user": {}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": "demo"}} for name in servers],
        },
        sort_keys=False,
    )
