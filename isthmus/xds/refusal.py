"""Why a stream is refused or ended, in words for clients and as a closed set for monitoring."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from isthmus.errors import WireError


class Ending(StrEnum):
    """Why a stream was refused or ended."""

    FULL = "full"
    """One more than the worker carries."""
    RATE = "rate"
    """One client, or all together, open streams too often."""
    PROTOCOL = "protocol"
    """What came is no request, or one that the protocol forbids."""
    SIZE = "size"
    """A request of more bytes than are read."""
    NAMES = "names"
    """More names than are kept."""
    CLASSES = "classes"
    """More classes of proxies than are rendered."""
    IDENTITY = "identity"
    """The certificate does not allow that node."""
    SILENT = "silent"
    """No first request."""
    RESET = "reset"
    """The client took the stream back, or the transport ended it, before a first request was read."""
    STALLED = "stalled"
    """The client does not read."""


class Refused(WireError):
    """A stream that may not be or may not go on; `ending` says why in one word."""

    ending: ClassVar[Ending] = Ending.PROTOCOL


class TooLarge(Refused):
    """A request has more bytes than are read."""

    ending = Ending.SIZE


class TooManyNames(Refused):
    """A client subscribes to more names than are kept."""

    ending = Ending.NAMES


class TooManyClasses(Refused):
    """The clients of a worker stand in more places, or listen at more, than are rendered for."""

    ending = Ending.CLASSES


class TooOften(Refused):
    """Streams are opened faster than they are let in."""

    ending = Ending.RATE


class NotThatNode(Refused):
    """The client's certificate does not speak for the node that it says it is."""

    ending = Ending.IDENTITY
