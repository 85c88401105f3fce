"""Callers in a zone get what the plan says for that zone; all others what holds for the cluster."""

from __future__ import annotations

import ipaddress
from itertools import pairwise
from typing import Any

import dns.edns
import dns.rcode
import pytest
from dnslive import worker
from hypothesis import given
from hypothesis import strategies as st

from isthmus.dns import places, row
from isthmus.dns.places import ANYWHERE, ZONES_KEY, Lookup, Places, Prefix, Range, Zones, ranges
from isthmus.errors import WireError
from isthmus.model.names import ClusterId, Vantage

DB = "db.shop.svc.clusterset.local"
WEB = "web.shop.svc.clusterset.local"
NEAR, FAR = (Vantage("eu", zone, ClusterId("eu-1")) for zone in ("eu-a", "eu-b"))
POD = {"": "10.64.0.1", "near": "10.64.1.1", "far": "10.64.2.1"}


def network(text: str) -> tuple[bytes, int]:
    found = ipaddress.ip_network(text)
    return found.network_address.packed, found.prefixlen


def zones(*known: tuple[str, Vantage, bool]) -> Zones:
    vantages = sorted({str(vantage) for _, vantage, _ in known})
    return Zones(
        tuple(vantages),
        tuple(Prefix(*network(text), vantages.index(str(at)), pods) for text, at, pods in known),
    )


NODES = zones(
    ("10.0.1.1/32", NEAR, False),
    ("10.0.1.2/32", NEAR, False),
    ("10.0.2.1/32", FAR, False),
    ("fd00::1/128", NEAR, False),
    ("10.244.1.0/24", NEAR, True),
    ("10.244.2.0/24", FAR, True),
)


def rows(make: Any, headless: bool = True) -> dict[Vantage, bytes]:
    """Each zone is sent to its own pod, all others to a third one."""
    service = make.service("shop/db" if headless else "shop/web", headless=headless)
    return {
        at: make.render(service, [], make.plans(str(service.key), ("eu-1", 10_000, [pod])))
        for at, pod in zip((make.vantage, NEAR, FAR), POD.values(), strict=True)
    }


@pytest.fixture
def world(new_server: Any, make: Any) -> Any:
    server = new_server()
    server.zone.stand(NODES)
    for at, raw in rows(make).items():
        place = ANYWHERE if at == make.vantage else server.zone.places.number(str(at))
        server.zone.put("shop/db", row.decode(raw), place)
    return server


@pytest.mark.parametrize(
    ("client", "pod"),
    [
        ("10.0.1.1", "near"),
        ("10.0.1.2", "near"),
        ("10.0.2.1", "far"),
        ("fd00::1", "near"),
        ("10.0.1.3", ""),
        ("10.0.0.255", ""),
        ("10.244.1.7", ""),
        ("fd00::2", ""),
    ],
)
def test_the_address_of_a_node_says_the_zone(world: Any, client: str, pod: str) -> None:
    before = world.answered_fast
    assert world.data(DB, client=client) == [POD[pod]]
    assert world.data(DB, client=client, transport="tcp") == [POD[pod]]
    assert world.answered_fast == before + 2 * (world.fast is not None), "the core knows zones by itself"


def test_pods_stand_somewhere_where_they_ask_by_themselves(make: Any) -> None:
    held = Places(direct=True)
    held.set(NODES)
    assert held.of_asker("10.244.1.7") == held.of_asker("10.0.1.1") == held.number(str(NEAR))
    assert held.of_asker("10.244.2.255") == held.number(str(FAR))
    assert held.of_asker("10.244.3.0") == held.of_asker("no address") == ANYWHERE


@pytest.mark.parametrize(
    ("subnet", "pod"),
    [
        ("10.0.1.0/24", "near"),
        ("10.0.2.1/32", "far"),
        ("10.244.2.0/25", "far"),
        ("10.244.1.0/24", "near"),
        ("10.0.0.0/16", ""),
        ("10.244.0.0/16", ""),
        ("192.0.2.0/24", ""),
        ("fd00::/64", "near"),
        ("::/1", ""),
    ],
)
def test_a_subnet_goes_before_the_address_where_it_lies_in_one_zone(
    world: Any, subnet: str, pod: str
) -> None:
    address, length = subnet.split("/")
    option = dns.edns.ECSOption(address, int(length))
    for client in ("10.0.1.1", "10.0.2.1", "10.9.9.9"):
        reply = world.ask(DB, client=client, use_edns=0, options=[option])
        assert reply.answer[0][0].to_text() == POD[pod]
        assert reply.options[0].scopelen == int(length)


