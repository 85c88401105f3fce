"""A policy's ladder in words: tiers as `isthmus explain` shows them, and the whole plan in one line."""

from __future__ import annotations

from isthmus.model.policy import Match, Policy, Tier

MAX_LINE = 256


def match_words(match: Match) -> str:
    """Which groups a tier takes, in full words."""
    words = [match.scope.value] if match.scope is not None else []
    if match.clusters:
        words.append(f"clusters {', '.join(sorted(match.clusters))}")
    if match.regions:
        words.append(f"regions {', '.join(sorted(match.regions))}")
    if match.selector is not None:
        words.append("selected clusters")
    text = " or ".join(words)
    return text if match.within is None else f"{text} within {match_words(match.within)}"


def plan_line(policy: Policy) -> str:
    """The whole ladder on one line, first to last: `SameZone > eu-1 80 + eu-2 20 > region us > Any`.

    A number is a weight, `(standby …)` who is used when the rest of its tier is gone. At most MAX_LINE
    characters, cut with an ellipsis.
    """
    steps = [_step(tier) for tier in policy.tiers]
    if policy.fallback_any:
        steps.append("Any")
    line = " > ".join(steps)
    return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 1]}…"


def _step(tier: Tier) -> str:
    if not tier.weights:
        return _members(tier.match)
    active = [f"{cluster} {weight}" for cluster, weight in tier.weights if weight]
    named = {cluster for cluster, weight in tier.weights if weight}
    standby = sorted(tier.match.clusters - named)
    behind = f" (standby {', '.join(standby)})" if standby else ""
    return " + ".join(active) + behind


def _members(match: Match) -> str:
    parts = [match.scope.value] if match.scope is not None else []
    parts += sorted(match.clusters)
    parts += [f"region {region}" for region in sorted(match.regions)]
    if match.selector is not None:
        labels = [f"{key}={value}" for key, value in match.selector.labels]
        labels += [f"{key} {operator}" for key, operator, _ in match.selector.expressions]
        parts.append(f"clusters {','.join(labels)}")
    text = " + ".join(parts)
    return text if match.within is None else f"{text} of {_members(match.within)}"
