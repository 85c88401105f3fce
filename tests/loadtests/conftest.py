"""Makes `loadtests` importable wherever pytest was started."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
sys.path.append(str(Path(__file__).parent))  # test folders are not packages
sys.path.append(str(Path(__file__).parents[1] / "xds"))
