"""What one check found."""

from __future__ import annotations

import errno
from typing import NamedTuple


class Outcome(NamedTuple):
    """`ok` None: the check says nothing about its target (this machine could not even try)."""

    ok: bool | None
    reason: str = ""
    """Of a failure, in a few words: `refused`, `timeout`, `HTTP 503`."""


PASSED = Outcome(True)
TIMEOUT = Outcome(False, "timeout")

_OWN_FAULT = {
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files",
    errno.ENOBUFS: "no buffers",
    errno.ENOMEM: "no memory",
    errno.EADDRNOTAVAIL: "no free local port",
    errno.EAFNOSUPPORT: "address family not supported here",
}
_REASONS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timeout",
    errno.ENETUNREACH: "network unreachable",
    errno.EHOSTUNREACH: "host unreachable",
    errno.EACCES: "forbidden by a local firewall",
    errno.EPERM: "forbidden by a local firewall",
}


def failed(error: OSError) -> Outcome:
    """The outcome of a check that ended with an operating system's error."""
    number = error.errno or 0
    if number in _OWN_FAULT:
        return Outcome(None, _OWN_FAULT[number])
    return Outcome(False, _REASONS.get(number) or errno.errorcode.get(number, "error").lower())
