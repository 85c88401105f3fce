"""Who we are to an API server: request headers and a TLS context, renewed as files rotate.

Invariant: what was read is used for at most a minute; an answer 401 has it read again at once. A file that
cannot be read now does not undo what was read before.
"""

from __future__ import annotations

import base64
import binascii
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import structlog

from isthmus.errors import ConfigError

RENEW_SECONDS = 60.0

Content = Path | str | None
"""PEM: a file, base64 text, or nothing."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """`tls` is None for a plain HTTP server."""

    headers: Mapping[str, str]
    tls: ssl.SSLContext | None


class CredentialSource(Protocol):
    """Gives the credentials of the moment; `renew` after a 401."""

    async def credentials(self, *, renew: bool = False) -> Credentials: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Static ways to say who we are; a token goes before name and password."""

    certificate: Content = None
    key: Content = None
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    name: str = ""
    password: str = field(default="", repr=False)


class Files:
    """Credentials from files and inline data."""

    def __init__(
        self,
        *,
        where: str,
        encrypted: bool,
        ca: Content = None,
        insecure: bool = False,
        user: User = User(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.where = where
        self.encrypted = encrypted
        self._ca = ca
        self._insecure = insecure
        self._user = user
        self._clock = clock
        self._read_at = float("-inf")
        self._stamps: tuple[int, ...] | None = None
        self._held: Credentials | None = None

    async def credentials(self, *, renew: bool = False) -> Credentials:
        """The credentials; reads the files again after a minute. Raises ConfigError the first time only."""
        if self._held is None or renew or self._clock() - self._read_at >= RENEW_SECONDS:
            self._read_at = self._clock()
            try:
                self._held = self.load(self._user)
            except ConfigError as error:
                if self._held is None:
                    raise
                log.warning("credentials not renewed", where=self.where, error=str(error))
        return self._held

    def load(self, user: User) -> Credentials:
        """Reads everything now; an unchanged TLS context is kept, so that connections live on."""
        return Credentials(headers=self._headers(user), tls=self._tls(user) if self.encrypted else None)

    def _headers(self, user: User) -> dict[str, str]:
        token = user.token
        if user.token_file is not None:
            token = self._bytes(user.token_file, "token file").decode(errors="replace").strip()
        if token:
            return {"Authorization": f"Bearer {token}"}
        if user.name:
            pair = base64.b64encode(f"{user.name}:{user.password}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
        return {}

    def _tls(self, user: User) -> ssl.SSLContext:
        paths = [part for part in (self._ca, user.certificate, user.key) if isinstance(part, Path)]
        stamps = tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)
        if self._held is not None and self._held.tls is not None and stamps == self._stamps:
            return self._held.tls
        authority = (
            self._bytes(self._ca, "certificate authority").decode(errors="replace") if self._ca else None
        )
        try:
            context = ssl.create_default_context(cadata=authority)
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError(f"{self.where}: the certificate authority is no PEM certificate") from error
        # Python 3.13 turns this on; the authorities of many clusters lack the extensions it asks for.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self._insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if user.certificate is not None:
            self._load_certificate(context, user)
        self._stamps = stamps
        return context

    def _load_certificate(self, context: ssl.SSLContext, user: User) -> None:
        if user.key is None:
            raise ConfigError(f"{self.where}: a client certificate without its key")
        pem = (
            self._bytes(user.certificate, "client certificate") + b"\n" + self._bytes(user.key, "client key")
        )
        # The ssl module takes files only.
        with tempfile.NamedTemporaryFile(prefix="isthmus-") as file:  # mode 0600
            file.write(pem)
            file.flush()
            try:
                context.load_cert_chain(file.name)
            except ssl.SSLError as error:
                raise ConfigError(
                    f"{self.where}: client certificate and key do not fit: {error.reason}"
                ) from error

    def _bytes(self, content: Content, what: str) -> bytes:
        if isinstance(content, Path):
            try:
                return content.read_bytes()
            except OSError as error:
                raise ConfigError(f"{self.where}: cannot read {what} {content}: {error.strerror}") from error
        try:
            return base64.b64decode(content or "", validate=False)
        except (binascii.Error, ValueError) as error:
            raise ConfigError(f"{self.where}: the {what} data is not base64") from error


class PluginFiles:
    """Credentials that a plugin of the kubernetes package gets (exec, auth-provider)."""

    def __init__(self, files: Files, plugin: Mapping[str, Any], server: str) -> None:
        self._files = files
        self._document = {
            "current-context": "it",
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "clusters": [{"name": "it", "cluster": {"server": server}}],
            "users": [{"name": "it", "user": dict(plugin)}],
        }
        self._loader: Any = None
        self._read_at = float("-inf")
        self._held: Credentials | None = None

    async def credentials(self, *, renew: bool = False) -> Credentials:
        """As the plugin gives them; it is asked again once they expire, or after a minute without expiry."""
        if self._held is None or renew or time.monotonic() - self._read_at >= RENEW_SECONDS:
            self._read_at = time.monotonic()
            if renew:
                self._loader = None  # it would give the same again until that expires
            try:
                self._held = self._files.load(await self._ask())
            except ConfigError as error:
                if self._held is None:
                    raise
                log.warning("credentials not renewed", where=self._files.where, error=str(error))
        return self._held

    async def _ask(self) -> User:
        from kubernetes.aio.client import Configuration
        from kubernetes.aio.config import ConfigException
        from kubernetes.aio.config.kube_config import KubeConfigLoader

        if self._loader is None:
            self._loader = KubeConfigLoader(self._document)  # type: ignore[no-untyped-call]  # the package types nothing here
        configuration = Configuration()
        try:
            await self._loader.load_and_set(configuration)
        except (ConfigException, OSError, ValueError, KeyError) as error:
            raise ConfigError(f"{self._files.where}: the credential plugin failed: {error}") from error
        token = str(configuration.api_key.get("BearerToken", ""))
        certificate, key = configuration.cert_file, configuration.key_file
        if not token and not certificate:
            # The package logs why and goes on without.
            raise ConfigError(
                f"{self._files.where}: the credential plugin gave neither token nor certificate"
            )
        return User(
            token=token.removeprefix("Bearer ").strip(),
            certificate=Path(certificate) if certificate else None,
            key=Path(key) if key else None,
        )
