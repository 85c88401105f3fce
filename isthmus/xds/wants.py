"""Which proxy classes have callers: what tells the control process what to render.

A class is wanted from its first stream on, and for LINGER_SECONDS after its last one has gone, so that a
proxy that reconnects finds its rows where they were.
"""

from __future__ import annotations

from isthmus.flow.table import Writer
from isthmus.xds.rows import ProxyClass

LINGER_SECONDS = 60.0


class Wants:
    """Counts streams by class and keeps a row (class text, empty value) for each class that is wanted."""

    def __init__(self, writer: Writer[str, bytes]) -> None:
        self._writer = writer
        self._streams: dict[ProxyClass, int] = {}
        self._left: dict[ProxyClass, float] = {}
        writer.replace({})

    def __len__(self) -> int:
        return len(self._streams) + len(self._left)

    def __contains__(self, proxy_class: ProxyClass) -> bool:
        return proxy_class in self._streams or proxy_class in self._left

    def join(self, proxy_class: ProxyClass) -> None:
        """A stream of that class has come."""
        self._left.pop(proxy_class, None)
        self._streams[proxy_class] = self._streams.get(proxy_class, 0) + 1
        self._writer.put(str(proxy_class), b"")

    def leave(self, proxy_class: ProxyClass, now: float) -> None:
        """A stream of that class has gone."""
        self._streams[proxy_class] -= 1
        if not self._streams[proxy_class]:
            del self._streams[proxy_class]
            self._left[proxy_class] = now

    def expire(self, now: float) -> None:
        """Drops the classes whose last stream left long enough ago."""
        for proxy_class in [c for c, since in self._left.items() if now - since >= LINGER_SECONDS]:
            del self._left[proxy_class]
            self._writer.drop(str(proxy_class))
