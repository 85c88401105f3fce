"""Dropping packets: the death that says nothing.

One nft table in the demo's own namespace. Rules drop by destination on the way in; what goes to an address
of the demo comes from the same address, so both directions fall silent. Rules count what they drop.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from isthmus.demo.namespace import run_tool

_TABLE = "inet isthmus_demo"


def install() -> None:
    """Create the table, with nothing in it that drops."""
    chain = "type filter hook input priority 0; policy accept;"
    run_tool("nft", "-f", "-", feed=f"table {_TABLE} {{\n chain arriving {{ {chain} }}\n}}\n")


def drop(addresses: Sequence[str]) -> None:
    """Drop all that goes to these addresses or prefixes, from now on and in connections that exist."""
    run_tool(
        "nft",
        "add",
        "rule",
        *_TABLE.split(),
        "arriving",
        f"ip daddr {{ {', '.join(addresses)} }} counter drop",
    )


def only(addresses: Sequence[str]) -> None:
    """Drop what goes to these and to nothing else, in one step; counting begins anew."""
    chain = f"{_TABLE} arriving"
    rule = f"add rule {chain} ip daddr {{ {', '.join(addresses)} }} counter drop\n" if addresses else ""
    run_tool("nft", "-f", "-", feed=f"flush chain {chain}\n{rule}")


def dropped() -> int:
    """Packets that the present rules have dropped so far."""
    listed = json.loads(run_tool("nft", "-j", "list", "chain", *_TABLE.split(), "arriving"))
    return sum(
        int(part["counter"]["packets"])
        for item in listed["nftables"]
        if "rule" in item
        for part in item["rule"]["expr"]
        if "counter" in part
    )


def lift() -> None:
    """Let everything pass again."""
    run_tool("nft", "flush", "chain", *_TABLE.split(), "arriving")
