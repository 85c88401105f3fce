"""`isthmus clusters drain|undrain|leave|forget`: what the hub's operator decides about a member.

They talk to the hub alone. Invariant: each can be repeated, and goes on where an earlier one was interrupted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from isthmus.api.hub import Cluster
    from isthmus.kube.client import Client

LOOK_SECONDS = 0.5

Name = Annotated[str, typer.Argument(metavar="NAME", help="The cluster's id.")]
HubKubeconfig = Annotated[
    str | None,
    typer.Option(
        envvar=["ISTHMUS_HUB_KUBECONFIG", "KUBECONFIG"],
        metavar="FILE",
        help="Kubeconfig of the hub; default: ~/.kube/config.",
    ),
]
HubContext = Annotated[
    str | None,
    typer.Option(
        envvar="ISTHMUS_HUB_CONTEXT", metavar="NAME", help="Context of the hub; default: the current one."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether this is meant.")]


def drain(name: Name, hub_kubeconfig: HubKubeconfig = None, hub_context: HubContext = None) -> None:
    """Send new sessions to other clusters; nothing is removed."""
    _run(_set_drain(name, True, hub_kubeconfig, hub_context))


def undrain(name: Name, hub_kubeconfig: HubKubeconfig = None, hub_context: HubContext = None) -> None:
    """End a drain: new sessions may come again."""
    _run(_set_drain(name, False, hub_kubeconfig, hub_context))


def leave(
    name: Name,
    yes: Yes = False,
    wait: Annotated[float, typer.Option(min=0.0, metavar="SECONDS", help="How long it may take.")] = 120.0,
    hub_kubeconfig: HubKubeconfig = None,
    hub_context: HubContext = None,
) -> None:
    """Let a living cluster leave: its agent withdraws its exports, then ends the membership."""
    _sure(yes, f"Cluster {name} stops exporting and importing. Go on?")
    _run(_leave(name, wait, hub_kubeconfig, hub_context))


def forget(
    name: Name,
    yes: Yes = False,
    force: Annotated[bool, typer.Option(help="Even if the cluster is alive.")] = False,
    hub_kubeconfig: HubKubeconfig = None,
    hub_context: HubContext = None,
) -> None:
    """Remove a cluster that is gone for good, with all it exported; its id is free again."""
    _sure(yes, f"All that cluster {name} has on the hub is deleted. Is it gone for good?")
    _run(_forget(name, force, hub_kubeconfig, hub_context))


def _run(work: Any) -> None:
    import asyncio

    typer.echo(asyncio.run(work))


def _sure(yes: bool, question: str) -> None:
    """Asks; nobody there to answer is no."""
    import sys

    from isthmus.errors import ConfigError

    if not yes and not sys.stdin.isatty():
        raise ConfigError("this cannot be undone and there is nobody to ask: say --yes")
    if not yes and not typer.confirm(question):
        raise typer.Exit(1)


def _hub(kubeconfig: str | None, context: str | None) -> Client:
    """A client of the hub, not yet open."""
    from pathlib import Path

    from isthmus.kube.client import Client
    from isthmus.kube.config import load_access

    first = (kubeconfig or "").split(":")[0] or "~/.kube/config"
    return Client(load_access(Path(first).expanduser(), context))


async def _member(client: Client, name: str) -> Cluster | None:
    """The Cluster object. Raises ConfigError for a name that is no id, and where the server is no hub."""
    from isthmus.api import kinds
    from isthmus.api.meta import ObjectKey
    from isthmus.errors import ConfigError, NotFound
    from isthmus.model.names import is_cluster_id

    if not is_cluster_id(name):
        raise ConfigError(f"{name!r} is not a cluster id")
    try:
        return await client.get(kinds.CLUSTER, ObjectKey("", name))
    except NotFound:
        pass  # the object or the kind: the list tells
    try:
        await client.list_page(kinds.CLUSTER, limit=1)
    except NotFound as error:
        raise ConfigError(
            f"{client.access.name} is not a hub (it knows no kind Cluster): say --hub-kubeconfig or "
            "--hub-context"
        ) from error
    return None


async def _known(client: Client, name: str) -> Cluster:
    from isthmus.errors import ConfigError

    found = await _member(client, name)
    if found is None:
        raise ConfigError(f"there is no cluster {name!r} on the hub: isthmus clusters lists them")
    return found


async def _set_drain(name: str, drained: bool, kubeconfig: str | None, context: str | None) -> str:
    from isthmus.api import kinds
    from isthmus.api.meta import ObjectKey

    async with _hub(kubeconfig, context) as client:
        await _known(client, name)
        await client.patch(kinds.CLUSTER, ObjectKey("", name), {"spec": {"drain": drained}})
    if drained:
        return f"{name} drains: new sessions go elsewhere. Undo: isthmus clusters undrain {name}"
    return f"{name} takes new sessions again"


async def _leave(name: str, wait: float, kubeconfig: str | None, context: str | None) -> str:
    import asyncio

    from isthmus.api import kinds
    from isthmus.api.meta import ObjectKey
    from isthmus.errors import ConfigError, Unreachable
    from isthmus.mcs.hubobjects import hub_namespace
    from isthmus.model.names import ClusterId

    async with _hub(kubeconfig, context) as client:
        found = await _known(client, name)
        if not found.spec.uid:
            raise ConfigError(f"no agent has ever run for {name}: isthmus clusters forget {name}")
        await client.patch(kinds.CLUSTER, ObjectKey("", name), {"spec": {"leave": True}})
        try:
            async with asyncio.timeout(wait):
                while await _member(client, name) is not None:  # noqa: ASYNC110 - another process' work
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError as error:
            raise Unreachable(
                f"{name} is told to leave and has not left after {wait:g} s; see its agent's log. Is it gone "
                f"for good? isthmus clusters forget {name}"
            ) from error
        await _delete(client, kinds.NAMESPACE, ObjectKey("", hub_namespace(ClusterId(name))))
    return f"{name} has left. Remove its agent, and its ClusterRole and bindings from the hub"


async def _forget(name: str, force: bool, kubeconfig: str | None, context: str | None) -> str:
    from isthmus.api import kinds
    from isthmus.api.meta import ObjectKey
    from isthmus.errors import ConfigError
    from isthmus.mcs.hubobjects import hub_namespace
    from isthmus.model.names import ClusterId

    space = ObjectKey("", hub_namespace(ClusterId(name)))
    async with _hub(kubeconfig, context) as client:
        found = await _member(client, name)
        if found is not None and found.status.state == "Ready" and not force:
            raise ConfigError(
                f"{name} is alive: let it leave (isthmus clusters leave {name}), or say --force; its agent "
                "would register it again"
            )
        gone = [found is not None and await _delete(client, kinds.CLUSTER, ObjectKey("", name))]
        for kind in (kinds.EXPORTED_SERVICE, kinds.EXPORTED_ENDPOINTS, kinds.LEASE):
            gone += [await _delete(client, kind, key) for key in await _keys(client, kind, space.name)]
        gone.append(await _delete(client, kinds.NAMESPACE, space))
    if not any(gone):
        raise ConfigError(f"the hub knows nothing of a cluster {name!r}")
    return f"{name} is forgotten. Remove its ClusterRole and bindings from the hub, if it had any"


async def _keys(client: Client, kind: Any, namespace: str) -> list[Any]:
    from isthmus.kube.raw import head_of

    pages = client.list_pages(kind, namespace=namespace)
    return [head_of(item).metadata.key async for page in pages for item in page.items]


async def _delete(client: Client, kind: Any, key: Any) -> bool:
    """Whether there was such an object."""
    from isthmus.errors import NotFound

    try:
        await client.delete(kind, key)
    except NotFound:
        return False
    return True
