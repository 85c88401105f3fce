"""The server as a program, and its lifecycle in Python."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiohttp
import pytest
import yaml
from apicontract import DEADLINE, Api

from isthmus.apiserver import ApiServer, ClusterConfig
from isthmus.apiserver.__main__ import configure
from loadtests.ports import free_port


async def test_the_program_says_where_it_is_and_ends_on_sigterm(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    path = tmp_path / "kubeconfig"
    arguments = ["--cluster", "eu-1=127.0.0.1:0", "--cluster", "hub", "--admin", "127.0.0.1:0"]
    arguments += ["--service-cidr", "hub=10.99.0.0/16", "--kubeconfig", str(path)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "isthmus.apiserver", *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE):
            ready = json.loads(await process.stdout.readline())
        hub = Api(session, ready["clusters"]["hub"])
        found = (await hub.get("/api/v1/namespaces/default/services/kubernetes")).body
        assert found["spec"]["clusterIP"] == "10.99.0.1"
        assert (await Api(session, ready["admin"]).get("/faults")).body == {"eu-1": [], "hub": []}
        config = yaml.safe_load(path.read_text())
        servers = {each["name"]: each["cluster"]["server"] for each in config["clusters"]}
        assert servers == ready["clusters"]
        assert {each["name"] for each in config["contexts"]} == {"eu-1", "hub"}
        assert config["current-context"] == "eu-1"
        async with hub.watch("/api/v1/services"):
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(DEADLINE):
                assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--cluster", "a=nowhere"],
        ["--cluster", "a", "--cluster", "a"],
        ["--cluster", "a", "--service-cidr", "b=10.0.0.0/16"],
        ["--cluster", "a", "--service-cidr", "a=10.0.0.0/99"],
        ["--cluster", "a", "--admin", "here"],
    ],
)
def test_wrong_use_ends_with_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        configure(arguments)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


async def test_a_bound_socket_is_used_and_freed(session: aiohttp.ClientSession) -> None:
    with socket.socket() as sock:
        port = free_port()
        sock.bind(("127.0.0.1", port))
        async with ApiServer([ClusterConfig(name="a", sock=sock)]) as server:
            assert server.url("a") == f"http://127.0.0.1:{port}"
            assert (await Api(session, server.url("a")).get("/readyz")).body == "ok"
    async with ApiServer([ClusterConfig(name="a", port=port)]) as again:
        assert (await Api(session, again.url("a")).get("/readyz")).code == 200


async def test_a_port_in_use_stops_what_was_started() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = ApiServer([ClusterConfig(name="a"), ClusterConfig(name="b", port=port)])
        with pytest.raises(OSError, match="in use"):
            await server.start()
        host, _, first = server.url("a").removeprefix("http://").partition(":")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, int(first))


async def test_clusters_share_nothing(api: Api, server: ApiServer) -> None:
    other = Api(api.session, server.url("eu-2"))
    path = "/api/v1/namespaces/default/configmaps"
    await api.post(path, {"metadata": {"name": "a"}})
    assert (await other.get(f"{path}/a")).code == 404


async def test_a_wrong_clock_shows_in_date_and_timestamps(session: aiohttp.ClientSession) -> None:
    configs = [ClusterConfig(name="late", clock_offset_seconds=-3600.0), ClusterConfig(name="right")]
    async with ApiServer(configs) as server:
        late, right = [await Api(session, server.url(name)).get("/api/v1/namespaces/default") for name in
                       ("late", "right")]  # fmt: skip
    dates = [parsedate_to_datetime(answer.headers["Date"]) for answer in (late, right)]
    assert 3590 <= (dates[1] - dates[0]).total_seconds() <= 3610
    stamps = [answer.body["metadata"]["creationTimestamp"] for answer in (late, right)]
    assert stamps[0] < stamps[1]


async def test_a_new_server_never_repeats_old_resource_versions(session: aiohttp.ClientSession) -> None:
    revisions = []
    for _ in range(2):
        async with ApiServer([ClusterConfig(name="a")]) as server:
            listed = await Api(session, server.url("a")).get("/api/v1/services")
            revisions.append(int(listed.body["metadata"]["resourceVersion"]))
    assert revisions[0] < revisions[1]


async def test_bodies_over_the_limit_are_refused(api: Api) -> None:
    body = {"metadata": {"name": "a"}, "data": {"x": "y" * (3 << 20)}}
    refused = await api.post("/api/v1/namespaces/default/configmaps", body)
    assert refused.code == 413


async def test_bookmarks_come_as_often_as_configured(session: aiohttp.ClientSession) -> None:
    async with ApiServer([ClusterConfig(name="a", bookmark_seconds=0.01)]) as server:
        api = Api(session, server.url("a"))
        since = (await api.get("/api/v1/pods")).body["metadata"]["resourceVersion"]
        params = {"resourceVersion": since, "allowWatchBookmarks": "true"}
        async with api.watch("/api/v1/pods", **params) as watch:
            assert (await watch.next())["type"] == "BOOKMARK"
            made = await api.post("/api/v1/namespaces/default/configmaps", {"metadata": {"name": "a"}})
            wanted = int(made.body["metadata"]["resourceVersion"])
            event = await watch.next()
            while int(event["object"]["metadata"]["resourceVersion"]) < wanted:
                event = await watch.next()
            assert event["type"] == "BOOKMARK"
