"""Configuration of the processes; the only reader of the environment.

Values come from flags, then `ISTHMUS_*` variables, then a YAML file (`--config`), then defaults. An unknown
key in the file is an error that names it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from isthmus.errors import ConfigError
from isthmus.model.names import is_cluster_id

LONGEST_STATE_DIR = 80
"""A Unix socket's path holds 107 bytes, and ours end in `/link.sock`."""

HostPort = Annotated[str, Meta(description="HOST:PORT")]
Servers = Annotated[str, Meta(description="ADDRESS[:PORT][,…]; settings hold each with its port")]
Workers = Annotated[int, Meta(ge=0, le=64)]
Most = Annotated[int, Meta(ge=1)]

S = TypeVar("S", bound="_Settings")


class _Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Struct and not a pydantic model: the command that only starts the agent is 0.2 s faster without."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "text"] = "auto"


class AgentSettings(_Settings, frozen=True, kw_only=True):
    """`isthmus run agent`.

    Without `kubeconfig` the credentials are those of the pod; without `hub_kubeconfig` there is no hub.
    `clusterset` is the name of the clusterset (ClusterProperty clusterset.k8s.io), the same in every member.
    `region` is for nodes without a region label, `network` is what pod addresses belong to, `namespace` is
    where the agents of this cluster agree who writes, `state_dir` holds last-good inputs, sockets, pid files.
    `xds_cert`, `xds_key` and `xds_ca` are PEM files for mTLS with proxies, read again when they change; plain
    text beyond loopback has to be asked for with `xds_plaintext`.
    `quota_*` are the most that one cluster may offer; they are the same in all agents of a clusterset.
    """

    cluster: str
    clusterset: str = "default"
    region: str = ""
    network: str = ""
    kubeconfig: Path | None = None
    context: str | None = None
    hub_kubeconfig: Path | None = None
    hub_context: str | None = None
    namespace: str = "isthmus-system"
    state_dir: Path = Path("/var/lib/isthmus")
    zone: str = "clusterset.local"
    dns_listen: HostPort = "127.0.0.1:5353"
    dns_workers: Workers = 1
    dns_query_log: Annotated[int, Meta(ge=0, le=1000)] = 0
    dns_forward: Servers = ""
    xds_listen: HostPort = "127.0.0.1:18000"
    xds_workers: Workers = 1
    xds_cert: Path | None = None
    xds_key: Path | None = None
    xds_ca: Path | None = None
    xds_trust_domain: str = ""
    xds_plaintext: bool = False
    console_listen: HostPort = "127.0.0.1:9470"
    quota_services: Most = 10_000
    quota_endpoints: Most = 150_000
    quota_bytes: Most = 64 << 20

    @property
    def workers(self) -> tuple[str, ...]:
        """Names of the door workers."""
        numbers = {"dns": self.dns_workers, "xds": self.xds_workers}
        return tuple(f"{door}-{number}" for door, count in numbers.items() for number in range(count))


class HubSettings(_Settings, frozen=True, kw_only=True):
    """`isthmus run hub`; without `hub_kubeconfig` the credentials are those of the pod.

    `namespace` is where the replicas of this process agree who writes.
    """

    hub_kubeconfig: Path | None = None
    hub_context: str | None = None
    namespace: str = "isthmus-system"
    console_listen: HostPort = "127.0.0.1:9471"


def load_agent(
    flags: Mapping[str, Any], environment: Mapping[str, str], config: Path | None = None
) -> AgentSettings:
    """The agent's settings. Raises ConfigError that names the wrong key and where it came from."""
    settings = _load(AgentSettings, flags, environment, config)
    if len(str(settings.state_dir)) > LONGEST_STATE_DIR:
        raise ConfigError(
            f"--state-dir {settings.state_dir} is longer than {LONGEST_STATE_DIR} characters: "
            "a Unix socket in it would not work; choose a shorter path"
        )
    _check_xds(settings)
    return settings


