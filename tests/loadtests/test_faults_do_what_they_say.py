"""Faults without a bed: who is meant, what is written, what a process sees."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from isthmus.api import crds, kinds
from isthmus.apiserver.server import ApiServer, ClusterConfig
from isthmus.errors import KubeError, PlatformError
from isthmus.kube.client import Client
from isthmus.kube.config import load_access
from loadtests.load import cgroup
from loadtests.load.counters import addresses, shares, summed
from loadtests.load.faults import clock, neighbour, partition
from loadtests.load.faults.fault import FAULTS, meanwhile
from loadtests.load.ground import WORLD
from loadtests.load.longline import LongLine
from loadtests.load.marks import Mark, Way

EU1, EU2, US1 = WORLD.members


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("partition", {"cluster": "eu-2", "others": ("eu-2",)}, "others: 'eu-2' is the cluster itself"),
        ("partition", {"cluster": "eu-2", "others": ("mars",)}, "others: there is no cluster 'mars'"),
        ("cluster-slow", {"cluster": "eu-2", "ms": 0}, "ms: 0 is not from 0 to 5000"),
        ("cluster-lossy", {"cluster": "eu-2", "percent": 101}, "percent: 101 is not from 0.1 to 100"),
        ("api-errors", {"server": "mars", "code": 500}, "server: there is no cluster 'mars'"),
        ("clock-jump", {"cluster": "eu-2", "seconds": 0}, "seconds: 0 is no jump"),
        ("garbage", {"cluster": "eu-2", "services": -1}, "services: -1 is not from 0 to 2000"),
        ("disk-full", {"cluster": "mars"}, "cluster: there is no cluster 'mars'"),
        ("memory-limit", {"cluster": "mars"}, "cluster: there is no cluster 'mars'"),
        ("api-errors", {"server": "hub", "code": 429}, ""),
        ("partition", {"cluster": "eu-2", "others": ("us-1",)}, ""),
    ],
)
def test_what_cannot_be_is_complained_of(name: str, arguments: dict[str, object], said: str) -> None:
    complaint = msgspec.convert(arguments, FAULTS[name]).complaint(WORLD)
    assert complaint.startswith(said)
    assert bool(complaint) is bool(said)


def test_a_partition_concerns_callers_on_both_sides_and_nobody_within() -> None:
    divided = partition.Partition(cluster="eu-2")
    mark = Mark(
        name="p", fault="p", victims=(), began=0, ended=1, undone=1, evidence="", leads=divided.leads()
    )
    reached = {(a.name, b.name) for a in WORLD.members for b in WORLD.members if mark.reached(a.name, b.name)}
    assert reached == {("eu-2", "eu-1"), ("eu-2", "us-1"), ("eu-1", "eu-2"), ("us-1", "eu-2")}
    one = partition.Partition(cluster="eu-2", others=("us-1",)).leads()
    assert one == (Way(caller="eu-2", cluster="us-1"), Way(caller="us-1", cluster="eu-2"))


def test_what_a_cluster_sends_are_its_requests_and_its_answers() -> None:
    assert list(partition.sent(EU2, US1)) == [
        "ct mark 64002 ct direction original ip daddr 10.66.0.0/16",
        "ct mark 64003 ct direction reply ip saddr 10.65.0.0/16",
    ]


def test_numbers_of_an_agent_are_summed_by_their_labels() -> None:
    page = (
        "# TYPE isthmus_kube_requests_total counter\n"
        'isthmus_kube_requests_total{server="hub",code="500"} 3.0\n'
        'isthmus_kube_requests_total{server="hub",code="200"} 9.0\n'
        'isthmus_kube_requests_total{server="member",code="500"} 5.0\n'
    )
    assert summed(page, "isthmus_kube_requests_total", code="500") == 8
    assert summed(page, "isthmus_kube_requests_total", code="500", server="hub") == 3
    assert summed(page, "isthmus_kube_requests_total", code="429") == 0


async def test_a_long_line_keeps_packets_back_and_in_order() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    here.setblocking(False)
    there.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        LongLine(here.fileno(), 0.05)
        began = time.monotonic()
        for number in range(20):
            await loop.sock_sendall(there, b"%d" % number)
        came = [int(await asyncio.wait_for(loop.sock_recv(there, 100), 10)) for _ in range(20)]
        assert came == list(range(20))
        assert time.monotonic() - began >= 0.05
    finally:
        loop.remove_reader(here.fileno())
        here.close()
        there.close()


@pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler")
def test_a_process_sees_its_wall_clock_jump_and_no_other_clock(tmp_path: Path) -> None:
    file = tmp_path / "offset"
    file.write_bytes(struct.pack("l", -7200))
    program = (
        "import time, datetime; print(time.time(), datetime.datetime.now().timestamp(), time.monotonic())"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={**os.environ, "LD_PRELOAD": str(clock.compiled(tmp_path)), "ISTHMUS_LOAD_CLOCK": str(file)},
        capture_output=True,
        text=True,
        check=True,
    )
    wall, date, monotonic = map(float, done.stdout.split())
    assert wall == pytest.approx(time.time() - 7200, abs=300)
    assert date == pytest.approx(wall, abs=300)
    assert monotonic == pytest.approx(time.monotonic(), abs=300)


def test_a_lease_tells_how_far_a_clock_is_off() -> None:
    assert clock.told_ahead(None) is None
    assert clock.told_ahead("not a time") is None
    ahead = clock.told_ahead("2036-01-01T00:00:00.000000Z")
    assert ahead is not None
    assert ahead > 0


def test_a_limit_goes_as_low_as_the_kernel_lets_it(tmp_path: Path) -> None:
    group = cgroup.Limited(folder=tmp_path, usage="used", limit="limit", none="-1", kills="kills")
    (tmp_path / "used").write_text("100000000\n")
    (tmp_path / "kills").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n")
    assert group.killed() == 4
    assert cgroup.as_low_as_it_goes(group) == 60_000_000
    assert (tmp_path / "limit").read_text() == "60000000"
    group.set(None)
    assert (tmp_path / "limit").read_text() == "-1"


async def test_what_goes_on_meanwhile_ends_with_the_fault_and_ends_it_when_it_fails() -> None:
    done = []

    async def steps(fails: bool) -> None:
        try:
            await asyncio.sleep(0)
            if fails:
                raise KubeError("nobody there")
            await asyncio.Event().wait()
        finally:
            done.append(fails)

    async with meanwhile(steps(False), name="steps"):
        await asyncio.sleep(0)
    with pytest.raises(ExceptionGroup) as failed:
        async with meanwhile(steps(False), steps(True), name="steps"):
            await asyncio.wait_for(asyncio.Event().wait(), 10)
    assert [str(error) for error in failed.value.exceptions] == ["nobody there"]
    assert done == [False, True, False]


def test_a_limit_of_version_2_is_set_where_nobody_is_killed_for_it(tmp_path: Path) -> None:
    """Who sets the hard one below what is used kills; the soft one takes back what can be had before."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    group = cgroup.of_bed(Path("/tmp/isthmus-load-x"), "eu-1", tmp_path)
    assert group.folder == tmp_path / "isthmus-load-x-eu-1"
    group.folder.mkdir()
    (group.folder / "memory.current").write_text("100000000\n")
    assert cgroup.as_low_as_it_goes(group) == 100_000_000 + cgroup.STEP
    assert (group.folder / "memory.max").read_text() == str(100_000_000 + cgroup.STEP)
    assert (group.folder / "memory.high").read_text() == "max"


