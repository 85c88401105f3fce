"""When a prober should distrust itself rather than its targets (architecture, rule 4).

A target goes Down only on the word of a prober that works, and the proof is a success: some check, an
anchor's or any other's, that began after the target first failed and had passed before the target failed
again. While nothing passes, verdicts stay as they are; so the loss of all targets of one remote cluster is a
verdict at once (the anchors still answer), and the loss of everything is not. A prober without anchors that
ever answered has nothing to measure itself by and believes its checks. Times are seconds of the loop's clock.
"""

from __future__ import annotations

NEVER = float("-inf")


def believed(*, anchors: int, first_failure: float, last_proof: float) -> bool:
    """Whether failures that began at `first_failure` may count against their target.

    `anchors` counts those that ever answered: API servers, endpoints of the own cluster. `last_proof` is when
    the latest check began of those that had passed when the target's last failed check began (after its first
    failure: when that ended); NEVER where there is none.
    """
    return anchors == 0 or last_proof >= first_failure