def test_names_that_only_a_zone_has_are_there_for_it_alone(world: Any) -> None:
    for client, pod in (("10.0.1.1", "near"), ("10.0.2.1", "far"), ("10.9.9.9", "")):
        for other in POD.values():
            name = f"{other.replace('.', '-')}.eu-1.{DB}"
            wanted = "NOERROR" if other == POD[pod] else "NXDOMAIN"
            assert world.rcode(name, client=client) == wanted
    option = dns.edns.ECSOption("10.0.2.0", 24)
    reply = world.ask(f"10-64-1-1.eu-1.{DB}", use_edns=0, options=[option])
    assert (reply.rcode(), reply.options[0].scopelen) == (dns.rcode.NXDOMAIN, 24)


def test_srv_leads_to_the_pods_of_the_zone(world: Any) -> None:
    for client, pod in (("10.0.1.1", "near"), ("10.9.9.9", "")):
        (record,) = world.ask(f"_http._tcp.{DB}", "SRV", client=client).answer[0]
        assert str(record.target) == f"{POD[pod].replace('.', '-')}.eu-1.{DB}."


def test_rows_come_and_go_in_any_order(new_server: Any, make: Any) -> None:
    server = new_server()
    server.zone.stand(NODES)
    near = server.zone.places.number(str(NEAR))
    held = {at: row.decode(raw) for at, raw in rows(make).items()}
    server.zone.put("shop/db", held[NEAR], near)
    assert server.rcode(DB, client="10.0.1.1") == "NXDOMAIN", "nothing stands there for the others yet"
    server.zone.put("shop/db", held[make.vantage])
    assert server.data(DB, client="10.0.1.1") == [POD["near"]]
    assert server.data(DB) == [POD[""]]
    server.zone.put("shop/db", held[FAR], near)
    assert server.data(DB, client="10.0.1.1") == [POD["far"]]
    server.zone.drop("shop/db", near)
    assert server.data(DB, client="10.0.1.1") == [POD[""]]
    server.zone.put("shop/db", held[NEAR], near)
    server.zone.drop("shop/db")
    assert server.rcode(DB, client="10.0.1.1") == server.rcode(DB) == "NXDOMAIN"
    server.zone.drop("shop/db", near)
    server.zone.drop("shop/db", near)
    assert server.rcode("shop.svc.clusterset.local") == "NXDOMAIN"
    assert server.zone.services == 0


def test_nodes_that_move_take_their_callers_along(world: Any) -> None:
    world.zone.stand(zones(("10.0.1.1/32", FAR, False)))
    assert world.data(DB, client="10.0.1.1") == [POD["far"]]
    assert world.data(DB, client="10.0.1.2") == [POD[""]]
    world.zone.stand(Zones())
    assert world.data(DB, client="10.0.1.1") == [POD[""]]


def test_addresses_that_two_zones_claim_are_of_neither() -> None:
    claimed = [(*network("10.0.0.0/8"), 1), (*network("10.1.0.0/16"), 1), (*network("10.1.0.0/16"), 2)]
    look = Lookup(ranges(claimed))
    number = int(ipaddress.ip_address("10.1.2.3"))
    assert look.of(number, number) == ANYWHERE
    assert look.of(number - (1 << 16), number - (1 << 16)) == 1
    assert ranges([(*network("::/0"), 1)]) == (), "IPv4 is counted among its first addresses"


PREFIXES = st.lists(
    st.tuples(st.integers(0, 255), st.sampled_from([0, 24, 28, 30, 31, 32]), st.integers(1, 3)), max_size=12
)


@given(PREFIXES, st.lists(st.integers(0, 300), min_size=1, max_size=30))
def test_the_longest_prefix_holds(claims: list[tuple[int, int, int]], asked: list[int]) -> None:
    base = int(ipaddress.ip_address("10.0.0.0"))
    held: dict[ipaddress.IPv4Network, set[int]] = {}
    for last, length, place in claims:
        held.setdefault(ipaddress.IPv4Network((base + last, length), strict=False), set()).add(place)
    prefixes = [
        (net.network_address.packed, net.prefixlen, place) for net, of in held.items() for place in of
    ]
    found = ranges(prefixes)
    assert all(before.last < after.first for before, after in pairwise(found))
    look = Lookup(found)
    for last in asked:
        number = base + last
        fitting = [net for net in held if ipaddress.IPv4Address(number) in net]
        best = held[max(fitting, key=lambda net: net.prefixlen)] if fitting else set()
        assert look.of(number, number) == (next(iter(best)) if len(best) == 1 else ANYWHERE)
    overlapped = {one.place for one in found if one.first <= base + 255 and base <= one.last}
    assert look.of(base, base + 255) == (overlapped.pop() if len(overlapped) == 1 else ANYWHERE)


