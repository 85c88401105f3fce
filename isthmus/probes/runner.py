"""One target and what is known of it."""

from __future__ import annotations

from isthmus.model.health import CheckKey, CheckTarget, Verdict
from isthmus.probes import anchors, schedule
from isthmus.probes.agenda import Entry
from isthmus.probes.dialler import Stop
from isthmus.probes.holddown import NEVER_DOWN, HoldDown
from isthmus.probes.hysteresis import UNKNOWN, Streak


class Runner:
    """It has an `entry` on the agenda between two checks, a `stop` during one, and neither while it waits
    for its turn. Times are seconds of the loop's clock.
    """

    __slots__ = (
        "again",
        "anchors",
        "began",
        "booked",
        "entry",
        "first_failure",
        "first_fault",
        "holddown",
        "hurried",
        "key",
        "last_failure",
        "lost",
        "proof",
        "reason",
        "since",
        "stop",
        "streak",
        "target",
        "timeout",
        "witness",
        "written",
    )

    def __init__(self, key: CheckKey, target: CheckTarget, since: float, *, witness: bool) -> None:
        self.key = key
        self.target = target
        self.since = since
        """Wall clock."""
        self.streak: Streak = UNKNOWN
        self.holddown: HoldDown = NEVER_DOWN
        self.first_failure = anchors.NEVER
        """When the present run of failures began."""
        self.first_fault = anchors.NEVER
        """When the first failure began that is not forgiven yet."""
        self.last_failure = anchors.NEVER
        """When the last failure ended."""
        self.reason = ""
        self.anchors = False
        """Whether it counts as an anchor that has answered."""
        self.witness = witness
        """An API server: an anchor without a verdict, outside the budget."""
        self.entry: Entry[Runner] | None = None
        self.booked = False
        """Whether its address may be checked when the entry is due."""
        self.hurried = False
        """Whether it was brought forward together with others: they part again when their verdicts stand."""
        self.again = False
        """Whether that was wanted while a check was under way, whose answer may be older than the news."""
        self.stop: Stop | None = None
        self.began = self.lost = self.proof = self.timeout = 0.0
        """Of the check under way: when it began, what the loop had lost and what was proven then."""
        self.written: Verdict | None = None

    @property
    def doubtful(self) -> bool:
        """Whether its latest results are against its verdict and may soon change it."""
        streak, check = self.streak, self.target.check
        if streak.up is None or streak.ok is streak.up:
            return False
        return streak.count <= (check.fall if streak.up else check.rise) + schedule.PATIENCE

    def verdict(self) -> Verdict:
        check, streak = self.target.check, self.streak
        wavering = streak.wavering(rise=check.rise, fall=check.fall)
        return Verdict(
            up=streak.up,
            canary=self.target.canary,
            wavering=wavering,
            since=self.since,
            reason=self.reason,
        )
