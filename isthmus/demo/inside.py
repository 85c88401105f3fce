"""The demo inside its namespaces: `python -m isthmus.demo.inside`, the first process there.

It reads its order from stdin and stops when stdin ends: whoever started it is gone then, or wants it to stop.
When it ends, by whatever cause, the kernel ends all others of its pid namespace and drops the network.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

from isthmus.demo import manifests, namespace, policies, population, silence
from isthmus.demo.acts import Acts, Outcome, Voice
from isthmus.demo.bidding import bidden, obey
from isthmus.demo.order import EXIT_CANNOT, EXIT_FAILED, Order
from isthmus.demo.stage import Say, Stage
from isthmus.demo.world import World, world
from isthmus.errors import ConfigError

ORDERS_KEPT = 16
"""Keys that wait while one is obeyed; more are forgotten."""


def build(order: Order, clusters: World, say: Say) -> tuple[list[population.Population], Stage]:
    """Read what the user gave and set the stage; ConfigError for what cannot be used."""
    found = manifests.read_manifests(Path(order.manifests), lenient=order.lenient)
    given = None
    if order.policy:
        written = manifests.read_manifests(Path(order.policy), lenient=order.lenient)
        given = written.policies
        if not given:
            raise ConfigError(f"{order.policy}: holds no GlobalTrafficPolicy")
        found.complaints += written.complaints
    for complaint in found.complaints:
        say(f"passed over: {complaint}")
    manifests.require_services(found, Path(order.manifests))
    services = population.services(found, export_all=order.export_all)
    if not any(s.exported and s.http_port is not None and not s.headless for s in services):
        raise ConfigError(
            f"{order.manifests}: no Service with an HTTP port is exported, so there is nothing to ask for; "
            f'annotate one with {population.EXPORT_ANNOTATION}: "true" or give --export-all'
        )
    try:
        populated = [population.populate(m, found, export_all=order.export_all) for m in clusters.members]
    except ValueError as error:
        raise ConfigError(f"{order.manifests}: {error}") from error
    stage = Stage(
        world=clusters,
        populations=populated,
        services=services,
        policies=policies.policies_for(services, found.policies, given),
        envoy=Path(order.envoy),
        folder=Path(order.folder),
        say=say,
    )
    if not stage.routed:
        raise ConfigError(
            f"{order.manifests}: no exported Service with an HTTP port selects a pod, so nobody can answer"
        )
    return populated, stage


async def play(order: Order, outcome: Outcome, keys: asyncio.Queue[str]) -> None:
    """The whole demo; `keys` are what the user presses."""
    clusters = world(order.clusters)
    voice = Voice()
    populated, stage = build(order, clusters, voice.say)
    namespace.furnish()
    silence.install()
    async with stage:
        acts = Acts(order, stage, voice, keys, endpoints=sum(len(p.pods) for p in populated))
        # Nobody acts on a stage that is being cleared, or draws on a terminal that is given back.
        await stage.processes.unbroken(acts.play(outcome), "acts")


async def _listen(reader: asyncio.StreamReader, keys: asyncio.Queue[str]) -> None:
    """Pass on what the user presses, a key per line; returns when stdin ends."""
    while line := await reader.readline():
        if not keys.full():
            keys.put_nowait(line.decode(errors="replace").strip())


async def _main() -> int:
    order, reader = await bidden(Order)
    outcome = Outcome()
    keys: asyncio.Queue[str] = asyncio.Queue(ORDERS_KEPT)
    piece = asyncio.create_task(play(order, outcome, keys), name="play")
    code = await obey(piece, asyncio.create_task(_listen(reader, keys), name="stdin"), "isthmus")
    code = outcome.code if code is None else code
    if code not in (EXIT_FAILED, EXIT_CANNOT) or order.keep:
        shutil.rmtree(order.folder, ignore_errors=True)
    return code


def main() -> None:
    code = asyncio.run(_main())
    sys.stdout.flush()
    sys.exit(code)


if __name__ == "__main__":
    main()
