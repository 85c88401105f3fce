"""The subnet that a resolver asks for (EDNS Client Subnet, RFC 7871).

A resolver that asks for many callers may say whose query it is; then that subnet's draw is answered, and the
reply's scope says that it is theirs alone. Invariant: the option is answered only where it was sent, and
reading never raises, whatever the bytes are.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop
from struct import Struct
from typing import Final, NamedTuple

from isthmus.dns.question import options_of

OPTION: Final = 8
_FIXED: Final = Struct("!HBB")
_HEAD: Final = Struct("!HH")
_NO_FAMILY: Final = 0
_BYTES: Final = {_NO_FAMILY: 0, 1: 4, 2: 16}
_FAMILIES: Final = {4: AF_INET, 16: AF_INET6}


class Subnet(NamedTuple):
    """A well-formed option: its family (1 IPv4, 2 IPv6), source length, that much of an address."""

    family: int
    source: int
    prefix: bytes

    @property
    def client(self) -> str | None:
        """The subnet's first address, None where the caller asks not to be told apart (length 0)."""
        size = _BYTES[self.family]
        return inet_ntop(_FAMILIES[size], self.prefix.ljust(size, b"\x00")) if self.source else None

    def reply(self, *, tailored: bool) -> bytes:
        """The option of a reply; its scope is the source's length if the answer was drawn for the subnet."""
        scope = self.source if tailored else 0
        data = _FIXED.pack(self.family, self.source, scope) + self.prefix
        return _HEAD.pack(OPTION, len(data)) + data


class NotASubnet(NamedTuple):
    """An option that breaks the rules of section 7.1.2: the query is malformed."""


def find(options: bytes) -> Subnet | NotASubnet | None:
    """The subnet among the options of a query, None where none is asked for; two are one too many."""
    found: Subnet | NotASubnet | None = None
    for code, data in options_of(options):
        if code == OPTION:
            found = _read(data) if found is None else NotASubnet()
    return found


def _read(data: bytes) -> Subnet | NotASubnet:
    if len(data) < _FIXED.size:
        return NotASubnet()
    family, source, scope = _FIXED.unpack_from(data)
    prefix = data[_FIXED.size :]
    size = _BYTES.get(family)
    if size is None or scope or source > size * 8 or len(prefix) != (source + 7) // 8:
        return NotASubnet()
    if source % 8 and prefix[-1] & 0xFF >> source % 8:
        return NotASubnet()
    return Subnet(family, source, prefix)
