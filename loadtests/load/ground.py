"""Where every bed stands: how many clusters there are, and what they are called."""

from __future__ import annotations

from isthmus.demo.world import World, world

WORLD: World = world(3)
"""eu-1, eu-2, us-1."""
