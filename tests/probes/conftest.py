"""Makes `probe_simulation` and `probe_servers` importable: test folders are not packages."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
