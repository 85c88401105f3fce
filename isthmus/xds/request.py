"""Reading what a client sends: DiscoveryRequests.

A state-of-the-world client repeats all its names in every acknowledgement. Invariant: names are parsed when
they change and otherwise recognised by comparing bytes, so an acknowledgement costs the same for one name as
for thousands; the result is the same as that of parsing everything.
"""

from __future__ import annotations

from dataclasses import dataclass

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError

from isthmus.errors import WireError
from isthmus.xds.snapshot import TYPE_URLS

_KNOWN = frozenset(TYPE_URLS.values())
_VERSION, _NODE, _NAMES = 0x0A, 0x12, 0x1A
MAX_NACK = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One DiscoveryRequest. `names` None: the same as in the last request of this type."""

    type_url: str
    names: frozenset[str] | None
    version: str
    nonce: str
    error: str | None
    """Text of a rejection, None for anything else."""


class RequestReader:
    """Reads the requests of one stream; remembers the bytes of the names of each type."""

    def __init__(self) -> None:
        self._names: dict[str, bytes] = {}

    def read(self, data: bytes) -> tuple[Request, discovery_pb2.DiscoveryRequest]:
        """The request and its message (without repeated names). Raises WireError for what is none."""
        try:
            start, _ = _walk(data, 0, _VERSION, _NODE)
            for type_url, block in self._names.items():
                if data.startswith(block, start):
                    rest = data[:start] + data[start + len(block) :]
                    message = discovery_pb2.DiscoveryRequest.FromString(rest)
                    if message.type_url == type_url and not message.resource_names:
                        return _request(message, None), message
            message = discovery_pb2.DiscoveryRequest.FromString(data)
            end, count = _walk(data, start, _NAMES)
        except (DecodeError, IndexError) as error:
            raise WireError(f"not a DiscoveryRequest: {error}") from error
        self._names.pop(message.type_url, None)
        if 0 < count == len(message.resource_names) and message.type_url in _KNOWN:
            self._names[message.type_url] = data[start:end]
        return _request(message, frozenset(message.resource_names)), message

    def forget(self, type_url: str) -> None:
        """Has the names of the next request of this type parsed: those of the last one were not taken."""
        self._names.pop(type_url, None)


def _request(message: discovery_pb2.DiscoveryRequest, names: frozenset[str] | None) -> Request:
    rejected = message.HasField("error_detail")
    return Request(
        type_url=message.type_url,
        names=names,
        version=message.version_info,
        nonce=message.response_nonce,
        error=message.error_detail.message[:MAX_NACK] if rejected else None,
    )


def _walk(data: bytes, position: int, *tags: int) -> tuple[int, int]:
    """Where the run of length-delimited fields with these tags ends, and how many they are.

    Raises IndexError for data that ends within a length.
    """
    count = 0
    while position < len(data) and data[position] in tags:
        position, size, shift = position + 1, 0, 0
        while True:
            byte = data[position]
            position += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        position += size
        count += 1
    return position, count
