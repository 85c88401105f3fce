"""ClusterIP addresses: which are taken, and the next free one.

As the real allocator does, automatic addresses come from the upper part of a range, so that the first ones
(16 to 256, depending on its size) stay free for people who choose their own; addresses are handed out in
turn, so that a released one rests as long as possible.
"""

from __future__ import annotations

import ipaddress
from typing import Literal

Family = Literal["IPv4", "IPv6"]
_WIDEST = 1 << 20
"""Only this many addresses of a wide IPv6 range are used, as in the real allocator."""


class ServiceRange:
    """The addresses of one service CIDR."""

    def __init__(self, cidr: str) -> None:
        self.network = ipaddress.ip_network(cidr)
        self.family: Family = "IPv4" if self.network.version == 4 else "IPv6"
        broadcast = 1 if self.family == "IPv4" else 0
        self._size = min(self.network.num_addresses - 1 - broadcast, _WIDEST)
        if self._size < 1:
            raise ValueError(f"{cidr}: a service range needs more than one address")
        self._first = int(self.network.network_address) + 1
        self._reserved = min(max(16, self._size // 16), 256) if self._size > 16 else 0
        self._next = self._reserved
        self._taken: set[int] = set()

    def contains(self, address: str) -> bool:
        """Whether services may have this address."""
        return 0 <= self._offset(address) < self._size

    def taken(self, address: str) -> bool:
        return self._offset(address) in self._taken

    def take(self, address: str) -> None:
        self._taken.add(self._offset(address))

    def release(self, address: str) -> None:
        self._taken.discard(self._offset(address))

    def allocate(self) -> str | None:
        """A free address, now taken; None when the range is full."""
        if len(self._taken) >= self._size:
            return None
        span = self._size - self._reserved
        for step in range(span):
            offset = self._reserved + (self._next - self._reserved + step) % span
            if offset not in self._taken:
                self._next = offset + 1
                return self._give(offset)
        return next(
            (self._give(offset) for offset in range(self._reserved) if offset not in self._taken), None
        )

    def first(self) -> str:
        """The address of the `kubernetes` service."""
        return self._address(0)

    def _give(self, offset: int) -> str:
        self._taken.add(offset)
        return self._address(offset)

    def _address(self, offset: int) -> str:
        return str(self.network.network_address + 1 + offset)

    def _offset(self, address: str) -> int:
        """Place in the range; negative for what is no address of this family."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return -1
        return int(parsed) - self._first if parsed.version == self.network.version else -1


def family_of(address: str) -> Family | None:
    """Family of a textual address; None for what is none."""
    try:
        return "IPv4" if ipaddress.ip_address(address).version == 4 else "IPv6"
    except ValueError:
        return None
