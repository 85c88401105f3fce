"""Log lines of processes that share one standard error."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys

class Recorded:
    def __init__(self): self.written = []
    def write(self, text): self.written.append(text)
    def flush(self): pass
    def isatty(self): return False

sys.stderr = recorded = Recorded()
from isthmus.agent import logs
logs.configure("tested", style="json")
import structlog
structlog.get_logger().info("an event", key="value")
print(len(recorded.written), recorded.written[0].endswith("}\\n"))
"""


def test_a_line_is_one_write() -> None:
    found = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert found.stdout == "1 True\n"