@pytest.mark.parametrize(
    "raw",
    [
        b"\xc1",
        places.encode(Zones((), (Prefix(b"\x0a\x00\x00\x01", 32, 0),))),
        places.encode(Zones(("eu-1/eu/a",), (Prefix(b"\x0a\x00\x00\x01", 33, 0),))),
        places.encode(Zones(("eu-1/eu/a",), (Prefix(b"\x0a\x00\x00\x01\x00", 32, 0),))),
    ],
)
def test_a_row_of_zones_that_is_none_is_refused(raw: bytes) -> None:
    with pytest.raises(WireError, match="not a row of zones"):
        places.decode(raw)


def test_the_core_takes_only_ranges_in_order(library: Any, new_server: Any, make: Any) -> None:
    if library is None:
        pytest.skip("no C compiler (cc) to build the fast path with")
    server = new_server()
    server.zone.stand(NODES)
    for at, raw in rows(make).items():
        place = ANYWHERE if at == make.vantage else server.zone.places.number(str(at))
        server.zone.put("shop/db", row.decode(raw), place)
    server.fast.places([Range(9, 5, 1)])
    server.fast.places([Range(5, 9, 1), Range(9, 12, 2)])
    assert server.data(DB, client="10.0.1.1") == [POD["near"]], "what was known before stays"


@given(st.lists(st.integers(0, 60), max_size=80))
def test_a_variant_that_is_not_sound_is_refused_or_answered_within_bounds(
    library: Any, words: list[int]
) -> None:
    if library is None:
        pytest.skip("no C compiler (cc) to build the fast path with")
    import struct

    from isthmus.dns.fastpath import FastPath

    fast = FastPath(library, 1232)
    try:
        fast.zone(b"\x01z\x00", 1, 5, ready=True)
        fast.places([Range(0, 1 << 32, 1)])
        fast.put(b"\x01a\x01z\x00", struct.pack(f"={len(words) + 1}I", 0xFFFFFFFF, *words))
        for client in ("10.0.0.1", "::ffff:1"):
            query = struct.pack("!6H", 1, 0, 1, 0, 0, 0) + b"\x01a\x01z\x00" + struct.pack("!HH", 1, 1)
            fast.answer(query, client, 0, "udp")
    finally:
        fast.close()


async def test_dig_from_a_node_and_for_a_subnet_is_told_what_its_zone_is(make: Any, path: str) -> None:
    loopback = zones(
        ("127.0.1.1/32", NEAR, False), ("127.0.2.1/32", FAR, False), ("10.244.2.0/24", FAR, True)
    )
    async with worker(make) as live:
        live.rows.put(ZONES_KEY, places.encode(loopback))
        for headless in (True, False):
            for at, raw in rows(make, headless=headless).items():
                live.rows.put(row.row_key(at, make.service("shop/db" if headless else "shop/web").key), raw)
        for name in (DB, WEB):
            await live.until(lambda reply: bool(reply.answer), name=name)
            for source, pod in (("127.0.0.1", ""), ("127.0.1.1", "near"), ("127.0.2.1", "far")):
                assert (await live.dig("-b", source, name, "+short")).split() == [POD[pod]]
                assert (await live.dig("-b", source, name, "+short", "+tcp")).split() == [POD[pod]]
            for subnet, pod in (("127.0.1.0/24", "near"), ("10.244.2.128/25", "far"), ("192.0.2.0/24", "")):
                told = await live.dig(name, f"+subnet={subnet}", "+noall", "+answer", "+comments")
                assert POD[pod] in told
                assert f"CLIENT-SUBNET: {subnet}/{subnet.partition('/')[2]}" in told
        assert live.standing is not None
        assert live.standing.front.fast is None or path == "fast"


def test_what_is_the_same_for_all_zones_is_held_once(make: Any) -> None:
    from isthmus.dns.compiled import compiled
    from isthmus.dns.node import Drawn, Placed, Pool

    members = row.decode(rows(make)[NEAR])
    assert members.draw is not None
    nodes = [Drawn(Pool(members.draw, 5), members.members) for _ in range(4)]
    alone = compiled(nodes[0], 30)
    assert compiled(Placed(nodes[0], {1: nodes[1], 2: nodes[2]}), 30) == alone
    mixed = compiled(Placed(nodes[0], {1: None, 2: nodes[2], 3: nodes[3]}), 30)
    assert mixed.count(alone) == 1
