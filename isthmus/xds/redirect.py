"""Rules for the kernel that bring a pod's connections to its sidecar, as a script for `nft -f -`.

Invariants: what the sidecar itself sends is never brought back to it, nor what stays within the pod; running
the script again changes nothing, and only its own table is touched.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from isthmus.errors import ConfigError

TABLE = "isthmus_capture"
OUTPUT_PRIORITY = -100
"""That of destination NAT (nft(8))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Which connections are brought where.

    The sidecar is known by its user or its group (one of them at least). `only`: networks whose connections
    are captured, all where there is none; `never` and `never_ports`: what is left alone in any case.
    """

    port: int = 15001
    user: int | None = None
    group: int | None = None
    only: Sequence[str] = ()
    never: Sequence[str] = ()
    never_ports: Sequence[int] = ()


def rules(wanted: Redirect) -> str:
    """The script. Raises ConfigError for what cannot be."""
    if wanted.user is None and wanted.group is None:
        raise ConfigError("the sidecar's user or group must be given: what it sends must not come back to it")
    for port in (wanted.port, *wanted.never_ports):
        if not 0 < port < 65536:
            raise ConfigError(f"{port} is not a port")
    lines = []
    if wanted.user is not None:
        lines.append(f"meta skuid {_id(wanted.user)} return")
    if wanted.group is not None:
        lines.append(f"meta skgid {_id(wanted.group)} return")
    lines.append("fib daddr type local return")
    if wanted.never_ports:
        lines.append(
            f"tcp dport {{ {', '.join(str(port) for port in sorted(set(wanted.never_ports)))} }} return"
        )
    lines += [f"{family} daddr {{ {text} }} return" for family, text in _networks(wanted.never)]
    only = _networks(wanted.only)
    target = f"redirect to :{wanted.port}"
    lines += [f"{family} daddr {{ {text} }} meta l4proto tcp {target}" for family, text in only]
    if not only:
        lines.append(f"meta l4proto tcp {target}")
    body = "\n".join(f"    {line}" for line in lines)
    return f"""\
table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
  chain output {{
    type nat hook output priority {OUTPUT_PRIORITY}; policy accept;
{body}
  }}
}}
"""


def _id(number: int) -> int:
    if not 0 <= number < 2**32:
        raise ConfigError(f"{number} is not the number of a user or a group")
    return number


def _networks(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Networks by family, as nft names it: `ip` and `ip6`. Raises ConfigError."""
    found: dict[str, list[str]] = {"ip": [], "ip6": []}
    try:
        networks = [ipaddress.ip_network(text) for text in texts]
    except ValueError as error:
        raise ConfigError(f"{error}: a network is written as 10.96.0.0/12") from error
    for network in sorted(networks, key=lambda network: (network.version, network)):
        found["ip" if network.version == 4 else "ip6"].append(str(network))
    return [(family, ", ".join(members)) for family, members in found.items() if members]
