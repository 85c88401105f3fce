"""Which policies the demo applies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isthmus.demo.population import DemoService

CHECKED_BY_GRPC = 2


def policies_for(
    services: Sequence[DemoService],
    written: Sequence[dict[str, Any]],
    given: Sequence[dict[str, Any]] | None,
) -> list[dict[str, Any]]:
    """The policies to apply: `given` (from --policy) alone where it is not None.

    Else those `written` in the manifests and, for each exported service that none of them speaks of, one that
    spreads over all clusters and checks their health, as its ports speak.
    """
    if given is not None:
        return list(given)
    spoken = {key for policy in written for key in spoken_of(policy)}
    chosen_by_label = {p["metadata"]["namespace"] for p in written if "selector" in p.get("spec", {})}
    unspoken = [
        service
        for service in services
        if service.exported
        and (service.namespace, service.name) not in spoken
        and service.namespace not in chosen_by_label
    ]
    # A gRPC check costs as much as thirty of a TCP port, so on this one machine some will do.
    by_grpc = [service for service in unspoken if service.speech == "grpc"][:CHECKED_BY_GRPC]
    return [*written, *(_policy(service, by_grpc=service in by_grpc) for service in unspoken)]


def _policy(service: DemoService, *, by_grpc: bool) -> dict[str, Any]:
    health: dict[str, str] = {}
    if service.speech == "https" or by_grpc:
        health = {"protocol": service.speech.upper()}
    return {
        "apiVersion": "traffic.isthmus.dev/v1alpha1",
        "kind": "GlobalTrafficPolicy",
        "metadata": {"name": service.name, "namespace": service.namespace},
        "spec": {"strategy": "ActiveActive", "health": health, "dns": {"answer": "Endpoints"}},
    }


def spoken_of(policy: dict[str, Any]) -> list[tuple[str, str]]:
    """Namespace and name of the services that a policy names."""
    namespace = policy["metadata"]["namespace"]
    refs = policy.get("spec", {}).get("targetRefs")
    if isinstance(refs, list):
        return [(namespace, str(ref.get("name"))) for ref in refs if isinstance(ref, dict)]
    return [(namespace, policy["metadata"]["name"])]
