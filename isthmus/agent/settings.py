"""Configuration of the processes; the only reader of the environment.

Values come from flags, then `ISTHMUS_*` variables, then a YAML file (`--config`), then defaults. An unknown
key in the file is an error that names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from isthmus.errors import ConfigError

LONGEST_STATE_DIR = 80
"""A Unix socket's path holds 107 bytes, and ours end in `/link.sock`."""


def _host_port(text: str) -> str:
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdigit() or int(port) > 65_535:
        raise ValueError("is HOST:PORT, e.g. 127.0.0.1:5353 or [::1]:5353")
    return text


def _cluster_id(text: str) -> str:
    labels = text.split(".")
    if len(labels) > 2 or any(not _is_label(label) for label in labels):
        raise ValueError("is one RFC 1123 label, or two joined by a dot (KEP-2149)")
    return text


def _is_label(text: str) -> bool:
    plain = text.replace("-", "")
    return (
        0 < len(text) <= 63
        and plain.isascii()
        and plain.isalnum()
        and text == text.lower()
        and text[0] != "-"
        and text[-1] != "-"
    )


HostPort = Annotated[str, AfterValidator(_host_port)]
ClusterName = Annotated[str, AfterValidator(_cluster_id)]


S = TypeVar("S", bound="_Settings")


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "text"] = "auto"


class AgentSettings(_Settings):
    """`isthmus run agent`."""

    cluster: ClusterName = Field(description="this cluster's id in the clusterset")
    region: str = Field("", description="region of this cluster, where its nodes carry no region label")
    network: str = Field("", description="network its pod addresses belong to")
    kubeconfig: Path | None = Field(None, description="of this cluster; none: in-cluster credentials")
    context: str | None = None
    hub_kubeconfig: Path | None = Field(None, description="of the hub; none: there is no hub")
    hub_context: str | None = None
    namespace: str = Field("isthmus-system", description="where the agents of this cluster agree who writes")
    state_dir: Path = Field(Path("/var/lib/isthmus"), description="last-good inputs, sockets, pid files")
    zone: str = Field("clusterset.local", description="DNS zone of the clusterset")
    dns_listen: HostPort = "127.0.0.1:5353"
    dns_workers: int = Field(1, ge=0, le=64)
    xds_listen: HostPort = "127.0.0.1:18000"
    xds_workers: int = Field(1, ge=0, le=64)
    console_listen: HostPort = "127.0.0.1:9470"


class HubSettings(_Settings):
    """`isthmus run hub`."""

    hub_kubeconfig: Path | None = Field(None, description="of the hub; none: in-cluster credentials")
    hub_context: str | None = None
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
    return settings


def load_hub(
    flags: Mapping[str, Any], environment: Mapping[str, str], config: Path | None = None
) -> HubSettings:
    """The hub's settings. Raises ConfigError that names the wrong key and where it came from."""
    return _load(HubSettings, flags, environment, config)


def _load(kind: type[S], flags: Mapping[str, Any], environment: Mapping[str, str], config: Path | None) -> S:
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for name, value in _file(config).items():
        values[name], origin[name] = value, str(config)
    for name in kind.model_fields:
        variable = f"ISTHMUS_{name.upper()}"
        if variable in environment:
            values[name], origin[name] = environment[variable], variable
        if flags.get(name) is not None:
            values[name], origin[name] = flags[name], f"--{name.replace('_', '-')}"
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_complaint(detail, origin) for detail in error.errors())) from None


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
    return content


def _complaint(detail: Any, origin: Mapping[str, str]) -> str:
    name = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "missing":
        return f"--{name.replace('_', '-')} (or ISTHMUS_{name.upper()}) is needed"
    if detail["type"] == "extra_forbidden":
        return f"{origin.get(name, name)}: unknown setting {name!r}"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{origin.get(name, name)} {detail.get('input')!r}: {message}"
