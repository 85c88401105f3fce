"""`status`, `services`, `clusters` and `explain` with real consoles: merged, honest, readable."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from console_tables import FAR, KEY, OWN, service, table

from isthmus.model.cluster import ClusterView
from isthmus.model.names import ServiceKey
from isthmus.model.policy import Policy, PolicyTarget

Isthmus = Callable[..., Awaitable[Any]]
Start = Callable[..., Awaitable[Any]]
GONE = "http://127.0.0.1:1"


async def both(console: Start) -> str:
    """Two agents that differ: us-1 thinks itself known and does not know the service a/b."""
    eu = await console()
    us = await console(
        cluster=FAR,
        services=table("services", {KEY: service()}),
        clusters=table("clusters", {FAR: ClusterView(id=FAR, region="us"), OWN: ClusterView(id=OWN)}),
    )
    return f"{eu.url},{us.url}"


async def test_every_agent_has_a_line_and_one_that_is_away_is_named(isthmus: Isthmus, console: Start) -> None:
    ran = await isthmus("status", ISTHMUS_AGENTS=f"{await both(console)},{GONE}")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["eu-1", "ready"], ["us-1", "ready"], ["?", "away"]]
    assert ran.err == (
        f"isthmus: {GONE} is away: no answer (Connection refused); is it running, and is the address right?\n"
    )


async def test_who_is_away_stands_in_json_and_yaml(isthmus: Isthmus, console: Start) -> None:
    agents = f"{await both(console)},{GONE}"
    for form, read in (("json", json.loads), ("yaml", yaml.safe_load)):
        ran = await isthmus("clusters", "-o", form, ISTHMUS_AGENTS=agents)
        assert (ran.code, ran.err) == (0, "")
        whole = read(ran.out)
        assert [agent["cluster"] for agent in whole["agents"]] == ["eu-1", "us-1"]
        assert [away["agent"] for away in whole["unreachable"]] == [GONE]
        assert {item["id"]: item["seen"] for item in whole["items"]} == {
            "eu-1": {"eu-1": "ready", "us-1": "ready"},
            "us-1": {"eu-1": "unknown", "us-1": "ready"},
        }


async def test_without_any_answer_the_command_fails_in_one_line(isthmus: Isthmus) -> None:
    for verb in (["status"], ["services"], ["explain", "shop/checkout"], ["clusters"], ["events"]):
        ran = await isthmus(*verb, "--agent", GONE)
        assert (ran.code, ran.out) == (3, "")
        assert ran.err.count("\n") == 1
        assert "no agent answered: http://127.0.0.1:1: no answer (Connection refused)" in ran.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "which agents? Give --agent URL"),
        (["--agent", "localhost:9470"], "is not an http or https URL"),
        (["--kubeconfig", "nowhere"], "cannot read kubeconfig nowhere"),
    ],
)
async def test_wrong_use_says_what_would_be_right(isthmus: Isthmus, arguments: list[str], words: str) -> None:
    ran = await isthmus("status", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err


async def test_services_are_merged_and_differences_shown(isthmus: Isthmus, console: Start) -> None:
    agents = await both(console)
    ran = await isthmus("services", ISTHMUS_AGENTS=agents)
    assert ran.code == 0
    (header, first, second) = ran.out.splitlines()
    assert header.split() == ["SERVICE", "TYPE", "PORTS", "CLUSTERS", "ENDPOINTS", "CONFLICTS"]
    assert first.split()[:4] == ["a/b", "ClusterSetIP", "TCP/80", "eu-1,us-1"]
    assert "unknown to us-1" in first
    assert second.split() == [
        "shop/checkout",
        "ClusterSetIP",
        "TCP/80",
        "eu-1,us-1",
        "2",
        "TypeConflict",
    ]
    ran = await isthmus("services", "-n", "shop", ISTHMUS_AGENTS=agents)
    assert len(ran.out.splitlines()) == 2


async def test_explain_shows_steps_shares_and_every_endpoint(isthmus: Isthmus, console: Start) -> None:
    ran = await isthmus("explain", "shop/checkout:http", "--from", "eu-1/a", "--agent", (await console()).url)
    assert (ran.code, ran.err) == (0, "")
    rows = [line.split() for line in ran.out.splitlines() if line]
    assert rows[0] == ["shop/checkout", "TCP/80", "from", "eu-1/a,", "policy:", "default"]
    assert ["0", "SameCluster", "eu-1", "1/1", "100%", "100%"] in rows
    assert ["eu-1", "eu", "a", "0", "100%"] in rows
    assert ["a", "eu-1/eu/a", "healthy", "0", "100%", "in"] in rows
    assert ["b", "us-1", "left", "out", "-", "0%", "not", "ready", "in", "Kubernetes"] in rows


async def test_explain_names_the_policies_that_are_overruled_and_why(
    isthmus: Isthmus, console: Start
) -> None:
    of_the_port = PolicyTarget(service=KEY, section="http")
    policies = (
        Policy(key=ServiceKey("shop", "front"), origin="hub", overridable=True, targets=(of_the_port,)),
        Policy(key=KEY, origin="member", targets=(of_the_port,)),
        Policy(key=ServiceKey("shop", "whole"), origin="member", targets=(PolicyTarget(service=KEY),)),
        Policy(key=ServiceKey("shop", "other"), origin="member"),
    )
    url = (await console(policies=lambda _key: policies)).url
    ran = await isthmus("explain", "shop/checkout:http", "--agent", url)
    assert ran.code == 0
    told = [line.split("  ") for line in ran.out.splitlines() if line.startswith(("member", "hub"))]
    assert [(line[0], line[-1].strip()) for line in told] == [
        ("member shop/whole", "it names the port"),
        ("hub shop/front", "the hub's is overridable"),
    ]
    ran = await isthmus("explain", "shop/checkout:http", "-o", "json", "--agent", url)
    (view,) = json.loads(ran.out)["items"]
    assert view["overruled"][0] == {"policy": "member shop/whole", "why": "it names the port"}


async def test_explain_without_a_place_compares_all_agents(isthmus: Isthmus, console: Start) -> None:
    ran = await isthmus("explain", "shop/checkout", ISTHMUS_AGENTS=await both(console))
    assert ran.code == 0
    lines = [line.split() for line in ran.out.splitlines()]
    assert lines[1][:3] == ["eu-1", "eu-1", "100%"]
    assert lines[2][:3] == ["us-1", "eu-1", "100%"]
    ran = await isthmus("explain", "shop/checkout", "-o", "json", ISTHMUS_AGENTS=await both(console))
    assert [view["cluster"] for view in json.loads(ran.out)["items"]] == ["eu-1", "us-1"]


async def test_anothers_word_is_not_taken_for_the_callers_own(isthmus: Isthmus, console: Start) -> None:
    ran = await isthmus("explain", "shop/checkout", "--from", "us-1", "--agent", (await console()).url)
    assert ran.code == 0
    assert "no agent of us-1 was asked: this is how it looks with the health that eu-1 sees" in ran.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["shop/checkoutt"], "no service shop/checkoutt in the clusterset; did you mean shop/checkout?"),
        (["shopp/checkout"], "did you mean shop/checkout?"),
        (["zzz/yyy"], "isthmus services lists them all"),
        (["shop/bad"], "its export in eu-1 is not valid (NoService): no such"),
        (["checkout"], "say NAMESPACE/NAME or NAMESPACE/NAME:PORT"),
        (["shop/checkout:81"], "service shop/checkout has no port 81; it has http (TCP/80)"),
        (
            ["shop/checkout", "--from", "eu-1/z"],
            "nobody calls from eu-1/z; the vantages are eu-1, eu-1/a, us-1",
        ),
    ],
)
async def test_a_wrong_question_gets_what_could_have_been_meant(
    isthmus: Isthmus, console: Start, arguments: list[str], words: str
) -> None:
    ran = await isthmus("explain", *arguments, "--agent", (await console()).url)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("isthmus: ")
    assert words in ran.err
    assert ran.err.count("\n") == 1


async def test_an_agent_that_is_not_ready_is_said_to_be_so(isthmus: Isthmus, console: Start) -> None:
    late = await console(
        required=(table("plans", None),),
        failing=lambda: {"member/serviceexports": "GET /apis/x at eu-1 (http://x): 404 the server could not"},
    )
    ran = await isthmus("status", "--agent", late.url)
    assert ran.code == 0
    assert ran.out.splitlines()[1].split()[:3] == ["eu-1", "not", "ready"]
    assert "eu-1 is not ready, what it says may be incomplete: plans is not complete" in ran.err
    assert "isthmus crds --for member | kubectl apply --server-side -f -" in ran.err


async def test_sixty_columns_without_utf8_or_colour_are_enough(isthmus: Isthmus, console: Start) -> None:
    services = {
        key: service(key) for key in (KEY, ServiceKey("a-rather-long-namespace", "with-a-rather-long-name"))
    }
    agent = await console(services=table("services", services))
    for verb in (["status"], ["services"], ["clusters"], ["explain", "shop/checkout"]):
        ran = await isthmus(
            *verb, "--agent", agent.url, COLUMNS="60", PYTHONUTF8="0", LC_ALL="C", TERM="dumb"
        )
        assert ran.code == 0
        assert ran.out.isascii()
        assert "\x1b" not in ran.out
        assert max(len(line) for line in ran.out.splitlines()) <= 60
        assert "checkout" in ran.out or "eu-1" in ran.out


async def test_agents_are_found_behind_an_api_servers_proxy(
    isthmus: Isthmus, console: Start, pod_proxy: Any, tmp_path: Path
) -> None:
    pod_proxy.pods = {"agent-0": (await console()).url, "agent-1": (await console()).url, "agent-2": ""}
    config = str(tmp_path / "kubeconfig")
    ran = await isthmus("status", "--context", "eu-1", "--context", "gone", KUBECONFIG=config)
    assert ran.code == 0
    assert "eu-1/agent-0" in ran.out
    assert "eu-1/agent-1" in ran.out
    assert "isthmus: eu-1/agent-2 is away: its API server does not reach the pod's port 9470" in ran.err
    assert "isthmus: context gone is away: no answer (Connection refused)" in ran.err
    ran = await isthmus("explain", "shop/checkout", "--from", "eu-1/a", KUBECONFIG=config)
    assert ran.code == 0
    assert "shop/checkout TCP/80 from eu-1/a" in ran.out


async def test_a_missing_permission_says_which_and_how_to_get_it(
    isthmus: Isthmus, pod_proxy: Any, tmp_path: Path
) -> None:
    pod_proxy.forbidden = True
    ran = await isthmus("services", "--kubeconfig", str(tmp_path / "kubeconfig"))
    assert (ran.code, ran.err.count("\n")) == (3, 1)
    assert "list on pods and get on pods/proxy" in ran.err
    pod_proxy.forbidden = False
    ran = await isthmus("services", "--kubeconfig", str(tmp_path / "kubeconfig"))
    assert ran.code == 3
    assert "no running pod with label app.kubernetes.io/name=isthmus-agent" in ran.err


async def test_who_holds_an_import_and_who_withholds_an_export_is_named(
    isthmus: Isthmus, console: Start
) -> None:
    held = await console(held=lambda key: "other-mcs" if key == KEY else "", withheld=lambda _key: (FAR,))
    ran = await isthmus("services", "--agent", held.url)
    assert f"import held by other-mcs ({OWN})" in ran.out
    ran = await isthmus("services", "-o", "json", "--agent", held.url)
    assert {item["name"]: item["held"] for item in json.loads(ran.out)["items"]}[KEY.name] == {
        OWN: "other-mcs"
    }
    ran = await isthmus("explain", str(KEY), "--agent", held.url)
    assert f"Not counted: {FAR}, whose export is not for {OWN}." in ran.out
    ran = await isthmus("explain", "shop/nowhere", "--agent", held.url)
    assert (ran.code, ran.out) == (2, "")
    assert f"{FAR} exports shop/nowhere, and not to {OWN}" in ran.err
