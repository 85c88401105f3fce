"""Where traffic goes: policies accepted, ladders built, shares computed.

One pure decision, `plan()`, stands behind every door; nothing here knows a clock, a wire format or, except
for `accept`, a Kubernetes object.
"""

from isthmus.traffic.planner import plan

__all__ = ["plan"]
