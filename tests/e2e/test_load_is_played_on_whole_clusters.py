"""`make load --clusters FILE`: a scenario of the load tests on whole clusters, by their API servers alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[2])]  # test folders are not packages

from e2eground import ROOT, SECONDS, Cluster
from e2einstall import Site

from loadtests.load.result import Result

pytestmark = pytest.mark.e2e

SCENARIO = """
about: Calls move from one cluster to the other, pods of the one are replaced, and the other is drained.
seconds: 55
load: {envoy-get: 12, grpc: 6, dns-udp: 6}
events:
- {fault: weight-shift, origin: eu-1, to: eu-2, steps: [0, 100], each: 4, at: 1, for: 11}
- {fault: rolling-restart, cluster: eu-1, services: [front], grace: 3, at: 13, for: 30}
- {fault: drain, cluster: eu-2, at: 44, for: 9}
expect:
# How well it goes is measured elsewhere: this machine may have much else to do.
- failures: {ratio: 0.5}
- counted: {what: pods replaced, event: rolling-restart, most: 2}
"""
PARTS = {0: ["eu-1"], 1: ["eu-2", "us-1"]}


@pytest.fixture
def clusters(site: Site, tmp_path: Path) -> Path:
    """The file that tells of the site's clusters."""
    given = []
    for number, cluster in enumerate(site.ground.clusters):
        kubeconfig = tmp_path / f"{cluster.name}.kubeconfig"
        shown = cluster.run("config", "view", "--raw", "--minify", "--flatten", "-o", "json")
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(shown)
        dns, xds, console = site.addresses[cluster.name]
        given.append(
            {
                "name": cluster.name,
                "plays": PARTS[number],
                "kubeconfig": kubeconfig.name,
                "dns": dns,
                "xds": xds,
                "console": console,
                "pods": _pods(cluster),
            }
        )
    file = tmp_path / "clusters.yaml"
    hub = {"kubeconfig": f"{site.hub.name}.kubeconfig"}
    file.write_text(json.dumps({"hub": hub, "clusters": given, "image": site.ground.images.envoy}))
    return file


def _pods(cluster: Cluster) -> list[str]:
    """The prefixes of the addresses of a cluster's pods."""
    return [node["spec"]["podCIDR"] for node in cluster.list("nodes")]


def played(site: Site, scenario: str, clusters: Path) -> tuple[int, str, Result | None]:
    """Plays a scenario where pods and API servers are reached: exit code, what was said, the result."""
    folder = clusters.parent
    file, out = folder / "mine.yaml", folder / "out"
    file.write_text(scenario)
    words = ("-m", "loadtests.load.run", file, "--clusters", clusters, "--out", out)
    done = subprocess.run(
        [*site.near.beside, "sh", "-c", 'cd "$0" && exec "$@"', ROOT, sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
    )
    report = out / "mine.json"
    result = msgspec.json.decode(report.read_bytes(), type=Result) if report.exists() else None
    return done.returncode, done.stderr, result


def test_a_scenario_is_played_and_nothing_is_left_of_it(site: Site, clusters: Path) -> None:
    code, said, result = played(site, SCENARIO, clusters)
    assert result is not None, said
    assert code == 0, said
    near, far = (cluster.name for cluster in site.ground.clusters)
    evidence = {accident.name: accident.evidence for accident in result.accidents}
    shifted = f"2 steps of front, cart from {near} to {far}, each in all plans of all clusters"
    assert evidence["weight-shift"] == shifted
    assert evidence["rolling-restart"] == f"all 2 pods of front in {near} replaced"
    assert evidence["drain"].startswith(f"no share for {far} in any of ")
    # Each cluster's callers were served by both.
    assert all(set(door.by_cluster) == {near, far} for door in result.doors), result.doors
    for cluster in site.ground.clusters:
        assert cluster.get("namespace", "isthmus-load") is None
    assert not site.hub.get("clusters.hub.isthmus.dev", far)["spec"].get("drain")
