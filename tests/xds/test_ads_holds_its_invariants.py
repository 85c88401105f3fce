"""The protocol core against any order of changes, answers, rejections, repetitions and reconnects."""

from __future__ import annotations

from itertools import pairwise

from ads_client import CDS, EDS, LDS, RDS, Client, World, contents, key, routes, value
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from isthmus.xds import ads, wire
from isthmus.xds.rows import ResourceType

SERVICES = st.sampled_from(["a", "b", "c", "d"])
NUMBERS = st.integers(0, 2)


class AdsMachine(RuleBasedStateMachine):
    """A client that answers when it likes, and rows that change meanwhile.

    In every other run it is `patient`: it accepts everything and no answer is late, so that what must hold
    for such clients is really tried.
    """

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.apply(rds=routes(()))
        self.ready = False
        self.services: set[str] = set()
        self.patient = False
        self.connect()

    @initialize(patient=st.booleans(), ready=st.booleans())
    def begin(self, patient: bool, ready: bool) -> None:
        self.patient = patient
        if ready:
            self.control_renders_the_class()

    def connect(self) -> None:
        self.client: Client = self.world.connect()
        self.client.start()
        self.late = False
        self.seen = 0
        self.busy: dict[ResourceType, float] = {}

    @rule()
    def control_renders_the_class(self) -> None:
        self.ready = True
        self.world.apply(lds=b"listener")

    @rule(name=SERVICES, number=NUMBERS, together=st.booleans())
    def a_service_comes_or_changes(self, name: str, number: int, together: bool) -> None:
        self.services.add(name)
        change = {key(f"cds_{name}"): value(name, number), key(f"eds_{name}"): value(name, number)}
        route = {key("rds"): routes(self.services)}
        if together:
            self.world.batch({**change, **route})
        else:
            self.world.batch(change)
            self.world.batch(route)

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
        self.world.batch({key(f"cds_{name}"): value(name, number)})

    @precondition(lambda self: self.services)
    @rule(data=st.data(), number=NUMBERS)
    def health_flips(self, data: st.DataObject, number: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.services)))
        self.world.batch({key(f"eds_{name}"): value(name, number)})

    @precondition(lambda self: self.client.inbox)
    @rule()
    def the_client_accepts(self) -> None:
        self.client.process()

    @precondition(lambda self: self.client.inbox and not self.patient)
    @rule()
    def the_client_rejects(self) -> None:
        self.client.process(accept=False)

    @rule(kind=st.sampled_from(ResourceType), data=st.data())
    def an_old_request_comes_again(self, kind: ResourceType, data: st.DataObject) -> None:
        """Either the newest of its type, or one that answers an older response."""
        sent = self.client.sent[kind]
        if not sent:
            return
        chosen = data.draw(st.sampled_from(sent))
        nonce = ads.RequestReader().read(chosen)[0].nonce
        if chosen is sent[-1] or (nonce and nonce != self.newest_nonce(kind)):
            self.client.stream.request(chosen)

    @precondition(lambda self: not self.patient)
    @rule(seconds=st.sampled_from([0.5, 3.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.late = self.late or seconds >= ads.ACK_SECONDS / 2
        self.world.clock.now += seconds
        self.world.ads.tick()

    @rule()
    def the_transport_is_full(self) -> None:
        self.client.room = False

    @rule()
    def the_transport_drains(self) -> None:
        self.client.room = True
        self.client.stream.drained()

    @rule()
    def the_client_reconnects(self) -> None:
        self.client.stream.close()
        self.connect()

    @rule()
    def everything_settles(self) -> None:
        self.the_transport_drains()
        refused = self.client.refused
        self.client.settle()
        if not self.patient:
            self.world.clock.now += 10
            self.world.ads.tick()
            self.client.settle()
        assert not self.client.inbox
        if not self.ready:
            assert not self.client.received
            return
        if refused:
            return
        assert self.client.view[CDS] == self.world.held(CDS)
        assert not self.client.warming
        assert self.client.view[EDS] == self.world.held(EDS)
        assert self.client.view[LDS] == self.world.held(LDS)
        assert self.client.view[RDS] == {"explicit": routes(self.services)}

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
                asked = {name for data in self.client.sent[EDS] for name in names_in(data)}
                assert set(contents(response)) <= asked
        self.seen = len(received)

    @invariant()
    def one_response_of_a_type_waits_for_its_answer(self) -> None:
        if not self.late:
            kinds = [r.type_url for r in self.client.inbox]
            assert len(set(kinds)) == len(kinds)

    @invariant()
    def accepted_routes_name_only_clusters_that_the_client_has(self) -> None:
        if self.client.refused or self.late:
            return
        for config in self.client.view[RDS].values():
            for name in "abcd":
                if wire.field(1, name) in config:
                    assert name in self.client.view[CDS]

    @invariant()
    def a_full_state_is_not_sent_twice_in_a_row(self) -> None:
        for kind in (CDS, LDS):
            sent = [contents(r) for r in self.client.received if r.type_url.endswith(MESSAGES[kind])]
            assert all(before != after for before, after in pairwise(sent))


MESSAGES = {
    CDS: ".Cluster",
    EDS: ".ClusterLoadAssignment",
    LDS: ".Listener",
    RDS: ".RouteConfiguration",
}


def names_in(data: bytes) -> frozenset[str]:
    return ads.RequestReader().read(data)[0].names or frozenset()


AdsMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestAdsHoldsItsInvariants = AdsMachine.TestCase
