"""The protocol core against any order of changes and answers, with requests lost, late and repeated."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from ads_client import CDS, EDS, LDS, POISON, RDS, Client, DeltaClient, World, contents, key, routes, value
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from isthmus.xds import stream, wire
from isthmus.xds.names import NameSets
from isthmus.xds.request import RequestReader
from isthmus.xds.rows import ResourceType
from isthmus.xds.snapshot import Variant

SERVICES = st.sampled_from(["a", "b", "c", "d"])
NUMBERS = st.sampled_from([0, 1, 2, 9])
"""9 is what the client rejects."""


class AdsMachine(RuleBasedStateMachine):
    """A client that answers when it likes, and rows that change meanwhile.

    In every other run it is `patient`: it accepts everything that is not bad and no answer is late or lost,
    so that what must hold for such clients is really tried.
    """

    variant = Variant.SOTW

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.apply(rds=routes(()))
        self.ready = False
        self.services: set[str] = set()
        self.ever_bad: set[str] = set()
        self.patient = False
        self.odd = self.late = False
        """Odd: the client brings along what an earlier stream left half done."""
        self.client: Client | None = None
        self.connect()

    @initialize(patient=st.booleans(), ready=st.booleans())
    def begin(self, patient: bool, ready: bool) -> None:
        self.patient = patient
        if ready:
            self.control_renders_the_class()

    def connect(self) -> None:
        if self.variant is Variant.SOTW:
            self.client = self.world.connect()
        else:
            assert self.client is None or isinstance(self.client, DeltaClient)
            self.odd = self.odd or (self.client is not None and (self.client.refused or self.late))
            self.client = self.world.connect_delta(self.client)
        self.client.start()
        self.late = False
        self.seen = 0

    @rule()
    def control_renders_the_class(self) -> None:
        self.ready = True
        self.world.apply(lds=b"listener")

    @rule(name=SERVICES, number=NUMBERS, together=st.booleans())
    def a_service_comes_or_changes(self, name: str, number: int, together: bool) -> None:
        self.services.add(name)
        self.note(name, number)
        change = {key(f"cds_{name}"): value(name, number), key(f"eds_{name}"): value(name, number)}
        route = {key("rds"): routes(self.services)}
        if together:
            self.world.batch({**change, **route})
        else:
            self.world.batch(change)
            self.world.batch(route)

    def note(self, name: str, number: int) -> None:
        if value(name, number).endswith(POISON):
            self.ever_bad.add(name)

    @precondition(lambda self: self.services)
    @rule(data=st.data(), order=st.sampled_from(["together", "routes first", "cluster first"]))
    def a_service_goes(self, data: st.DataObject, order: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.services)))
        self.services.remove(name)
        gone: dict[str, bytes | None] = {key(f"cds_{name}"): None, key(f"eds_{name}"): None}
        route: dict[str, bytes | None] = {key("rds"): routes(self.services)}
        match order:
            case "together":
                self.world.batch(gone | route)
            case "routes first":
                self.world.batch(route)
                self.world.batch(gone)
            case _:
                self.world.batch(gone)
                self.world.batch(route)

    @precondition(lambda self: self.services)
    @rule(data=st.data(), number=NUMBERS)
    def a_policy_changes_a_cluster(self, data: st.DataObject, number: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.services)))
        self.note(name, number)
        self.world.batch({key(f"cds_{name}"): value(name, number)})

    @precondition(lambda self: self.services)
    @rule(data=st.data(), number=NUMBERS)
    def health_flips(self, data: st.DataObject, number: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.services)))
        self.world.batch({key(f"eds_{name}"): value(name, number)})

    @precondition(lambda self: self.client.inbox)
    @rule()
    def the_client_answers(self) -> None:
        self.client.process()

    @precondition(lambda self: self.client.inbox and not self.patient)
    @rule()
    def the_client_rejects(self) -> None:
        self.client.process(accept=False)

    @rule()
    def requests_are_on_their_way_for_long(self) -> None:
        self.client.held = True

    @precondition(lambda self: self.client.transit)
    @rule(data=st.data())
    def a_request_arrives(self, data: st.DataObject) -> None:
        """Those of one type in their order, but before or behind those of another."""
        self.client.arrive(data.draw(st.sampled_from(sorted({kind for kind, _, _ in self.client.transit}))))

    @precondition(lambda self: not self.patient and any(answer for _, _, answer in self.client.transit))
    @rule(data=st.data())
    def an_answer_is_lost(self, data: st.DataObject) -> None:
        """One without news of the subscription; for others there is no protocol."""
        lost = data.draw(st.sampled_from([item for item in self.client.transit if item[2]]))
        if self.variant is Variant.SOTW and any(
            kind is lost[0] for kind, _, _ in self.client.transit[self.client.transit.index(lost) + 1 :]
        ):
            return  # the next one says what this one said
        self.client.transit.remove(lost)
        self.late = True
        if b"cannot take" in lost[1]:
            self.client.refused = True

    @precondition(lambda self: not self.client.transit)
    @rule(kind=st.sampled_from(ResourceType), data=st.data())
    def an_old_request_comes_again(self, kind: ResourceType, data: st.DataObject) -> None:
        """Either the newest of its type, or one that answers an older response."""
        sent = self.client.sent[kind]
        if not sent:
            return
        chosen = data.draw(st.sampled_from(sent))
        if self.variant is Variant.DELTA:
            if self.pure_answer(chosen):
                self.client.stream.request(chosen)
            return
        nonce = RequestReader(NameSets()).read(chosen).nonce
        if chosen is sent[-1] or (nonce and nonce != self.newest_nonce(kind)):
            self.client.stream.request(chosen)

    def pure_answer(self, data: bytes) -> bool:
        request = DeltaClient.request_type.FromString(data)
        names = request.resource_names_subscribe or request.resource_names_unsubscribe
        return bool(request.response_nonce) and not names

    @precondition(lambda self: not self.patient)
    @rule(seconds=st.sampled_from([0.5, 3.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.late = self.late or seconds >= stream.ACK_SECONDS / 2
        self.world.clock.now += seconds
        self.world.ads.tick()

    @rule()
    def the_transport_is_full(self) -> None:
        self.client.room = False

    @rule()
    def the_transport_drains(self) -> None:
        self.client.room = True
        self.client.stream.drained()

    @rule(data=st.data(), meanwhile=st.sampled_from(["nothing", "comes", "goes"]), name=SERVICES)
    def the_client_reconnects(self, data: st.DataObject, meanwhile: str, name: str) -> None:
        self.client.stream.close()
        if meanwhile == "comes":
            self.a_service_comes_or_changes(name, 1, True)
        if meanwhile == "goes" and self.services:
            self.a_service_goes(data, "together")
        self.connect()

    @rule()
    def everything_settles(self) -> None:
        self.the_transport_drains()
        self.client.settle()
        for _ in range(3):
            self.world.clock.now += 0 if self.patient else 10
            self.world.ads.tick()
            self.client.settle()
        assert not self.client.inbox
        if not self.ready:
            assert not self.client.received
            return
        if self.client.refused:
            return
        self.odd = False
        for kind in ResourceType:
            self.holds_all_that_is_good(kind)
        bad = {name for name, one in self.world.held(EDS).items() if one.endswith(POISON)}
        assert self.client.warming <= bad
        assert self.client.view[RDS] == {"explicit": routes(self.services)}

    def holds_all_that_is_good(self, kind: ResourceType) -> None:
        """What is bad is missing, or is what was good before."""
        there, has = self.world.held(kind), self.client.view[kind]
        assert has.keys() <= there.keys()
        for name, one in there.items():
            if one.endswith(POISON):
                assert not has.get(name, b"").endswith(POISON)
            elif kind is not EDS or name in self.client.view[CDS]:
                assert has[name] == one

    def newest_nonce(self, kind: ResourceType) -> str:
        found = [r.nonce for r in self.client.received if r.type_url.endswith(MESSAGES[kind])]
        return found[-1] if found else ""

    @invariant()
    def nothing_is_sent_before_the_class_is_rendered(self) -> None:
        assert self.ready or not self.client.received

    @invariant()
    def nonces_are_unique_and_names_were_asked_for(self) -> None:
        received = self.client.received
        assert len({r.nonce for r in received}) == len(received)
        for response in received[self.seen :]:
            if response.type_url.endswith(MESSAGES[EDS]):
                asked = {name for data in self.client.sent[EDS] for name in self.names_in(data)}
                assert set(contents(response)) <= asked
        self.seen = len(received)

    def names_in(self, data: bytes) -> frozenset[str]:
        if self.variant is Variant.DELTA:
            return frozenset(DeltaClient.request_type.FromString(data).resource_names_subscribe)
        names = RequestReader(NameSets()).read(data).names
        assert names is not None
        return names.held

    @invariant()
    def a_change_finds_exactly_who_wants_it(self) -> None:
        ads = self.world.ads
        for one in ads.streams():
            for kind, subscription in one.subscriptions.items():
                for name in ("a", "explicit"):
                    found = list(ads.holders.wanting((kind, one.scopes[kind]), {name}))
                    assert found == ([one] if subscription.wants(name) else [])

    @invariant()
    def one_response_of_a_type_waits_for_its_answer(self) -> None:
        if not self.late:
            kinds = [r.type_url for r in self.client.inbox]
            assert len(set(kinds)) == len(kinds)

    @invariant()
    def accepted_routes_name_only_clusters_that_the_client_has(self) -> None:
        """But for those that it may never have accepted."""
        if self.client.refused or self.late or self.odd:
            return
        for config in self.client.view[RDS].values():
            for name in "abcd":
                if wire.field(1, name) in config and name not in self.ever_bad:
                    assert name in self.client.view[CDS]

    @invariant()
    def nothing_that_was_accepted_is_sent_twice_in_a_row(self) -> None:
        if self.variant is Variant.DELTA:
            return
        for kind in (CDS, LDS):
            sent = [contents(r) for r in self.client.received if r.type_url.endswith(MESSAGES[kind])]
            assert all(before != after for before, after in pairwise(sent))


MESSAGES = {
    CDS: ".Cluster",
    EDS: ".ClusterLoadAssignment",
    LDS: ".Listener",
    RDS: ".RouteConfiguration",
}


class DeltaMachine(AdsMachine):
    """The same with the incremental variant, where a client that comes back brings what it has."""

    variant = Variant.DELTA


_SETTINGS: Any = settings(max_examples=200, stateful_step_count=50, deadline=None)
AdsMachine.TestCase.settings = _SETTINGS
DeltaMachine.TestCase.settings = _SETTINGS
TestAdsHoldsItsInvariants = AdsMachine.TestCase
TestDeltaHoldsItsInvariants = DeltaMachine.TestCase
