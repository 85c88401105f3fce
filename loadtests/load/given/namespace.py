"""The namespace of the shop: made anew for each bed, gone from every cluster after it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from isthmus.api.meta import ObjectKey
from isthmus.errors import Conflict, KubeError, NotFound, PlatformError
from isthmus.kube.client import Client
from loadtests.load.clusterset import POLL_SECONDS
from loadtests.load.given import shop

MANAGER = "isthmus-load"
GONE_SECONDS = 300.0


async def claim(client: Client) -> None:
    """Makes the namespace anew; PlatformError where somebody else has one of that name."""
    await remove(client)
    body = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": shop.NAMESPACE, "labels": {shop.MADE: "true"}},
    }
    try:
        await client.create(shop.NAMESPACES, body, manager=MANAGER)
    except Conflict as error:
        raise PlatformError(
            f"{client.access.name} has a namespace {shop.NAMESPACE} that is not ours: rename or delete it"
        ) from error


async def remove(client: Client) -> None:
    """Deletes the namespace and waits for its end; one that somebody else made is left alone."""
    key = ObjectKey("", shop.NAMESPACE)
    with contextlib.suppress(NotFound):
        if shop.MADE not in (await client.get(shop.NAMESPACES, key)).metadata.labels:
            return
        await client.delete(shop.NAMESPACES, key)
        await gone(client)


async def gone(client: Client) -> None:
    """Waits until there is no such namespace; PlatformError where it stays."""
    with contextlib.suppress(NotFound):
        try:
            async with asyncio.timeout(GONE_SECONDS):
                while True:
                    await client.get(shop.NAMESPACES, ObjectKey("", shop.NAMESPACE))
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError as error:
            raise PlatformError(
                f"{client.access.name} still has the namespace {shop.NAMESPACE} after {GONE_SECONDS:g} s: "
                "its status says what it waits for"
            ) from error


async def remove_from(clients: Mapping[str, Client]) -> None:
    """Takes the namespace away everywhere; what one cluster says does not spare another."""
    found = await asyncio.gather(*(remove(client) for client in clients.values()), return_exceptions=True)
    for name, error in zip(clients, found, strict=True):
        if isinstance(error, KubeError | PlatformError):
            raise PlatformError(f"namespace {shop.NAMESPACE} of {name} is left: {error}") from error
        if error is not None:
            raise error