def _no_cgroups() -> str:
    group = cgroup.of_bed(Path(f"isthmus-probe-{os.getpid()}"), "eu-1")
    try:
        with cgroup.made(group):
            return ""
    except PlatformError as error:
        return str(error)


def test_a_limited_group_is_named_by_its_bed_and_gone_with_it(tmp_path: Path) -> None:
    if missing := _no_cgroups():
        pytest.skip(missing)
    group = cgroup.of_bed(tmp_path, "eu-1")
    assert tmp_path.name in group.folder.name
    with cgroup.made(group):
        child = subprocess.Popen(["sleep", "60"])
        (group.folder / "cgroup.procs").write_text(str(child.pid))
        assert group.processes() == 1
        child.kill()
    child.wait()
    assert not group.folder.exists()


def test_a_plan_tells_what_each_cluster_is_to_serve() -> None:
    groups = [("eu-1", 2_500), ("eu-1", 2_500), ("us-1", 5_000), ("eu-2", 0)]
    plan = {"shares": [{"cluster": name, "basisPoints": points} for name, points in groups]}
    assert shares(plan) == {"eu-1": 0.5, "us-1": 0.5}


def test_a_plan_tells_which_endpoints_a_cluster_has() -> None:
    def group(cluster: str, *found: str) -> list[dict[str, object]]:
        return [{"cluster": cluster, "backends": [{"addresses": [address]} for address in found]}]

    plan = {"shares": group("eu-1", "a", "b"), "standby": group("us-1", "c"), "unhealthy": []}
    assert addresses({**plan, "draining": group("eu-1", "d")}, "eu-1") == {"a", "b", "d"}


async def test_a_hub_takes_most_of_what_a_bad_neighbour_says(tmp_path: Path) -> None:
    """What the schema itself turns away never reaches anybody; a fault of that alone would prove nothing."""
    file = tmp_path / "kubeconfig"
    names, taken = set(), 0
    async with ApiServer([ClusterConfig(name="hub")]) as server:
        file.write_text(server.kubeconfig())
        async with Client(load_access(file, "hub")) as hub:
            for crd in crds.hub_crds():
                await hub.create(kinds.CRD, crd)
            space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "isthmus-eu-2"}}
            await hub.create(kinds.NAMESPACE, space)
            for body in neighbour.garbage(EU2, [EU1, US1], 5):
                names.add((body["kind"], body["metadata"]["name"]))
                with contextlib.suppress(KubeError):
                    await hub.apply(neighbour.KINDS[body["kind"]], body, manager="neighbour")
                    taken += 1
    assert len(names) / 2 < taken < len(names)
