"""Words that stand in thousands of objects, held once: names, zones, kinds.

Others choose many of them, so what nobody holds any more must go. CPython 3.12 never lets go of what it has
interned (python/cpython#113993): there a bounded cache finds most of them.
"""

from __future__ import annotations

import functools
import platform
import sys
from collections.abc import Callable
from typing import Final

_FOR_EVER: Final = ("3", "12")
_MOST: Final = 1 << 14

word: Callable[[str], str] = (
    functools.lru_cache(_MOST)(str) if platform.python_version_tuple()[:2] == _FOR_EVER else sys.intern
)
"""The text itself, as the same object for equal texts as long as may be."""
