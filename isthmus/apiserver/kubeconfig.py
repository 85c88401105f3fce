"""A kubeconfig for clusters that ask for no credentials (client-go `clientcmd` v1)."""

from __future__ import annotations

from collections.abc import Mapping


def kubeconfig(urls: Mapping[str, str]) -> str:
    """YAML with one cluster and one context per name; the first context is current."""
    lines = ["apiVersion: v1", "kind: Config", f'current-context: "{next(iter(urls), "")}"', "clusters:"]
    lines += [f'- {{name: "{name}", cluster: {{server: "{url}"}}}}' for name, url in urls.items()]
    lines += ["users:", '- {name: "anybody", user: {}}', "contexts:"]
    lines += [f'- {{name: "{name}", context: {{cluster: "{name}", user: "anybody"}}}}' for name in urls]
    return "\n".join(lines) + "\n"
