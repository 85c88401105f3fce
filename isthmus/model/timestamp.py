"""Points in time as Kubernetes writes them (RFC 3339) and as we count them (seconds since the epoch)."""

from __future__ import annotations

from datetime import UTC, datetime


def parse_time(text: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 time with zone, to the microsecond; None where it is none."""
    if len(text) > 40 or "T" not in text:
        return None
    try:
        when = datetime.fromisoformat(text)
        if when.tzinfo is None:
            return None
        return when.timestamp()
    except (ValueError, OverflowError):
        return None


def format_time(seconds: float) -> str:
    """RFC 3339 in UTC with microseconds (metav1.MicroTime) of seconds since the epoch."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
