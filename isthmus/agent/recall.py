"""What was in force before this process began: the last accepted form of each policy.

A policy that is refused now holds in the form that was accepted last, also when it was spoilt while no agent
ran. That form is kept twice: on disk, beside the last good inputs, and in this cluster's PolicyReports on the
hub (a new replica has an empty disk). Invariant: the reports are not written before they were read.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping

import msgspec
import structlog

from isthmus.agent.acceptance import AcceptedPolicy, PolicyKey
from isthmus.agent.chain import Chain
from isthmus.agent.inputs import SEED_SECONDS
from isthmus.agent.lastgood import LastGood
from isthmus.api import hub, kinds
from isthmus.api.meta import ObjectKey, ObjectMeta
from isthmus.api.policy import GlobalTrafficPolicy
from isthmus.errors import KubeError
from isthmus.flow import Table, spread
from isthmus.kube.backoff import Backoff
from isthmus.kube.client import Client
from isthmus.mcs.hubobjects import IN_MEMBER, ON_HUB, hub_namespace
from isthmus.model.names import ClusterId

SOURCES: Mapping[str, str] = {"member": "accepted/member", "hub": "accepted/hub"}
"""Where the store keeps accepted forms, by origin."""

Forms = dict[PolicyKey, GlobalTrafficPolicy]

log = structlog.get_logger()


class Recall:
    """Fills the table `remembered`; `complete` once it holds all that there is to remember."""

    def __init__(self, store: LastGood, client: Client | None, cluster: ClusterId) -> None:
        self.remembered: Table[PolicyKey, GlobalTrafficPolicy] = Table("remembered policies")
        self.complete = False
        self._writer = self.remembered.partition("recall")
        self._store = store
        self._client = client
        self._namespace = hub_namespace(cluster)

    async def run(self, chain: Chain) -> None:
        """Remembers, and keeps on disk what is accepted from then on, until cancelled."""
        forms = await self._from_disk()
        async with asyncio.TaskGroup() as group:
            for origin, source in SOURCES.items():
                table = kept(chain.accepted, origin)
                group.create_task(self._store.follow(source, table), name=f"lastgood-{source}")
            if self._client is not None:
                await self._ask(self._client, forms)
            else:
                self._writer.replace(forms)
                self.complete = True

    async def _from_disk(self) -> Forms:
        forms: Forms = {}
        for origin, source in SOURCES.items():
            found = await self._store.load(source, kinds.POLICY)
            if found is not None:
                forms |= {(origin, key): form for key, form in found[1].items()}
        return forms

    async def _ask(self, client: Client, forms: Forms) -> None:
        """Asks the hub until it answers; after a while what is on disk has to do meanwhile."""
        failures = 0
        while not self.complete:
            asked = None
            try:
                async with asyncio.timeout(SEED_SECONDS):
                    newer(forms, await _reported(client, self._namespace))
                self.complete = True
            except KubeError as error:
                asked, why = error.retry_after, str(error)
            except TimeoutError:
                why = "no answer"
            self._writer.replace(forms)
            if not self.complete:
                if not failures:
                    log.info("policy reports not read yet", error=why)
                await asyncio.sleep(Backoff().delay(failures, random.random(), asked))
                failures += 1


def kept(accepted: Table[PolicyKey, AcceptedPolicy], origin: str) -> Table[ObjectKey, GlobalTrafficPolicy]:
    """The forms that are in force of one origin's policies, as a table that follows."""
    table: Table[ObjectKey, GlobalTrafficPolicy] = Table(SOURCES[origin])

    def row(key: PolicyKey, found: AcceptedPolicy) -> Mapping[ObjectKey, GlobalTrafficPolicy]:
        return {key[1]: found.source} if key[0] == origin and found.source is not None else {}

    spread(accepted, table, row)
    return table


def newer(forms: Forms, reported: Forms) -> None:
    """Takes over what was reported where it is of another policy of that name, or of a later generation."""
    for key, form in reported.items():
        known = forms.get(key)
        if (
            known is None
            or known.metadata.uid != form.metadata.uid
            or known.metadata.generation < form.metadata.generation
        ):
            forms[key] = form


def form_of(report: hub.PolicyReport) -> tuple[PolicyKey, GlobalTrafficPolicy] | None:
    """The form that a report calls in force; None where none was."""
    spec = report.spec
    if spec.in_force is None or spec.origin not in (ON_HUB, IN_MEMBER):
        return None
    key = ObjectKey(spec.policy.namespace, spec.policy.name)
    metadata = ObjectMeta(
        namespace=key.namespace, name=key.name, uid=spec.uid, generation=spec.in_force_generation
    )
    form = GlobalTrafficPolicy(metadata=metadata, spec=msgspec.Raw(msgspec.json.encode(spec.in_force)))
    return (spec.origin.lower(), key), form


async def _reported(client: Client, namespace: str) -> Forms:
    """The forms in all reports of a namespace. Raises KubeError."""
    forms: Forms = {}
    async for page in client.list_pages(kinds.POLICY_REPORT, namespace=namespace):
        for item in page.items:
            try:
                found = form_of(kinds.POLICY_REPORT.decode(bytes(item)))
            except msgspec.DecodeError as error:
                log.warning("policy report unreadable", namespace=namespace, error=str(error))
                continue
            if found is not None:
                forms[found[0]] = found[1]
    return forms
