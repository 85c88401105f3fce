"""Which policies the demo applies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isthmus.demo.population import DemoService


def policies_for(
    services: Sequence[DemoService],
    written: Sequence[dict[str, Any]],
    given: Sequence[dict[str, Any]] | None,
) -> list[dict[str, Any]]:
    """The policies to apply: `given` (from --policy) alone where it is not None.

    Else those `written` in the manifests and, for each exported service that none of them speaks of, one that
    spreads over all clusters and checks their health.
    """
    if given is not None:
        return list(given)
    spoken = {key for policy in written for key in _targets(policy)}
    chosen_by_label = {p["metadata"]["namespace"] for p in written if "selector" in p.get("spec", {})}
    return [
        *written,
        *(
            {
                "apiVersion": "traffic.isthmus.dev/v1alpha1",
                "kind": "GlobalTrafficPolicy",
                "metadata": {"name": service.name, "namespace": service.namespace},
                "spec": {"strategy": "ActiveActive", "health": {}, "dns": {"answer": "Endpoints"}},
            }
            for service in services
            if service.exported
            and (service.namespace, service.name) not in spoken
            and service.namespace not in chosen_by_label
        ),
    ]


def _targets(policy: dict[str, Any]) -> list[tuple[str, str]]:
    namespace = policy["metadata"]["namespace"]
    refs = policy.get("spec", {}).get("targetRefs")
    if isinstance(refs, list):
        return [(namespace, str(ref.get("name"))) for ref in refs if isinstance(ref, dict)]
    return [(namespace, policy["metadata"]["name"])]
