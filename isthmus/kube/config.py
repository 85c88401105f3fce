"""How to reach an API server: kubeconfig files and the service account of a pod.

Invariant: nothing here reads the environment; paths and variables come as arguments. Static credentials
(certificates, tokens, token files, basic auth) are read here, because the kubernetes package costs 0.6 s and
24 MB to import; it is imported only for users that need its plugins (exec, auth-provider).
Format: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from isthmus.errors import ConfigError
from isthmus.kube.credentials import CredentialSource, Files, PluginFiles, User

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

NamedT = TypeVar("NamedT", bound="_Named")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One API server and who we are there. `name` is for people (the context's name, or `in-cluster`)."""

    name: str
    server: str
    """Base URL without a slash at the end."""
    source: CredentialSource
    namespace: str = "default"
    server_name: str = ""
    """The name to expect in the server's certificate, "" for the host of the URL."""
    proxy: str = ""


class _Cluster(msgspec.Struct, rename="kebab"):
    server: str
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None
    insecure_skip_tls_verify: bool | None = None
    tls_server_name: str | None = None
    proxy_url: str | None = None


class _User(msgspec.Struct, rename="kebab"):
    client_certificate: str | None = None
    client_certificate_data: str | None = None
    client_key: str | None = None
    client_key_data: str | None = None
    token: str | None = None
    token_file: str | None = msgspec.field(default=None, name="tokenFile")
    username: str | None = None
    password: str | None = None
    exec: dict[str, Any] | None = None
    auth_provider: dict[str, Any] | None = None


class _Context(msgspec.Struct, rename="kebab"):
    cluster: str
    user: str | None = None
    namespace: str | None = None


class _Named(msgspec.Struct):
    name: str


class _NamedCluster(_Named):
    cluster: _Cluster


class _NamedUser(_Named):
    user: _User | None = None


class _NamedContext(_Named):
    context: _Context


class _KubeConfig(msgspec.Struct, rename="kebab"):
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None
    current_context: str | None = None


def load_access(
    kubeconfig: Path | None,
    context: str | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    service_account: Path = SERVICE_ACCOUNT,
) -> Access:
    """How to reach the API server of a kubeconfig's context (None: its current one).

    Without a kubeconfig, the API server of the pod we run in; `environment` then gives
    KUBERNETES_SERVICE_HOST and _PORT, without them its DNS name is used. Raises ConfigError.
    """
    if kubeconfig is None:
        return _in_cluster(environment or {}, service_account)
    config = _read(kubeconfig)
    name = context or config.current_context
    if not name:
        raise ConfigError(f"{kubeconfig}: no context given and no current-context; {_contexts(config)}")
    chosen = _find(config.contexts, name)
    if chosen is None:
        raise ConfigError(f"{kubeconfig}: no context {name!r}; {_contexts(config)}")
    where = f"{kubeconfig}, context {name!r}"
    cluster = _find(config.clusters, chosen.context.cluster)
    if cluster is None:
        raise ConfigError(f"{where}: there is no cluster {chosen.context.cluster!r} in the file")
    user = _user(config, chosen.context.user, where)
    return _access(name, chosen.context, cluster.cluster, user, kubeconfig.parent, where)


def _read(path: Path) -> _KubeConfig:
    import yaml

    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read kubeconfig {path}: {error.strerror}; see --kubeconfig") from error
    try:
        return msgspec.convert(yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)), _KubeConfig)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path} is not a kubeconfig: {error}") from error


def _find(entries: list[NamedT] | None, name: str) -> NamedT | None:
    return next((entry for entry in entries or () if entry.name == name), None)


def _contexts(config: _KubeConfig) -> str:
    names = [entry.name for entry in config.contexts or ()]
    return f"the file has {', '.join(names)}" if names else "the file has no contexts"


def _user(config: _KubeConfig, name: str | None, where: str) -> _User:
    if not name:
        return _User()
    entry = _find(config.users, name)
    if entry is None:
        raise ConfigError(f"{where}: there is no user {name!r} in the file")
    return entry.user or _User()


def _access(name: str, context: _Context, cluster: _Cluster, user: _User, base: Path, where: str) -> Access:
    if not cluster.server.startswith(("https://", "http://")):
        raise ConfigError(f"{where}: server {cluster.server!r} is not an http or https URL")
    if cluster.proxy_url and not cluster.proxy_url.startswith(("http://", "https://")):
        raise ConfigError(f"{where}: proxy-url {cluster.proxy_url!r} is not an http proxy: use one")
    files = Files(
        where=where,
        encrypted=cluster.server.startswith("https://"),
        ca=_content(cluster.certificate_authority, cluster.certificate_authority_data, base),
        insecure=bool(cluster.insecure_skip_tls_verify),
        user=User(
            certificate=_content(user.client_certificate, user.client_certificate_data, base),
            key=_content(user.client_key, user.client_key_data, base),
            token=user.token or "",
            token_file=_beside(user.token_file, base),
            name=user.username or "",
            password=user.password or "",
        ),
    )
    plugin: dict[str, Any] = {}
    if user.exec is not None:
        plugin["exec"] = dict(user.exec)
        command = str(user.exec.get("command", ""))
        if "/" in command:
            plugin["exec"]["command"] = str(_beside(command, base))
    elif user.auth_provider is not None:
        plugin["auth-provider"] = user.auth_provider
    return Access(
        name=name,
        server=cluster.server.rstrip("/"),
        source=PluginFiles(files, plugin, cluster.server) if plugin else files,
        namespace=context.namespace or "default",
        server_name=cluster.tls_server_name or "",
        proxy=cluster.proxy_url or "",
    )


def _beside(path: str | None, base: Path) -> Path | None:
    """A path of a kubeconfig is relative to the file it stands in."""
    return base / path if path else None


def _content(path: str | None, data: str | None, base: Path) -> Path | str | None:
    """Inline data (base64) goes before a file, as in every other reader of the format."""
    return data or _beside(path, base)


def _in_cluster(environment: Mapping[str, str], account: Path) -> Access:
    token = account / "token"
    if not token.exists():
        raise ConfigError(f"not in a pod: there is no {token}; name a kubeconfig with --kubeconfig")
    host = environment.get("KUBERNETES_SERVICE_HOST") or "kubernetes.default.svc"
    port = environment.get("KUBERNETES_SERVICE_PORT") or "443"
    namespace = account / "namespace"
    return Access(
        name="in-cluster",
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        source=Files(where="in-cluster", encrypted=True, ca=account / "ca.crt", user=User(token_file=token)),
        namespace=namespace.read_text().strip() if namespace.exists() else "default",
    )
