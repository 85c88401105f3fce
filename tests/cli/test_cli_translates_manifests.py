"""`isthmus translate`: golden pairs, and what wrong files are told.

`golden/<case>/in.yaml` may begin with a comment `# arguments: …`; `pytest --update-golden` rewrites the rest.
"""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Isthmus = Callable[..., Awaitable[Any]]
GOLDEN = Path(__file__).parent / "golden"
DOORS = ("plan", "envoy", "grpc", "dns", "kernel")
CASES = sorted(path.name for path in GOLDEN.iterdir())
TWO = GOLDEN / "two-clusters" / "in.yaml"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("case", CASES)
async def test_manifests_are_translated_as_before(
    isthmus: Isthmus, case: str, door: str, update_golden: bool
) -> None:
    given = GOLDEN / case / "in.yaml"
    first = given.read_text().splitlines()[0]
    more = shlex.split(first.partition("# arguments:")[2])
    ran = await isthmus("translate", "-f", str(given), "--to", door, *more)
    assert (ran.code, ran.err) == (0, "")
    expected = GOLDEN / case / f"{door}.yaml"
    if update_golden:
        expected.write_text(ran.out)
    assert expected.read_text() == ran.out, f"{expected} differs: look at it, then pytest --update-golden"


def test_no_golden_file_is_left_over() -> None:
    for case in CASES:
        found = {path.name for path in (GOLDEN / case).iterdir()}
        assert found == {"in.yaml", *(f"{door}.yaml" for door in DOORS)}, case


async def test_files_may_say_which_cluster_they_are_of(isthmus: Isthmus, tmp_path: Path) -> None:
    shared, members = [], {"eu-1": [], "us-1": []}
    for body in yaml.safe_load_all(TWO.read_text()):
        cluster = body["metadata"].get("annotations", {}).pop("isthmus.dev/cluster", None)
        (members[cluster] if cluster else shared).append(body)
    arguments = ["-f", str(tmp_path / "shared.yaml")]
    (tmp_path / "shared.yaml").write_text(yaml.safe_dump_all(shared))
    for name, bodies in members.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump_all(bodies))
        arguments += ["-f", f"{name}={tmp_path / name}.yaml"]
    ran = await isthmus("translate", *arguments)
    assert ran.out == (GOLDEN / "two-clusters" / "plan.yaml").read_text()


async def test_what_is_said_to_be_down_gets_nothing(isthmus: Isthmus) -> None:
    for down, shares in (
        (["us-1"], {"checkout-a": 100.0}),
        (["checkout-a"], {"checkout-c": 50.0, "checkout-d": 50.0}),
        (["eu-1/checkout-a", "checkout-c"], {"checkout-d": 100.0}),
    ):
        options = [part for name in down for part in ("--down", name)]
        ran = await isthmus("translate", "-f", str(TWO), "-o", "json", *options)
        assert ran.code == 0
        for plan in yaml.safe_load(ran.out)["plans"]:
            assert {row["endpoint"]: row["share"] for row in plan["endpoints"] if row["share"]} == shares


async def test_stdin_is_read_and_one_cluster_needs_no_name(isthmus: Isthmus) -> None:
    bodies = [body for body in yaml.safe_load_all(TWO.read_text()) if body["kind"] != "Cluster"]
    kept = [body for body in bodies if body["metadata"].get("annotations") is None]
    mine = [body for body in bodies if "eu-1" in str(body["metadata"].get("annotations"))]
    for body in mine:
        del body["metadata"]["annotations"]
    text = yaml.safe_dump_all([*kept[:2], *mine]).encode()
    ran = await isthmus("translate", "-f", "-", "-o", "json", stdin=text)
    assert (ran.code, ran.err) == (0, "")
    told = yaml.safe_load(ran.out)
    assert told["from"] == "local"
    assert told["plans"][0]["groups"][0]["share"] == 100.0


@pytest.mark.parametrize(
    ("change", "arguments", "code", "words"),
    [
        (
            ("strategy: ActiveActive", "strategy: Sideways"),
            [],
            1,
            "GlobalTrafficPolicy shop/checkout is refused",
        ),
        (("port: 80, targetPort", "port: eighty, targetPort"), [], 2, "document 3, line 18: Service: "),
        (("kind: ServiceExport", "kind: ServiceExprot"), [], 2, "kind 'ServiceExprot' is not known here"),
        (
            ("  annotations: {isthmus.dev/cluster: us-1}\n", ""),
            [],
            2,
            "which cluster is this EndpointSlice of?",
        ),
        (("cluster: us-1}\naddr", "cluster: Us_1}\naddr"), [], 2, "'Us_1' is not a cluster id"),
        (("spec: {region: eu}", "spec: {region: '/'}"), [], 2, "spec.region: must be a legal label value"),
        (
            (
                "name: checkout, namespace: shop}\n---\napiVersion: v1\nkind: Node",
                "name: x}\n---\napiVersion: v1\nkind: Node",
            ),
            [],
            2,
            "nothing is exported",
        ),
        (("", ""), ["--from", "eu-1/zz"], 2, "the vantages are eu-1, eu-1/eu-1a, us-1"),
        (("", ""), ["--down", "checkout-aa"], 2, "did you mean eu-1/checkout-a"),
        (("", ""), ["--to", "gateway"], 2, "gateway"),
    ],
)
async def test_wrong_files_and_names_are_told_where_and_what(
    isthmus: Isthmus, tmp_path: Path, change: tuple[str, str], arguments: list[str], code: int, words: str
) -> None:
    text = TWO.read_text()
    assert change[0] in text
    (tmp_path / "in.yaml").write_text(text.replace(change[0], change[1], 1))
    ran = await isthmus("translate", "-f", str(tmp_path / "in.yaml"), *arguments)
    assert ran.code == code
    assert words in ran.err
    assert "Traceback" not in ran.err
    assert bool(ran.out) is (code == 1)
