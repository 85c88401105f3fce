"""That no call fails which no accident accounts for: whatever else is asked, nothing is left out."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from loadtests.load.expect.expectation import Expectation, Finding, NotNegative, Seen, expectation
from loadtests.load.expect.failures import causes

LEAD_SECONDS = 1.0
"""A call that was due so long before an accident may be under way when it comes."""


@expectation("between")
class Between(Expectation, frozen=True, kw_only=True):
    """No call fails at any time, but at the doors that `but` names for an accident: they have bounds there.

    Such a door is left alone until `after` seconds after that accident was undone.
    """

    after: NotNegative
    but: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)

    def judge(self, seen: Seen) -> Iterator[Finding]:
        for door, rows in seen.at(self.doors):
            spans = [
                (mark.began - LEAD_SECONDS, mark.undone + self.after)
                for mark in seen.marks
                if door in self.but.get(mark.name, ())
            ]
            rest = [row for row in rows if not any(began <= row.at < ended for began, ended in spans)]
            bad = [row for row in rest if row.why]
            text = f"{len(bad)} of {len(rest)} calls failed" + causes(bad)
            text += f"; {len(rows) - len(rest)} more have bounds of their own"
            yield self.found(float(len(bad)) if rest else None, 0, "calls", door=door, text=text)
