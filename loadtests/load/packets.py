"""Packets that vanish: each fault has a chain of its own, so that faults may overlap.

Rules drop by destination on the way in. What goes to an address of the bed comes from the same address
(`isthmus.demo.world`), so both directions fall silent.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from isthmus.demo.namespace import run_tool

TABLE = "inet isthmus_load"
FIRST_EPHEMERAL = 32_768
"""The local port of who calls; pods listen below."""
_HOOK = "type filter hook input priority 0; policy accept;"
_numbers = itertools.count(1)


class Wall:
    """A chain of rules that drop."""

    def __init__(self, name: str) -> None:
        self.name = name

    def dropped(self) -> int:
        """Packets that its rules have caught so far."""
        listed = json.loads(run_tool("nft", "-j", "list", "chain", *TABLE.split(), self.name))
        return sum(
            int(part["counter"]["packets"])
            for item in listed["nftables"]
            if "rule" in item
            for part in item["rule"]["expr"]
            if "counter" in part
        )


@contextmanager
def walled(rules: Sequence[str], verdict: str = "drop") -> Iterator[Wall]:
    """What fits one of these rules of nft (`ip daddr 10.65.0.0/17 tcp dport 8080`) meets the verdict."""
    name = f"wall_{next(_numbers)}"
    lines = [f"  {rule} counter {verdict}" for rule in rules]
    feed = "\n".join([f"table {TABLE} {{", f" chain {name} {{ {_HOOK}", *lines, " }", "}", ""])
    run_tool("nft", "-f", "-", feed=feed)
    try:
        yield Wall(name)
    finally:
        run_tool("nft", "delete", "chain", *TABLE.split(), name)


def walls() -> int:
    """How many chains there are now."""
    listed = json.loads(run_tool("nft", "-j", "list", "ruleset"))
    return sum("chain" in item for item in listed["nftables"])


@contextmanager
def dropping(addresses: Sequence[str]) -> Iterator[Wall]:
    """All that goes to these addresses or prefixes."""
    with walled([f"ip daddr {{ {', '.join(addresses)} }}"]) as wall:
        yield wall


@contextmanager
def refusing(addresses: Sequence[str]) -> Iterator[Wall]:
    """TCP to these addresses is reset, in connections that exist too: what a pod that is gone looks like."""
    # The resets themselves must pass: they go to the caller, who has the same address.
    rule = f"ip daddr {{ {', '.join(addresses)} }} tcp flags & rst == 0"
    with walled([rule], "reject with tcp reset") as wall:
        # Who waits for an answer sends nothing that could be reset, so the pod's ends are closed as well, as
        # the kernel closes those of a process that it kills. A kernel that cannot lets such callers wait.
        ends = " or ".join(f"src {address}" for address in addresses)
        run_tool("ss", "--kill", "--tcp", "--no-header", f"( {ends} ) and sport < :{FIRST_EPHEMERAL}")
        yield wall
