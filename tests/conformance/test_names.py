"""The agents' DNS door: multi-cluster DNS 1.0.0, asked as a resolver asks it. Endpoints are addresses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import dns.rdatatype

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from clusterset import AMS, FRA, HTTP, IPV4, IPV6, MEMBERS, NYC, Space, pod, ready, stays

from isthmus.api import kinds

TCP = {"name": "tcp", "port": 42, "targetPort": 8042}
UDP = {"name": "udp", "port": 42, "protocol": "UDP", "targetPort": 8042}


def dashed(address: str) -> str:
    return address.replace(".", "-").replace(":", "-")


async def test_the_schema_version_stands_in_the_zone(space: Space) -> None:
    """Rules: D1. Specs: -."""
    for cluster in MEMBERS:
        await space.records(cluster, "dns-version.clusterset.local", "TXT", ['"1.0.0"'])
        answer = await space.ask(cluster, "dns-version.clusterset.local", "TXT")
        assert answer is not None
        assert answer.answer[0].ttl == 28_800


async def test_a_service_resolves_to_the_clusterset_addresses_of_the_cluster_that_asks(space: Space) -> None:
    """Rules: D2, R5. Specs: 18. A and AAAA, each family's address, as the import of that cluster says."""
    await space.offer(AMS, families=(IPV4, IPV6))
    for cluster in MEMBERS:
        ready_import = await space.imported(
            cluster, good=lambda one: len(one["spec"].get("ips") or ()) == len(one["spec"]["ipFamilies"])
        )
        ips = ready_import["spec"]["ips"]
        await space.records(cluster, space.host(), "A", [ip for ip in ips if ":" not in ip])
        await space.records(cluster, space.host(), "AAAA", [ip for ip in ips if ":" in ip])


async def test_srv_of_the_bare_name_has_each_port_number_once(space: Space) -> None:
    """Rules: D2. Specs: 19. TCP/42 and UDP/42 are one record; its target is the service's name."""
    await space.offer(AMS, ports=[TCP, UDP])
    for cluster in MEMBERS:
        (record,) = await space.records(cluster, space.host(), "SRV", lambda found: len(found) == 1)
        assert record.split()[2:] == ["42", f"{space.host()}."]


async def test_srv_of_a_named_port_leads_to_the_service_and_an_unnamed_port_has_none(space: Space) -> None:
    """Rules: D2, C3. Specs: -. Of merged ports too; the address comes along."""
    await space.offer(AMS, ports=[TCP, UDP])
    await space.offer(FRA, ports=[{"name": "more", "port": 81}])
    for name, port in (("_tcp._tcp", "42"), ("_udp._udp", "42"), ("_more._tcp", "81")):
        wanted = f"{name}.{space.host()}"
        (record,) = await space.records(NYC, wanted, "SRV", lambda found: len(found) == 1)
        assert record.split()[2:] == [port, f"{space.host()}."]
        answer = await space.ask(NYC, wanted, "SRV")
        assert answer is not None
        assert {rrset.rdtype for rrset in answer.additional} == {dns.rdatatype.A}
    assert await space.rcode(NYC, f"_tcp._udp.{space.host()}", "SRV") == "NXDOMAIN"
    await space.offer(AMS, "bare", ports=[{"port": 80}])
    await space.records(NYC, space.host("bare"), "SRV", lambda found: len(found) == 1)
    assert await space.rcode(NYC, f"_tcp.{space.host('bare')}", "SRV") == "NXDOMAIN"


async def test_a_headless_service_resolves_to_its_ready_endpoints(space: Space) -> None:
    """Rules: D3, E3. Specs: 21. The same endpoints in A and AAAA; one that is not ready is in neither."""
    await space.offer(AMS, headless=True, families=(IPV4, IPV6))
    for family in (IPV4, IPV6):
        some = [ready(pod(AMS, n, family), hostname=f"web-{n}", nodeName="node") for n in (1, 2)]
        unready = {"addresses": [pod(AMS, 3, family)], "conditions": {"ready": False}, "hostname": "web-3"}
        await space.endpoints(AMS, endpoints=[*some, unready], family=family)
    for cluster in MEMBERS:
        await space.records(cluster, space.host(), "A", [pod(AMS, n) for n in (1, 2)])
        await space.records(cluster, space.host(), "AAAA", [pod(AMS, n, IPV6) for n in (1, 2)])
        assert await space.rcode(cluster, f"web-3.{AMS}.{space.host()}") == "NXDOMAIN"


async def test_srv_of_a_headless_service_has_every_endpoint_once(space: Space) -> None:
    """Rules: D3. Specs: 23. On the bare name and on a port; the target is the pod's own name."""
    await space.offer(AMS, headless=True, ports=[TCP])
    await space.endpoints(
        AMS, endpoints=[ready(pod(AMS, 1)), ready(pod(AMS, 2), hostname="two")], ports=[TCP]
    )
    targets = [f"{name}.{AMS}.{space.host()}." for name in (dashed(pod(AMS, 1)), "two")]
    for cluster in MEMBERS:
        for name in (space.host(), f"_tcp._tcp.{space.host()}"):

            def named(found: list[str]) -> bool:
                return sorted(one.split()[3] for one in found) == sorted(targets)

            found = await space.records(cluster, name, "SRV", named)
            assert {one.split()[2] for one in found} == {"8042"}
        await space.records(cluster, targets[0], "A", [pod(AMS, 1)])
        await space.records(cluster, targets[1], "A", [pod(AMS, 2)])