def _check_xds(settings: AgentSettings) -> None:
    """Raises ConfigError for half of mTLS, and for plain text that other machines can reach by accident."""
    files = {
        "--xds-cert": settings.xds_cert,
        "--xds-key": settings.xds_key,
        "--xds-ca": settings.xds_ca,
    }
    missing = [flag for flag, path in files.items() if path is None]
    if 0 < len(missing) < len(files):
        raise ConfigError(f"{' and '.join(missing)}: needed for mTLS beside the others")
    if not missing and settings.xds_plaintext:
        raise ConfigError("--xds-plaintext: certificates are given too; leave out one or the other")
    if missing and not settings.xds_plaintext and settings.xds_workers and not _is_local(settings.xds_listen):
        raise ConfigError(
            f"--xds-listen {settings.xds_listen}: other machines reach it, so proxies need certificates: "
            "give --xds-cert, --xds-key and --xds-ca; or say --xds-plaintext where the network is trusted"
        )


def load_hub(
    flags: Mapping[str, Any], environment: Mapping[str, str], config: Path | None = None
) -> HubSettings:
    """The hub's settings. Raises ConfigError that names the wrong key and where it came from."""
    return _load(HubSettings, flags, environment, config)


def decode_agent(settings_file: Path) -> AgentSettings:
    """The settings that `load_agent` found and the supervisor wrote."""
    return msgspec.json.decode(settings_file.read_bytes(), type=AgentSettings, dec_hook=_path)


def encode(settings: _Settings) -> str:
    """Settings as JSON, for the processes of one agent."""
    return msgspec.json.format(msgspec.json.encode(settings, enc_hook=str)).decode()


def _load(kind: type[S], flags: Mapping[str, Any], environment: Mapping[str, str], config: Path | None) -> S:
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for name, value in _file(config).items():
        values[name], origin[name] = value, str(config)
    for name in kind.__struct_fields__:
        variable = f"ISTHMUS_{name.upper()}"
        if variable in environment:
            values[name], origin[name] = environment[variable], variable
        if flags.get(name) is not None:
            values[name], origin[name] = flags[name], f"--{name.replace('_', '-')}"
    found = {name: _one(kind, name, value, origin[name]) for name, value in values.items()}
    if issubclass(kind, AgentSettings) and "cluster" not in found:
        raise ConfigError("--cluster (or ISTHMUS_CLUSTER) is needed")
    return kind(**found)


def _one(kind: type[_Settings], name: str, value: Any, origin: str) -> Any:
    """One setting in its type. Raises ConfigError that names where the value came from."""
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    if name not in fields:
        raise ConfigError(f"{origin}: unknown setting {name!r}")
    try:
        found = msgspec.convert(value, fields[name], strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{origin} {value!r}: {error}") from None
    if name.endswith("_listen") and not _is_host_port(found):
        raise ConfigError(f"{origin} {value!r}: is not HOST:PORT, e.g. 127.0.0.1:5353 or [::1]:5353")
    if name == "dns_forward":
        return ",".join(_dns_server(one.strip(), origin) for one in found.split(",") if one.strip())
    if name == "cluster" and not is_cluster_id(found):
        raise ConfigError(
            f"{origin} {value!r}: is not a cluster id: one RFC 1123 label, or two joined by a dot (KEP-2149)"
        )
    return found


def _dns_server(text: str, origin: str) -> str:
    """A literal address and a port, 53 unless said."""
    host, _, port = text.rpartition(":")
    if text.endswith("]") or not host or (":" in host and not host.endswith("]")):
        host, port = text, "53"
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        address = None
    if address is None or not port.isascii() or not port.isdigit() or not 0 < int(port) <= 65_535:
        raise ConfigError(
            f"{origin}: {text!r} is not ADDRESS or ADDRESS:PORT, e.g. 10.96.0.10 or [fd00::10]:53"
        )
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    raise NotImplementedError(kind)


def _is_host_port(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isascii() and port.isdigit() and int(port) <= 65_535


def _is_local(listen: str) -> bool:
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _file(config: Path | None) -> dict[str, Any]:
    if config is None:
        return {}
    import yaml  # only where a file is given: 20 ms

    try:
        content = yaml.safe_load(config.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"--config {config}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"--config {config}: is not a mapping of settings")
    return {str(name): value for name, value in content.items()}
