"""Logging of all processes: structlog to standard error, JSON lines or, where a person looks, columns.

Import this before anything else in a process: structlog loads rich for its tracebacks where it finds it,
which costs each process 120 ms and 8 MB.
"""

from __future__ import annotations

import sys

if "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]  # the documented way to make an import fail

import logging
from typing import Literal

import structlog

LogFormat = Literal["auto", "json", "text"]


def configure(process: str, *, level: str = "info", style: LogFormat = "auto") -> None:
    """Sets up logging for this process; `process` is bound to every line."""
    people = sys.stderr.isatty() if style == "auto" else style == "text"
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        if people
        else structlog.processors.JSONRenderer()
    )
    common: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([] if people else [structlog.processors.format_exc_info]),
    ]
    structlog.configure(
        processors=[*common, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),  # a line in one write: processes share it
    )
    structlog.contextvars.bind_contextvars(process=process)
    libraries = logging.StreamHandler(sys.stderr)  # asyncio warns by the standard library's logging
    libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[libraries])
