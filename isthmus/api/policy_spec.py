"""GlobalTrafficPolicy.spec as people write it (traffic.isthmus.dev/v1alpha1; traffic-semantics, section 2).

Shape, names and bounds only; what the fields mean together is judged by `traffic.accept`. The CRD's schema
and its CEL rules are generated from these models, so the two cannot disagree. Durations are seconds here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from isthmus.api.duration import Duration
from isthmus.api.policy_settings import (
    AffinitySpec,
    CircuitBreakerSpec,
    DnsSpec,
    HealthSpec,
    OutlierSpec,
    RetrySpec,
    SpecModel,
    rules,
)
from isthmus.model.names import MAX_CLUSTER_ID

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_VALUE = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"

ClusterName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_CLUSTER_ID,
        pattern=rf"^{_LABEL}(\.{_LABEL})?$",
        description="A cluster id.",
    ),
]
RegionName = Annotated[
    str,
    Field(
        min_length=1, max_length=63, pattern=rf"^{_VALUE}$", description="A topology.kubernetes.io/region."
    ),
]
LabelKey = Annotated[str, Field(min_length=1, max_length=317, pattern=rf"^([a-z0-9.-]{{1,253}}/)?{_VALUE}$")]
LabelValue = Annotated[str, Field(max_length=63, pattern=rf"^({_VALUE})?$")]
Weight = Annotated[int, Field(ge=0, le=10_000)]

MAX_TARGETS = 64
MAX_TIERS = 16


_SET = {"x-kubernetes-list-type": "set"}
_NAME_OF = "(has({0}.cluster) ? 'c/' + {0}.cluster : has({0}.region) ? 'r/' + {0}.region : '')"
_SECTION_OF = "({0}.name + '/' + (has({0}.sectionName) ? {0}.sectionName : ''))"


class TargetRef(SpecModel):
    """A service of the policy's own namespace, or one of its ports by name."""

    group: Annotated[
        Literal["multicluster.x-k8s.io"],
        Field(description="The group of ServiceImports. Default multicluster.x-k8s.io."),
    ] = "multicluster.x-k8s.io"
    kind: Annotated[Literal["ServiceImport"], Field(description="A service. Default ServiceImport.")] = (
        "ServiceImport"
    )
    name: Annotated[str, Field(min_length=1, max_length=63, pattern=rf"^{_LABEL}$")]
    section_name: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=63,
            pattern=rf"^{_LABEL}$",
            description="Name of one port. Default: all of them.",
        ),
    ] = None


class LabelRequirement(SpecModel):
    """One expression of a selector; In and NotIn need values, Exists and DoesNotExist have none."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
                "In and NotIn need values, Exists and DoesNotExist must not have any",
            )
        )
    )

    key: LabelKey
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: Annotated[
        list[LabelValue] | None, Field(max_length=64, description="Of In and NotIn. Default none.")
    ] = None


class Selector(SpecModel):
    """A label selector; all its parts must hold, and it must have at least one."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "(has(self.matchLabels) && self.matchLabels.size() > 0) || "
                "(has(self.matchExpressions) && self.matchExpressions.size() > 0)",
                "an empty selector is not allowed",
            )
        )
    )

    match_labels: Annotated[
        dict[LabelKey, LabelValue] | None,
        Field(max_length=32, description="Labels with their values, all of them. Default none."),
    ] = None
    match_expressions: Annotated[
        list[LabelRequirement] | None,
        Field(max_length=32, description="Expressions, all of them. Default none."),
    ] = None


class Target(SpecModel):
    """A cluster or a region that a strategy speaks of."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("has(self.cluster) != has(self.region)", "exactly one of cluster and region must be set"),
            ("!has(self.weight) || has(self.cluster)", "weight is for clusters only"),
        )
    )

    cluster: ClusterName | None = None
    region: RegionName | None = None
    weight: Annotated[
        Weight | None,
        Field(
            description="Share within its tier, relative to the others; 0 is standby. Default: the number of "
            "its endpoints."
        ),
    ] = None
    priority: Annotated[
        int | None,
        Field(
            ge=0,
            le=1000,
            description="FailOver: order of the tiers, the smallest first. Default: as they are listed.",
        ),
    ] = None


class TierMatch(SpecModel):
    """Which groups of endpoints a tier takes; exactly one key."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "[has(self.scope), has(self.clusters), has(self.regions), has(self.clusterSelector)]"
                ".exists_one(set, set)",
                "exactly one of scope, clusters, regions and clusterSelector must be set",
            )
        )
    )

    scope: Annotated[
        Literal["SameZone", "SameCluster", "SameRegion", "Any"] | None,
        Field(description="Relative to where the caller stands."),
    ] = None
    clusters: Annotated[
        list[ClusterName] | None,
        Field(min_length=1, max_length=MAX_TARGETS, description="By id.", json_schema_extra=_SET),
    ] = None
    regions: Annotated[
        list[RegionName] | None,
        Field(min_length=1, max_length=MAX_TARGETS, description="By region.", json_schema_extra=_SET),
    ] = None
    cluster_selector: Annotated[Selector | None, Field(description="By the labels of Cluster objects.")] = (
        None
    )


class ClusterWeight(SpecModel):
    """The weight of one cluster within a tier."""

    cluster: ClusterName
    weight: Weight


