"""GlobalTrafficPolicy objects become policies here, or are refused with the field (traffic-semantics, 2).

Invariant: acceptance depends on the object alone; what only the clusterset can tell (a cluster that does not
exist) is `unresolved`, never a refusal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from isthmus.api.policy import GlobalTrafficPolicy
from isthmus.api.policy_spec import PolicySpec, Selector, TierSpec
from isthmus.model.cluster import ClusterView
from isthmus.model.health import CheckProtocol, HealthCheck
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.policy import (
    DEFAULT_POLICY,
    CircuitBreaker,
    DoorSettings,
    LabelSelector,
    Match,
    OutlierDetection,
    Policy,
    PolicyTarget,
    Retry,
    Scope,
    SessionAffinity,
    Tier,
)
from isthmus.model.refusal import Refused
from isthmus.model.service import Service
from isthmus.traffic.presets import Flaw, PresetTarget, resolve_strategy

T = TypeVar("T")

_MAX_MESSAGE = 1024
_MAX_NAMED = 3


def accept(obj: GlobalTrafficPolicy, origin: Literal["member", "hub"]) -> Policy | Refused:
    """Turn an object into the policy it states, presets resolved into tiers; never raises.

    `origin` tells where it was read; `overridable` is for the hub alone. A refusal's reason is one CamelCase
    word and its message begins with the path of the field.
    """
    try:
        spec = PolicySpec.model_validate_json(bytes(obj.spec))
    except ValidationError as error:
        return _invalid(error)
    try:
        return _policy(obj, spec, origin)
    except Flaw as flaw:
        return Refused(reason=flaw.reason, message=flaw.message[:_MAX_MESSAGE])


def unresolved(
    policy: Policy, clusters: Mapping[ClusterId, ClusterView], service: Service | None
) -> list[str]:
    """Name what the policy speaks of and the clusterset does not have, in words, sorted: `cluster eu-9`.

    `service` is one that the policy speaks of; None where there is none (yet).
    """
    named_clusters: set[ClusterId] = set()
    named_regions: set[str] = set()
    for tier in policy.tiers:
        for match in _nested(tier.match):
            named_clusters |= match.clusters
            named_regions |= match.regions
        named_clusters |= {cluster for cluster, _ in tier.weights}
    regions = {view.region for view in clusters.values() if view.region}
    missing = [f"cluster {name}" for name in named_clusters - clusters.keys()]
    missing += [f"region {name}" for name in named_regions - regions]
    if service is not None:
        ports = {port.name for port in service.ports}
        missing += [
            f"port {target.section} of service {service.key}"
            for target in policy.targets
            if target.service == service.key and target.section and target.section not in ports
        ]
    return sorted(missing)


def _nested(match: Match) -> Iterator[Match]:
    yield match
    if match.within is not None:
        yield from _nested(match.within)


def _policy(obj: GlobalTrafficPolicy, spec: PolicySpec, origin: Literal["member", "hub"]) -> Policy:
    if spec.overridable and origin == "member":
        raise Flaw("OverridableOnMember", "spec.overridable", "is for policies on the hub")
    plain = Policy()
    percent = spec.overprovisioning_percent
    return Policy(
        key=ServiceKey(obj.metadata.namespace, obj.metadata.name),
        origin=origin,
        targets=_targets(obj, spec),
        selector=_selector(spec.selector),
        created=_created(obj.metadata.creation_timestamp),
        overridable=bool(spec.overridable),
        tiers=_tiers(spec),
        fallback_any=spec.fallback == "Any",
        overprovisioning_percent=plain.overprovisioning_percent if percent is None else percent,
        deprioritise_unknown=spec.on_cluster_unknown != "Keep",
        expected_endpoints=spec.expected_endpoints,
        health=_health(spec),
        doors=_doors(spec),
    )


def _targets(obj: GlobalTrafficPolicy, spec: PolicySpec) -> tuple[PolicyTarget, ...]:
    """Whom the policy speaks to; without targetRefs and selector, the service of its own name."""
    namespace = obj.metadata.namespace
    if spec.target_refs is None:
        if spec.selector is not None:
            return ()
        return (PolicyTarget(service=ServiceKey(namespace, obj.metadata.name)),)
    if spec.selector is not None:
        raise Flaw("TargetRefsWithSelector", "spec.selector", "cannot stand beside targetRefs")
    targets: list[PolicyTarget] = []
    for index, ref in enumerate(spec.target_refs):
        target = PolicyTarget(service=ServiceKey(namespace, ref.name), section=ref.section_name or "")
        if target in targets:
            raise Flaw("Duplicate", f"spec.targetRefs[{index}]", f"{ref.name} is already named")
        targets.append(target)
    return tuple(targets)


def _selector(selector: Selector | None) -> LabelSelector | None:
    return None if selector is None else _label_selector(selector, "spec.selector")


def _tiers(spec: PolicySpec) -> tuple[Tier, ...]:
    """The three forms of a ladder become one."""
    if spec.tiers is not None:
        if spec.strategy is not None:
            raise Flaw("StrategyWithTiers", "spec.tiers", "cannot stand beside a strategy")
        if spec.targets is not None:
            raise Flaw("TargetsWithoutStrategy", "spec.targets", "need a strategy, not tiers")
        return _explicit(spec.tiers)
    if spec.strategy is None:
        if spec.targets is not None:
            raise Flaw("TargetsWithoutStrategy", "spec.targets", "need a strategy")
        return DEFAULT_POLICY.tiers
    targets = [
        PresetTarget(
            cluster=None if target.cluster is None else ClusterId(target.cluster),
            region=target.region,
            weight=target.weight,
            priority=target.priority,
        )
        for target in spec.targets or ()
    ]
    return resolve_strategy(spec.strategy, targets)


def _explicit(tiers: Sequence[TierSpec]) -> tuple[Tier, ...]:
    """Tiers as written; what an earlier tier already names can never reach a later one."""
    resolved: list[Tier] = []
    seen: set[tuple[str, str]] = set()
    for index, tier in enumerate(tiers):
        path = f"spec.tiers[{index}]"
        match = _tier_match(tier, f"{path}.match", seen)
        resolved.append(Tier(match=match, weights=_tier_weights(tier, match, f"{path}.weights")))
    return tuple(resolved)


def _tier_match(tier: TierSpec, path: str, seen: set[tuple[str, str]]) -> Match:
    match = tier.match
    keys = {
        "scope": match.scope,
        "clusters": match.clusters,
        "regions": match.regions,
        "clusterSelector": match.cluster_selector,
    }
    if sum(value is not None for value in keys.values()) != 1:
        raise Flaw("MatchKey", path, f"needs exactly one of {', '.join(keys)}")
    if match.cluster_selector is not None:
        return Match(selector=_label_selector(match.cluster_selector, f"{path}.clusterSelector"))
    if match.scope is not None:
        _once(seen, "scope", [match.scope], path)
        return Match(scope=Scope(match.scope))
    _once(seen, "clusters", match.clusters or [], path)
    _once(seen, "regions", match.regions or [], path)
    return Match(
        clusters=frozenset(ClusterId(name) for name in match.clusters or ()),
        regions=frozenset(match.regions or ()),
    )


def _once(seen: set[tuple[str, str]], key: str, names: Sequence[str], path: str) -> None:
    for index, name in enumerate(names):
        if (key, name) in seen:
            field = f"{path}.{key}" if key == "scope" else f"{path}.{key}[{index}]"
            raise Flaw("Duplicate", field, f"{name} is already named, so this could never match")
        seen.add((key, name))


def _tier_weights(tier: TierSpec, match: Match, path: str) -> tuple[tuple[ClusterId, int], ...]:
    weights: dict[ClusterId, int] = {}
    for index, entry in enumerate(tier.weights or ()):
        cluster = ClusterId(entry.cluster)
        if cluster in weights:
            raise Flaw("Duplicate", f"{path}[{index}].cluster", f"{cluster} already has a weight")
        if match.clusters and cluster not in match.clusters:
            field = f"{path}[{index}].cluster"
            raise Flaw("MisplacedWeight", field, f"{cluster} is not among the clusters of this tier")
        weights[cluster] = entry.weight
    if weights and not any(weights.values()):
        raise Flaw("AllWeightsZero", path, "all weights of the tier are 0")
    return tuple(sorted(weights.items()))


def _label_selector(selector: Selector, path: str) -> LabelSelector:
    """A label selector that selects something in particular; raises Flaw."""
    labels = selector.match_labels or {}
    expressions = selector.match_expressions or []
    if not labels and not expressions:
        raise Flaw("EmptySelector", path, "needs matchLabels or matchExpressions")
    for index, expression in enumerate(expressions):
        wants_values = expression.operator in ("In", "NotIn")
        if wants_values != bool(expression.values):
            need = "needs values" if wants_values else "must not have values"
            field = f"{path}.matchExpressions[{index}].values"
            raise Flaw("InvalidSelector", field, f"operator {expression.operator} {need}")
    return LabelSelector(
        labels=tuple(sorted(labels.items())),
        expressions=tuple((e.key, e.operator, tuple(sorted(e.values or ()))) for e in expressions),
    )


def _health(spec: PolicySpec) -> HealthCheck | None:
    health = spec.health
    if health is None:
        return None
    if health.path is not None and health.protocol not in (None, "HTTP", "HTTPS"):
        raise Flaw("MisplacedPath", "spec.health.path", f"has no meaning with protocol {health.protocol}")
    if health.port is not None and health.protocol == "ICMP":
        raise Flaw("MisplacedPort", "spec.health.port", "has no meaning with protocol ICMP")
    plain = HealthCheck()
    return HealthCheck(
        protocol=None if health.protocol is None else CheckProtocol(health.protocol),
        path=health.path or "",
        port=health.port,
        interval=_given(health.interval, plain.interval),
        timeout=_given(health.timeout, plain.timeout),
        rise=_given(health.rise, plain.rise),
        fall=_given(health.fall, plain.fall),
    )


def _doors(spec: PolicySpec) -> DoorSettings:
    plain = DoorSettings()
    dns = spec.dns
    answer = dns.answer if dns is not None else None
    breaker = spec.circuit_breaker
    return DoorSettings(
        dns_answer=_given(answer, plain.dns_answer),
        dns_ttl=_given(dns.ttl_seconds if dns is not None else None, plain.dns_ttl),
        outlier=_outlier(spec),
        retry=_retry(spec),
        timeout=spec.timeout,
        circuit_breaker=None
        if breaker is None
        else CircuitBreaker(
            max_connections=breaker.max_connections,
            max_pending_requests=breaker.max_pending_requests,
            max_requests=breaker.max_requests,
        ),
        affinity=_affinity(spec),
        drain_seconds=_given(spec.drain_seconds, plain.drain_seconds),
        slow_start=_given(spec.slow_start, plain.slow_start),
    )


def _outlier(spec: PolicySpec) -> OutlierDetection | None:
    plain, given = OutlierDetection(), spec.outlier_detection
    if given is None:
        return plain
    if given.consecutive_failures == 0:
        return None
    return OutlierDetection(
        consecutive_failures=_given(given.consecutive_failures, plain.consecutive_failures),
        interval=_given(given.interval, plain.interval),
        base_ejection=_given(given.base_ejection, plain.base_ejection),
    )


def _retry(spec: PolicySpec) -> Retry | None:
    plain, given = Retry(), spec.retry
    if given is None:
        return plain
    if given.attempts == 0:
        return None
    base = _given(given.back_off_base, plain.back_off_base)
    longest = _given(given.back_off_max, max(plain.back_off_max, base))
    if longest < base:
        raise Flaw("BackOffOutOfOrder", "spec.retry.backOffMax", "must not be shorter than backOffBase")
    return Retry(
        attempts=_given(given.attempts, plain.attempts),
        per_try_timeout=given.per_try_timeout,
        back_off_base=base,
        back_off_max=longest,
        asked=True,
    )


def _affinity(spec: PolicySpec) -> SessionAffinity | None:
    given = spec.session_affinity
    if given is None:
        return None
    if (given.cookie is None) == (given.header is None):
        raise Flaw("AffinityKey", "spec.sessionAffinity", "needs exactly one of cookie and header")
    if given.ttl is not None and given.cookie is None:
        raise Flaw("MisplacedTtl", "spec.sessionAffinity.ttl", "is for cookies only")
    return SessionAffinity(cookie=given.cookie or "", header=given.header or "", ttl=given.ttl or 0.0)


def _given(value: T | None, otherwise: T) -> T:
    return otherwise if value is None else value


def _created(timestamp: str) -> float:
    """Seconds since the epoch; 0 (the oldest) where the API server gave none."""
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _invalid(error: ValidationError) -> Refused:
    """The first few wrong fields, each with its path."""
    details = error.errors(include_url=False, include_context=False)
    shown = [_complaint(detail) for detail in details[:_MAX_NAMED]]
    if len(details) > _MAX_NAMED:
        shown.append(f"and {len(details) - _MAX_NAMED} more")
    unknown = all(detail["type"] == "extra_forbidden" for detail in details)
    return Refused(
        reason="UnknownField" if unknown else "InvalidField", message="; ".join(shown)[:_MAX_MESSAGE]
    )


def _complaint(detail: ErrorDetails) -> str:
    words = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        words = "is not a field of this API"
    return f"{path_text(detail['loc'])}: {words[:1].lower()}{words[1:]}"


def path_text(location: Iterable[str | int]) -> str:
    """The path of a field as Kubernetes writes it: `spec.targets[0].cluster`."""
    path = "spec"
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part != "[key]":
            path += f".{part}"
    return path
