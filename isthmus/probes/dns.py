"""The DNS check: any well-formed answer to one question passes, but for SERVFAIL (RFC 1035, RFC 8906).

The question is for the name servers of the root, without recursion: every server can answer it at once, if
only with REFUSED, and none has to ask another. Over TCP the message has its length before it (RFC 7766).
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct

from isthmus.probes.connection import Plain, dialled
from isthmus.probes.outcome import PASSED, TIMEOUT, Outcome, failed

_HEADER = struct.Struct("!HHHHHH")
_QUESTION = b"\x00" + struct.pack("!HH", 2, 1)  # ". NS IN"
_ANSWER_BIT, _OPCODE, _RCODE = 0x8000, 0x7800, 0x000F
_SERVFAIL = 2
_LENGTH = 2
"""Bytes before each message of a stream."""
_MOST_STRAY = 16
"""Datagrams that are no answer to the question, after which we stop listening."""


async def check_dns(address: str, port: int, timeout: float, *, udp: bool) -> Outcome:
    """Asks within `timeout` seconds, over UDP or TCP."""
    ident = random.getrandbits(16)
    query = _HEADER.pack(ident, 0, 1, 0, 0, 0) + _QUESTION
    try:
        with dialled(address, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as connection:
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().sock_connect(connection, (address, port))
                plain = Plain(connection)
                if not udp:
                    await plain.send(len(query).to_bytes(_LENGTH) + query)
                    return _judged(await _message(plain), ident) or Outcome(False, "not DNS")
                await plain.send(query)
                for _ in range(_MOST_STRAY):
                    if (found := _judged(await plain.receive(), ident)) is not None:
                        return found
                return Outcome(False, "not DNS")
    except TimeoutError as error:
        return failed(error) if error.errno else TIMEOUT
    except OSError as error:
        return failed(error)


async def _message(plain: Plain) -> bytes:
    """The first bytes of one message of a stream: all that is judged, or what there was before the end."""
    found, wanted = b"", _LENGTH
    while len(found) < wanted and (data := await plain.receive()):
        found += data
        if len(found) >= _LENGTH:
            length = int.from_bytes(found[:_LENGTH])
            wanted = _LENGTH + min(length, _HEADER.size + len(_QUESTION))
    return found[_LENGTH:wanted]


def _judged(message: bytes, ident: int) -> Outcome | None:
    """What an answer says of its server, None where it is no answer to our question."""
    if len(message) < _HEADER.size:
        return None
    answered, flags, questions, *_ = _HEADER.unpack_from(message)
    if answered != ident or not flags & _ANSWER_BIT or flags & _OPCODE:
        return None
    if questions and not message.startswith(_QUESTION, _HEADER.size):
        return None
    return Outcome(False, "SERVFAIL") if flags & _RCODE == _SERVFAIL else PASSED