class TierSpec(SpecModel):
    """One step of the ladder; clusters without weight in a tier that has weights are standbys."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("!has(self.weights) || self.weights.exists(w, w.weight > 0)", "all weights of the tier are 0"),
            (
                "!has(self.weights) || !has(self.match.clusters) || "
                "self.weights.all(w, w.cluster in self.match.clusters)",
                "weights are for clusters of the tier",
            ),
        )
    )

    match: TierMatch
    weights: Annotated[
        list[ClusterWeight] | None,
        Field(
            min_length=1,
            max_length=MAX_TARGETS,
            description="Shares within the tier; who is not named is standby. Default: the numbers of "
            "endpoints.",
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["cluster"],
            },
        ),
    ] = None


class PolicySpec(SpecModel):
    """Where the callers of a service go."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("!has(self.targetRefs) || !has(self.selector)", "targetRefs and selector exclude each other"),
            ("!has(self.strategy) || !has(self.tiers)", "strategy and tiers exclude each other"),
            ("!has(self.targets) || has(self.strategy)", "targets need a strategy"),
            (
                "!has(self.targets) || !has(self.strategy) || self.strategy != 'Locality' || "
                "self.targets.all(t, !has(t.weight))",
                "weight is for ActiveActive and FailOver only",
            ),
            (
                "!has(self.targets) || !has(self.strategy) || self.strategy == 'FailOver' || "
                "self.targets.all(t, !has(t.priority))",
                "priority is for FailOver only",
            ),
            (
                "!has(self.targets) || self.targets.all(t, has(t.priority)) || "
                "self.targets.all(t, !has(t.priority))",
                "priority must be on all targets or on none",
            ),
            (
                "!has(self.targets) || !has(self.strategy) || self.strategy != 'ActiveActive' || "
                "self.targets.all(t, has(t.weight)) || self.targets.all(t, !has(t.weight))",
                "weight must be on all targets of a tier or on none",
            ),
            (
                "!has(self.targets) || !has(self.strategy) || self.strategy != 'ActiveActive' || "
                "!self.targets.exists(t, has(t.weight)) || "
                "self.targets.exists(t, has(t.weight) && t.weight > 0)",
                "all weights of the tier are 0",
            ),
            (
                f"!has(self.targets) || self.targets.all(t, self.targets.exists_one(u, "
                f"{_NAME_OF.format('t')} == {_NAME_OF.format('u')}))",
                "each target must be named once",
            ),
            (
                f"!has(self.targetRefs) || self.targetRefs.all(t, self.targetRefs.exists_one(u, "
                f"{_SECTION_OF.format('t')} == {_SECTION_OF.format('u')}))",
                "each of targetRefs must be named once",
            ),
            (
                "!has(self.tiers) || self.tiers.all(t, !has(t.match.scope) || "
                "self.tiers.exists_one(u, has(u.match.scope) && u.match.scope == t.match.scope))",
                "each scope must be named once",
            ),
            (
                "!has(self.health) || !has(self.health.path) || !has(self.health.protocol) || "
                "self.health.protocol in ['HTTP', 'HTTPS']",
                "path is for the protocols HTTP and HTTPS",
            ),
            (
                "!has(self.health) || !has(self.health.port) || !has(self.health.protocol) || "
                "self.health.protocol != 'ICMP'",
                "port has no meaning with the protocol ICMP",
            ),
        )
    )

    target_refs: Annotated[
        list[TargetRef] | None,
        Field(
            min_length=1,
            max_length=16,
            description="Whom the policy speaks of. Default: the service of its own name.",
        ),
    ] = None
    selector: Annotated[
        Selector | None,
        Field(description="By the labels of services, instead of targetRefs. Default none."),
    ] = None
    strategy: Annotated[
        Literal["Locality", "FailOver", "ActiveActive"] | None,
        Field(
            description="A ladder ready made, instead of tiers. Default, without tiers: own cluster, own "
            "region, any."
        ),
    ] = None
    targets: Annotated[
        list[Target] | None,
        Field(
            min_length=1,
            max_length=MAX_TARGETS,
            description="Among whom the strategy chooses. Default: all clusters.",
        ),
    ] = None
    tiers: Annotated[
        list[TierSpec] | None,
        Field(
            min_length=1,
            max_length=MAX_TIERS,
            description="The ladder itself, first to last, instead of strategy. Default: what strategy says.",
        ),
    ] = None
    fallback: Annotated[
        Literal["Any", "None"] | None,
        Field(
            description="Any: a last tier of everybody else. Default None where tiers or targets are given."
        ),
    ] = None
    overprovisioning_percent: Annotated[
        int | None,
        Field(ge=100, le=1000, description="How much healthy endpoints can take over. Default 140."),
    ] = None
    on_cluster_unknown: Annotated[
        Literal["Deprioritise", "Keep"] | None,
        Field(description="Whether a silent cluster goes behind the others. Default Deprioritise."),
    ] = None
    overridable: Annotated[
        bool | None,
        Field(description="Hub policies only: a member's own policy comes first. Default false."),
    ] = None
    expected_endpoints: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="Of each cluster; missing ones count as unhealthy. Default: what the annotation "
            "isthmus.dev/expected-endpoints of the export says, else none.",
        ),
    ] = None
    dns: DnsSpec | None = None
    health: HealthSpec | None = None
    outlier_detection: OutlierSpec | None = None
    retry: RetrySpec | None = None
    timeout: Annotated[
        Annotated[float, Duration("1ms", "24h")] | None,
        Field(description="Of a whole request, retries included. Default none."),
    ] = None
    circuit_breaker: CircuitBreakerSpec | None = None
    session_affinity: AffinitySpec | None = None
    drain_seconds: Annotated[
        int | None,
        Field(ge=0, le=3600, description="How long old sessions stay with what drains. Default 30."),
    ] = None
    slow_start: Annotated[
        Annotated[float, Duration("0s", "15m")] | None,
        Field(description="Envoy: how long a new endpoint takes to get as much as others. Default 0s."),
    ] = None
