"""The errors Isthmus raises.

    IsthmusError
    ├── ConfigError       a file, flag or environment that cannot be used; exit code 2
    ├── KubeError         an API server's answer, or the lack of one; exit code 3 at the command line
    │   ├── NotFound      404
    │   ├── Conflict      409: somebody else wrote first, or the object exists
    │   ├── Gone          410: the resource version is too old, list again
    │   ├── Invalid       400 or 422: the object was refused
    │   ├── Forbidden     401 or 403
    │   ├── TooLarge      an answer of more bytes than we take
    │   ├── Throttled     429 or 503 with Retry-After
    │   └── Unreachable   no answer: refused, reset, silent, not TLS
    ├── WireError         bytes that are not the protocol they should be (DNS, xDS, the replica link)
    ├── KernelError       the kernel refused an operation
    └── PlatformError     this machine cannot do what was asked; exit code 3

What can be expected (a stale cluster, no endpoints, an unknown name) is a value, not an exception; so is an
object that is refused at the border (`model.refusal.Refused`).
"""

from __future__ import annotations


class IsthmusError(Exception):
    """Root of all errors of this package; the message says what was wrong, where, and what to do."""


class ConfigError(IsthmusError):
    """A file, flag or environment variable that cannot be used as it is."""


class KubeError(IsthmusError):
    """An API server answered with an error; `status` is the HTTP code, 0 when there was no answer."""

    def __init__(self, message: str, *, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        """Seconds the server asked to wait, where it said so."""


class NotFound(KubeError):
    """The object or the resource does not exist."""


class Conflict(KubeError):
    """Another writer was first, the object already exists, or a field has another owner."""


class Gone(KubeError):
    """The resource version is no longer kept by the server: list again."""


class Invalid(KubeError):
    """The server refused the object's content."""


class Forbidden(KubeError):
    """The server does not know the caller, or does not allow it this."""


class TooLarge(KubeError):
    """The answer is longer than we take: ask for less at once."""


class Throttled(KubeError):
    """The server asks to come back later."""


class Unreachable(KubeError):
    """The server gave no answer in time, or none that is HTTP."""


class WireError(IsthmusError):
    """Bytes that break their protocol."""


class KernelError(IsthmusError):
    """The kernel refused an operation."""


class PlatformError(IsthmusError):
    """This machine or user lacks something that the command needs."""
