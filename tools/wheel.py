"""Puts the compiled fast path of DNS into the wheel, which is then one for this platform.

Without a C compiler the wheel is one for every platform, and DNS answers from Python.
"""

from __future__ import annotations

import runpy
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class FastPath(BuildHookInterface):  # type: ignore[type-arg]
    """Called by hatchling."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or version == "editable":
            return
        library = runpy.run_path(str(Path(self.root, "isthmus/dns/library.py")))
        self.folder = tempfile.TemporaryDirectory()
        target = Path(self.folder.name, "_fastpath.so")
        reason = library["build"](target)
        if reason:
            self.app.display_warning(f"DNS will answer from Python, which is slower: {reason}")
            return
        build_data["force_include"][str(target)] = "isthmus/dns/_fastpath.so"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact: str) -> None:
        if folder := getattr(self, "folder", None):
            folder.cleanup()