def hostnames(slices: list[Any]) -> list[list[str]]:
    return [[entry.get("hostname", "") for entry in one["endpoints"]] for one in slices]


async def test_pods_of_stateful_sets_keep_their_names_apart_by_cluster(space: Space) -> None:
    """Rules: D3, D5, E1. Specs: 22. Two clusters have a web-0 each; an id may have two labels."""
    for cluster in (AMS, NYC):
        await space.offer(cluster, headless=True)
        named = [ready(pod(cluster, n + 1), hostname=f"web-{n}") for n in (0, 1)]
        await space.endpoints(cluster, endpoints=named)
    for cluster in MEMBERS:
        for source in (AMS, NYC):
            for number in (0, 1):
                name = f"web-{number}.{source}.{space.host()}"
                await space.records(cluster, name, "A", [pod(source, number + 1)])
        wanted = [["web-0", "web-1"]] * 2
        await space.slices(cluster, lambda found, wanted=wanted: hostnames(found) == wanted)


async def test_no_name_stands_for_all_endpoints_of_one_cluster(space: Space) -> None:
    """Rules: D4. Specs: -. Whatever is asked for; and pods have names in headless services only."""
    await space.offer(AMS)
    await space.offer(NYC)
    await space.offer(AMS, "bare", headless=True)
    await space.offer(NYC, "bare", headless=True)
    for cluster in MEMBERS:
        await space.records(cluster, space.host(), "A", lambda found: len(found) == 1)
        await space.records(cluster, f"{dashed(pod(NYC, 1))}.{NYC}.{space.host('bare')}", "A", [pod(NYC, 1)])
        await space.records(cluster, f"{dashed(pod(AMS, 1))}.{AMS}.{space.host('bare')}", "A", [pod(AMS, 1)])
        for source in (AMS, NYC, "lab"):
            for kind in ("A", "AAAA", "SRV", "TXT", "CNAME", "ANY"):
                for service in ("web", "bare"):
                    await space.records(cluster, f"{source}.{space.host(service)}", kind, [])
            assert await space.rcode(cluster, f"{source}.{space.host()}") == "NXDOMAIN"
            # Names stand below it, so that a resolver must not take it for non-existent (RFC 8020).
            assert await space.rcode(cluster, f"{source}.{space.host('bare')}") == "NOERROR"
        assert await space.rcode(cluster, f"{dashed(pod(AMS, 1))}.{AMS}.{space.host()}") == "NXDOMAIN"


async def test_what_is_not_exported_has_no_name(space: Space) -> None:
    """Rules: D4, R1. Specs: 14. Neither before it is exported nor after; nobody is sent to it."""
    await space.service(AMS)
    await space.endpoints(AMS)
    await space.offer(AMS, "other")
    await space.records(FRA, space.host("other"), "A", lambda found: len(found) == 1)

    async def nameless() -> bool:
        return await space.rcode(FRA, space.host()) == "NXDOMAIN"

    await stays(nameless)
    await space.offer(AMS)
    await space.records(FRA, space.host(), "A", lambda found: len(found) == 1)
    await space.unexport(AMS)
    await space.settles(nameless, "the name is gone")
    await stays(nameless)
    assert await space.rcode(FRA, space.host("other")) == "NOERROR"


async def test_a_headless_service_without_a_ready_endpoint_has_no_name(space: Space) -> None:
    """Rules: D3. Specs: -. NXDOMAIN until one is ready."""
    await space.offer(AMS, headless=True)
    await space.records(FRA, space.host(), "A", [pod(AMS, 1), pod(AMS, 2)])
    gone = [{"addresses": [pod(AMS, n)], "conditions": {"ready": False}} for n in (1, 2)]
    await space.endpoints(AMS, endpoints=gone)

    async def nameless() -> bool:
        codes = [await space.rcode(FRA, space.host(), kind) for kind in ("A", "AAAA", "SRV")]
        return set(codes) == {"NXDOMAIN"}

    await space.settles(nameless, "NXDOMAIN")
    await space.endpoints(AMS, endpoints=[gone[0], ready(pod(AMS, 2))])
    await space.records(FRA, space.host(), "A", [pod(AMS, 2)])


async def test_the_cluster_local_zone_is_not_ours(space: Space) -> None:
    """Rules: D6, R6. Specs: 20. The agent says nothing of cluster.local and leaves the Service as it was."""
    await space.service(AMS)
    before: Any = await space.read(AMS, kinds.SERVICE)
    await space.offer(AMS)
    await space.offer(FRA)
    await space.records(AMS, space.host(), "A", lambda found: len(found) == 1)
    assert await space.rcode(AMS, f"web.{space.name}.svc.cluster.local") == "REFUSED"
    after = await space.read(AMS, kinds.SERVICE)
    assert after["spec"] == before["spec"]
    (own,) = await space.list(AMS, kinds.ENDPOINT_SLICE, "kubernetes.io/service-name=web")
    assert [entry["addresses"] for entry in own["endpoints"]] == [[pod(AMS, 1)], [pod(AMS, 2)]]
    assert own["ports"][0]["name"] == HTTP["name"]
