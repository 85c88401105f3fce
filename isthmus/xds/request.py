"""Reading what a client sends: DiscoveryRequests of both variants of the protocol.

A state-of-the-world client repeats all its names in every acknowledgement. Invariant: names are parsed when
they change and otherwise recognised by comparing bytes, so an acknowledgement costs the same for one name as
for thousands; the result is the same as that of parsing everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError

from isthmus.errors import WireError
from isthmus.xds.names import Names, NameSets
from isthmus.xds.refusal import TooManyNames
from isthmus.xds.snapshot import TYPE_URLS

_KNOWN = frozenset(TYPE_URLS.values())
_VERSION, _NODE, _NAMES = 0x0A, 0x12, 0x1A
_DELTA_NODE, _DELTA_TYPE = 0x0A, 0x12
"""Of a DeltaDiscoveryRequest, whose names to subscribe to have the tag of _NAMES."""
MAX_NACK = 1000
_LONGEST_VARINT = 10
"""Bytes (protobuf encoding guide, "Base 128 Varints")."""
FEW_NAMES = 8
"""So many names of a Delta request are parsed faster than they are recognised."""


@dataclass(frozen=True, slots=True)
class Request:
    """One DiscoveryRequest. `names` None: the same as in the last request of this type."""

    type_url: str
    nonce: str
    error: str | None
    """Text of a rejection, None for anything else."""
    names: Names | None
    node: base_pb2.Node


@dataclass(frozen=True, slots=True)
class DeltaRequest:
    """One DeltaDiscoveryRequest; `versions` by name are what a client still has from an earlier stream."""

    type_url: str
    nonce: str
    error: str | None
    subscribe: frozenset[str]
    unsubscribe: frozenset[str]
    versions: Mapping[str, str]
    node: base_pb2.Node


@dataclass(frozen=True, slots=True)
class _Seen:
    """Where the names of the last request of a type stood: their bytes, or where those are nobody else's, a
    hash of them (Python's is keyed: nobody can prepare other bytes of the same hash)."""

    size: int
    digest: int
    block: bytes

    def at(self, data: bytes, start: int) -> bool:
        if self.block:
            return data.startswith(self.block, start)
        return len(data) >= start + self.size and hash(data[start : start + self.size]) == self.digest


class RequestReader:
    """Reads the requests of one state-of-the-world stream; remembers how names were written."""

    __slots__ = (
        "_seen",
        "_sets",
    )

    def __init__(self, sets: NameSets) -> None:
        self._sets = sets
        self._seen: dict[str, _Seen] = {}

    def read(self, data: bytes) -> Request:
        """The request. Raises WireError for what is none, and for too many names."""
        try:
            start, _ = _walk(data, 0, _VERSION, _NODE)
            for type_url, seen in self._seen.items():
                if seen.at(data, start):
                    message = _without(data, start, seen.size)
                    if message.type_url == type_url and not message.resource_names:
                        return _request(message, None)
            for names in self._sets.recent:
                if names.block and data.startswith(names.block, start):
                    message = _without(data, start, len(names.block))
                    if not message.resource_names:
                        self._remember(message.type_url, names, names.block)
                        return _request(message, names)
            message = discovery_pb2.DiscoveryRequest.FromString(data)
            count = len(message.resource_names)
            if count > self._sets.most:
                raise TooManyNames(f"more than {self._sets.most} names in one subscription")
            end, run = _walk(data, start, _NAMES)
        except (DecodeError, IndexError) as error:
            raise WireError(f"not a DiscoveryRequest: {error}") from error
        block = data[start:end] if 0 < run == count else b""
        names = self._sets.of(message.resource_names, block)
        self._remember(message.type_url, names, block)
        return _request(message, names)

    def forget(self, type_url: str) -> None:
        """Has the names of the next request of this type parsed: those of the last one were not taken."""
        self._seen.pop(type_url, None)

    def _remember(self, type_url: str, names: Names, block: bytes) -> None:
        self._seen.pop(type_url, None)
        if block and type_url in _KNOWN:
            shared = names.block if names.block == block else b""
            self._seen[type_url] = _Seen(len(block), hash(block), shared)


def read_delta(data: bytes, sets: NameSets) -> DeltaRequest:
    """A DeltaDiscoveryRequest. Raises WireError for what is none, and for too many names.

    Many names that another client has written just so are recognised, and not parsed again.
    """
    try:
        start, _ = _walk(data, 0, _DELTA_NODE, _DELTA_TYPE)
        for names in sets.recent:
            if names.block and data.startswith(names.block, start):
                message = _delta_message(data[:start] + data[start + len(names.block) :], sets.most)
                if not message.resource_names_subscribe:
                    return _delta_request(message, names.held)
        message = _delta_message(data, sets.most)
        subscribe = message.resource_names_subscribe
        if len(subscribe) <= FEW_NAMES:
            return _delta_request(message, frozenset(subscribe))
        end, run = _walk(data, start, _NAMES)
    except (DecodeError, IndexError) as error:
        raise WireError(f"not a DeltaDiscoveryRequest: {error}") from error
    names = sets.of(subscribe, data[start:end] if run == len(subscribe) else b"")
    return _delta_request(message, names.held)


def _delta_message(data: bytes, most: int) -> discovery_pb2.DeltaDiscoveryRequest:
    message = discovery_pb2.DeltaDiscoveryRequest.FromString(data)
    subscribe, unsubscribe = message.resource_names_subscribe, message.resource_names_unsubscribe
    if max(len(subscribe), len(unsubscribe), len(message.initial_resource_versions)) > most:
        raise TooManyNames(f"more than {most} names in one subscription")
    return message


def _delta_request(message: discovery_pb2.DeltaDiscoveryRequest, subscribe: frozenset[str]) -> DeltaRequest:
    return DeltaRequest(
        message.type_url,
        message.response_nonce,
        message.error_detail.message[:MAX_NACK] if message.HasField("error_detail") else None,
        subscribe,
        frozenset(message.resource_names_unsubscribe),
        dict(message.initial_resource_versions),
        message.node,
    )


def _without(data: bytes, start: int, size: int) -> discovery_pb2.DiscoveryRequest:
    """The message but for bytes that are known."""
    return discovery_pb2.DiscoveryRequest.FromString(data[:start] + data[start + size :])


def _request(message: discovery_pb2.DiscoveryRequest, names: Names | None) -> Request:
    rejected = message.HasField("error_detail")
    return Request(
        message.type_url,
        message.response_nonce,
        message.error_detail.message[:MAX_NACK] if rejected else None,
        names,
        message.node,
    )


def _walk(data: bytes, position: int, *tags: int) -> tuple[int, int]:
    """Where the run of length-delimited fields with these tags ends, and how many they are.

    Raises IndexError for data that ends within a length, and for a length that never ends.
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
            if shift >= 7 * _LONGEST_VARINT:
                raise IndexError(f"a length of more than {_LONGEST_VARINT} bytes")
        position += size
        count += 1
    return position, count
