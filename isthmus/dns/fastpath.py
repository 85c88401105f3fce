"""The fast path in C (`_core`), as Python sees it: a mirror of the zone's names that answers by itself.

Invariants: a `FastPath` serves sockets from threads of its own, and is itself used by one thread; a reply it
gives is the one that `Responder` would give, else it says `ASK_PYTHON`.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_ubyte, c_uint32, c_uint64, c_void_p
from errno import ENOMEM
from functools import cache
from pathlib import Path
from struct import Struct
from typing import Final, Literal, NamedTuple

import structlog

from isthmus.dns import wire
from isthmus.dns.compiled import UNSAID
from isthmus.dns.draw import client_words
from isthmus.dns.library import library
from isthmus.dns.places import Range

log = structlog.get_logger()

ASK_PYTHON: Final = "ask Python"
RARE: Final = 0
FORWARDED: Final = 1
Queue = Literal[0, 1]
"""Queries that Python answers, and those that it asks others about."""
LISTENERS: Final = 16
"""More sockets than these are answered from Python."""

_NO_REPLY: Final = 0
_WORD: Final = 1 << 64
_FROM: Final = Struct("=H2x4s16s")
"""Family, IPv4 address and, behind four bytes more of the same place, the IPv6 address of a sockaddr."""


class _Aside(ctypes.Structure):
    """The head of `struct aside`."""

    _fields_ = (
        ("since", c_uint64),
        ("sender", c_ubyte * 128),
        ("control_length", c_size_t),
        ("length", c_uint32),
        ("shown", c_uint32),
        ("fd", c_int),
        ("control", c_ubyte * 64),
    )
    _align_ = 8


_QUERY_AT: Final = 8 + 128 + 8 + 4 + 4 + 8 + 64

_SIGNATURES: Final[dict[str, tuple[object, Sequence[object]]]] = {
    "fp_new": (c_void_p, (c_uint32, c_uint64, c_int)),
    "fp_free": (None, (c_void_p,)),
    "fp_stop": (None, (c_void_p,)),
    "fp_wake_fd": (c_int, (c_void_p,)),
    "fp_serve": (c_int, (c_void_p, c_int, c_int, c_uint32)),
    "fp_put": (c_int, (c_void_p, c_char_p, c_uint32, c_char_p, c_uint32)),
    "fp_drop": (None, (c_void_p, c_char_p, c_uint32)),
    "fp_names": (c_size_t, (c_void_p,)),
    "fp_zone": (c_int, (c_void_p, c_char_p, c_uint32, c_char_p, c_uint32, POINTER(c_uint32), c_int, c_int)),
    "fp_places": (c_int, (c_void_p, POINTER(c_uint64), c_uint32)),
    "fp_answer": (c_int, (c_void_p, c_char_p, c_uint32, c_uint64, c_uint64, c_uint64, c_int, c_char_p)),
    "fp_count_tcp": (None, (c_void_p, c_char_p, c_uint32, c_int)),
    "fp_show": (None, (c_void_p,)),
    "fp_next": (POINTER(_Aside), (c_void_p, c_uint32)),
    "fp_done": (None, (c_void_p, c_uint32, c_char_p, c_uint32)),
    "fp_send": (c_int, (c_void_p, c_char_p, c_char_p, c_uint32)),
    "fp_counts": (c_uint32, (c_void_p, POINTER(c_uint64))),
}


class Aside(NamedTuple):
    """A query over UDP for Python. `outcome` is None, or the number of that of the reply it has had.

    `sender` is what `send` wants to know.
    """

    query: bytes
    client: str
    outcome: int | None
    sender: bytes


@cache
def load(path: Path) -> ctypes.CDLL | None:
    """The library, None (and one line in the log) where it cannot be loaded."""
    try:
        lib = ctypes.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(lib, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        log.warning("dns fast path cannot be loaded", path=str(path), reason=str(error))
        return None
    return lib


def start(udp_size: int, *, forwards: bool = False) -> FastPath | None:
    """A fast path, None where there is no library for it on this machine."""
    path = library()
    lib = load(path) if path is not None else None
    return FastPath(lib, udp_size, forwards=forwards) if lib is not None else None


class FastPath:
    """Names that are answered without Python, in replies of at most `udp_size` bytes over UDP.

    With `forwards` queries about other zones are laid aside, in a queue of their own, instead of refused.
    Once closed it takes nothing more, knows no name and counts no further.
    """

    def __init__(self, lib: ctypes.CDLL, udp_size: int, *, forwards: bool = False) -> None:
        self._lib = lib
        self._core: int | None = lib.fp_new(udp_size, int.from_bytes(os.urandom(8), "little"), int(forwards))
        if self._core is None:
            raise MemoryError("no memory for the DNS fast path")
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._reply = ctypes.create_string_buffer(wire.MAX_MESSAGE)
        self._counts = (c_uint64 * lib.fp_counts(self._core, None))()

    def __len__(self) -> int:
        return int(self._lib.fp_names(self._core)) if self._core is not None else 0

    def put(self, name: bytes, node: bytes) -> None:
        """Sets what stands at a folded name; a node that is refused leaves the name to Python."""
        if self._core is None:
            return
        code = self._lib.fp_put(self._core, name, len(name), node, len(node))
        if code == ENOMEM:
            raise MemoryError("no memory for a DNS name")
        if code and node is not UNSAID:
            self.put(name, UNSAID)

    def drop(self, name: bytes) -> None:
        """Removes a name; one that is not there is fine."""
        if self._core is not None:
            self._lib.fp_drop(self._core, name, len(name))

    def zone(self, name: bytes, serial: int, negative_ttl: int, *, ready: bool, stale: bool = False) -> None:
        """The zone's folded name and what negative answers say; until it is `ready`, Python speaks of it.

        While it is `stale`, answers say that they are (RFC 8914).
        """
        if self._core is None:
            return
        owner = b"\xff\xff"  # nowhere else in this record: all its numbers are small but the serial
        parts = wire.soa(owner, 0, negative_ttl, negative_ttl).split(owner)
        at, places = 0, []
        for part in parts[:-1]:
            at += len(part)
            places.append(at)
            at += len(owner)
        soa = wire.soa(b"\x00\x00", serial, negative_ttl, negative_ttl)
        pointers = (c_uint32 * len(places))(*places)
        self._lib.fp_zone(self._core, name, len(name), soa, len(soa), pointers, int(ready), int(stale))

    def places(self, askers: Sequence[Range]) -> None:
        """Where callers stand by the address that they ask from: disjoint ranges in order."""
        if self._core is None:
            return
        words: list[int] = []
        for first, last, place in askers:
            words += (*divmod(first, _WORD), *divmod(last, _WORD), place)
        code = self._lib.fp_places(self._core, (c_uint64 * len(words))(*words), len(askers))
        if code == ENOMEM:
            raise MemoryError("no memory for the zones of DNS callers")

    def answer(
        self, query: bytes, client: str, now: float, transport: Literal["udp", "tcp"]
    ) -> bytes | Literal["ask Python"] | None:
        """The reply to one message, None where there is none; arguments as for `Responder.answer`."""
        if self._core is None:
            return ASK_PYTHON
        high, low = client_words(client)
        tcp = int(transport == "tcp")
        length = self._lib.fp_answer(self._core, query, len(query), high, low, int(now), tcp, self._reply)
        if length < _NO_REPLY:
            return ASK_PYTHON
        return None if length == _NO_REPLY else ctypes.string_at(self._reply, length)

    def serve(self, sock: socket.socket, *, told: bool) -> bool:
        """Serve a bound UDP socket from a thread of its own; False where there are too many, or it is closed.

        With `told` the socket tells each query's destination, and replies come from there.
        """
        number = len(self._threads)
        if number >= LISTENERS or self._core is None:
            return False
        sock.setblocking(True)
        thread = threading.Thread(
            target=self._lib.fp_serve,
            args=(self._core, sock.fileno(), int(told), number),
            name=f"dns-udp-{number}",
            daemon=True,
        )
        self._sockets.append(sock)
        self._threads.append(thread)
        thread.start()
        return True

    @property
    def wake_fd(self) -> int:
        """Readable (as an eventfd) when there may be something for `asides`; -1 once closed."""
        return int(self._lib.fp_wake_fd(self._core)) if self._core is not None else -1

    def asides(self, most: int, queue: Queue = RARE) -> Iterator[Aside]:
        """The queries that wait in a queue, oldest first; `done` has to be called after each."""
        for _ in range(most):
            found = self._core is not None and self._lib.fp_next(self._core, queue)
            if not found:
                return
            aside = found.contents
            head = ctypes.string_at(found, _QUERY_AT)
            query = ctypes.string_at(ctypes.addressof(aside) + _QUERY_AT, aside.length)
            shown = aside.shown - 1 if aside.shown else None
            yield Aside(query, _address(bytes(aside.sender)), shown, head)

    def done(self, reply: bytes | None, queue: Queue = RARE) -> None:
        """Send the reply to the query that `asides` gave last, or none."""
        if self._core is not None:
            self._lib.fp_done(self._core, queue, reply or b"", len(reply or b""))

    def send(self, sender: bytes, message: bytes) -> None:
        """Send a message to where a query came from; it is not counted."""
        if self._core is not None:
            self._lib.fp_send(self._core, sender, message, len(message))

    def show(self) -> None:
        """Ask for one of the next queries to be shown among `asides`."""
        if self._core is not None:
            self._lib.fp_show(self._core)

    def count_tcp(self, reply: bytes | None, *, by_python: bool) -> None:
        """Count a reply over TCP, None being what was no query."""
        if self._core is not None:
            self._lib.fp_count_tcp(self._core, reply or b"", len(reply or b""), int(by_python))

    def counts(self) -> Sequence[int]:
        """What was counted, as `metrics` lays it out."""
        if self._core is not None:
            self._lib.fp_counts(self._core, self._counts)
        return tuple(self._counts)

    def close(self) -> None:
        """End the threads and forget everything. The sockets are shut down, closing them is the caller's."""
        if self._core is None:
            return
        self._lib.fp_stop(self._core)
        for sock in self._sockets:
            try:
                sock.shutdown(socket.SHUT_RD)
            except OSError:  # "not connected": it has woken whoever waits there all the same
                continue
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._lib.fp_counts(self._core, self._counts)  # a counter never falls
        self._lib.fp_free(self._core)
        self._core = None


def _address(sender: bytes) -> str:
    family, v4, v6 = _FROM.unpack_from(sender)
    return socket.inet_ntop(family, v4 if family == socket.AF_INET else v6)
