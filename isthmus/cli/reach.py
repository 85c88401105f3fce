"""The options that say which agents are asked and how the answer is printed.

Every verb imports this, so it imports nothing but typer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

AGENT_NAMESPACE = "isthmus-system"


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


Agents = Annotated[
    list[str] | None,
    typer.Option(
        "--agent",
        envvar="ISTHMUS_AGENTS",
        metavar="URL",
        help="Console of an agent; repeatable, or several with commas between.",
    ),
]
Kubeconfig = Annotated[
    str | None,
    typer.Option(
        envvar="KUBECONFIG", metavar="FILE", help="Where contexts are found; default: ~/.kube/config."
    ),
]
Contexts = Annotated[
    list[str] | None,
    typer.Option(
        "--context",
        metavar="NAME",
        help="Ask the agents of that context's cluster, through its API server; repeatable. Default: the "
        "current one.",
    ),
]
AgentNamespace = Annotated[str, typer.Option(metavar="NAME", help="Namespace that the agents' pods run in.")]
Timeout = Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How long an agent may take.")]
Output = Annotated[Format, typer.Option("--output", "-o", help="table, json or yaml.", metavar="FORMAT")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Which agents are asked: those at `urls`, or, where there are none, those of the contexts."""

    urls: tuple[str, ...] = ()
    kubeconfig: str = ""
    contexts: tuple[str, ...] = ()
    namespace: str = AGENT_NAMESPACE
    seconds: float = 5.0


def reach(
    agents: list[str] | None,
    kubeconfig: str | None,
    contexts: list[str] | None,
    namespace: str,
    seconds: float,
) -> Reach:
    """The options together. A context on the command line goes before agents from the environment."""
    urls = tuple(url.strip().rstrip("/") for text in agents or () for url in text.split(",") if url.strip())
    return Reach(
        urls=() if contexts else urls,
        kubeconfig=kubeconfig or "",
        contexts=tuple(contexts or ()),
        namespace=namespace,
        seconds=seconds,
    )
