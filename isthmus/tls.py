"""Certificates in files that somebody renews while they are used.

Invariants: what is handed out always belongs together (key and certificate fit, authorities can be read); new
files that do not are told once and the old ones stay in use; nothing is read again while nothing has changed.
A mounted Secret is replaced by turning a link: files are looked at by name every time and never kept open.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from isthmus.errors import ConfigError

if TYPE_CHECKING:
    from cryptography import x509

log = structlog.get_logger()

LOOK_SECONDS = 1.0
"""How long an answer is good without looking at the files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """PEM files: a certificate with its chain, its key, and the authorities that sign for the other side."""

    certificate: Path
    key: Path
    authorities: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What the files held at one time; `number` grows with each renewal."""

    certificate: bytes
    key: bytes
    authorities: bytes
    expires: datetime
    number: int


class Certificates:
    """The newest good content of three files. May be asked from any thread."""

    def __init__(self, files: Files, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ConfigError where the files cannot be used."""
        self._files = files
        self._clock = clock
        self._lock = threading.Lock()
        self._seen = _signature(files)
        self._pair = _load(files, 1)
        self._looked = clock()

    def current(self) -> Pair:
        """What to use for the next connection."""
        with self._lock:
            if self._clock() - self._looked >= LOOK_SECONDS:
                self._looked = self._clock()
                self._look()
            return self._pair

    def _look(self) -> None:
        seen = _signature(self._files)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            pair = _load(self._files, self._pair.number + 1)
        except ConfigError as error:
            log.error("certificate not renewed", reason=str(error), expires=str(self._pair.expires))
            return
        self._pair = pair
        log.info("certificate renewed", file=str(self._files.certificate), expires=str(pair.expires))


def _signature(files: Files) -> tuple[object, ...]:
    """What changes with the files' content; files are small, and their times may stand still."""
    found: list[object] = []
    for path in (files.certificate, files.key, files.authorities):
        try:
            found.append(hashlib.blake2b(path.read_bytes(), digest_size=16).digest())
        except OSError as error:
            found.append(error.errno)
    return tuple(found)


def _load(files: Files, number: int) -> Pair:
    # Here, because the library takes 10 MB, also of a process that is given no certificate.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    certificate, key, authorities = (
        _read(path) for path in (files.certificate, files.key, files.authorities)
    )
    chain = _certificates(files.certificate, certificate)
    _certificates(files.authorities, authorities)
    try:
        private = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{files.key}: no private key without a password in PEM: {error}") from error
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != chain[0].public_key().public_bytes(*form):
        raise ConfigError(f"{files.key}: is not the key of the certificate in {files.certificate}")
    expires = chain[0].not_valid_after_utc
    if expires <= datetime.now(UTC):
        raise ConfigError(f"{files.certificate}: has expired ({expires}); renew it")
    return Pair(certificate=certificate, key=key, authorities=authorities, expires=expires, number=number)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {os.strerror(error.errno or 0)}") from error


def _certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ConfigError(f"{path}: no certificates in PEM: {error}") from error
