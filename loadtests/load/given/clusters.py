"""The file that says which clusters scenarios are played on: `--clusters FILE`.

A file is refused as a whole, in one line that names file and key. A cluster plays the parts of one or more of
the clusters that scenario files name, so that three of them are found in two.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from pathlib import Path

import msgspec
import yaml

from isthmus.errors import ConfigError
from isthmus.kube.config import Access, load_access
from isthmus.xds.secrets import Identity
from loadtests.load.ground import WORLD

PARTS = tuple(member.name for member in WORLD.members)
IMAGE = "envoyproxy/envoy:v1.40.0"
FEWEST = 2


class Api(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An API server; a kubeconfig's path is as seen from the file's folder."""

    kubeconfig: str = "~/.kube/config"
    context: str | None = None


class Certificates(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Files with which callers prove to an agent's xDS port who they are; paths as of kubeconfigs."""

    ca: str
    certificate: str
    key: str


class Given(Api, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One cluster: its id in the clusterset, the parts it plays, and where its agent's doors are.

    `dns`, `xds` and `console` are address:port as reached from here, `pods` the prefixes of its pods'
    addresses.
    """

    name: str
    plays: tuple[str, ...]
    dns: str
    xds: str
    console: str
    pods: tuple[str, ...]
    certificates: Certificates | None = None
    """None: xDS is plain text there."""


class Clusters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`image` is what the pods that answer run: an Envoy, found as `envoy` on its PATH."""

    hub: Api
    clusters: tuple[Given, ...]
    image: str = IMAGE

    @property
    def plays(self) -> dict[str, str]:
        """The cluster that plays each part."""
        return {part: cluster.name for cluster in self.clusters for part in cluster.plays}


def read_clusters(path: Path) -> Clusters:
    """The clusters of a file; ConfigError in one line."""
    try:
        found = msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), Clusters)
        _check(found)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--clusters {path}: cannot be read as text: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"--clusters {path}: not YAML: {getattr(error, 'problem', error)}") from error
    except ValueError as error:
        text, _, where = str(error).partition(" - at `$")
        place = f"{where.strip('.`')}: " if where else ""
        raise ConfigError(f"--clusters {path}: {place}{text[:1].lower()}{text[1:]}") from error
    return found


def access(api: Api, beside: Path) -> Access:
    """How to reach an API server; `beside` is the clusters' file. Raises ConfigError."""
    return load_access(_path(api.kubeconfig, beside), api.context)


def identity(files: Certificates, beside: Path) -> Identity:
    """The same files for a bootstrap; `beside` is the clusters' file."""
    paths = {key: str(_path(path, beside)) for key, path in msgspec.structs.asdict(files).items()}
    return Identity(**paths)


def _path(path: str, beside: Path) -> Path:
    return (beside.parent / Path(path).expanduser()).resolve()


def address(text: str) -> tuple[str, int]:
    """The parts of address:port; ValueError where it is something else."""
    host, _, port = text.rpartition(":")
    return str(ipaddress.ip_address(host.strip("[]"))), int(port)


def _check(found: Clusters) -> None:
    if len(found.clusters) < FEWEST:
        raise ValueError(f"clusters: there are {len(found.clusters)}, at least {FEWEST} are needed")
    names = Counter(cluster.name for cluster in found.clusters)
    parts = Counter(part for cluster in found.clusters for part in cluster.plays)
    for name, times in names.items():
        if times > 1:
            raise ValueError(f"clusters: {name!r} is there twice")
    for part, times in parts.items():
        if part not in PARTS:
            raise ValueError(f"clusters: {part!r} is no part; there are {', '.join(PARTS)}")
        if times > 1:
            raise ValueError(f"clusters: {part!r} is played twice")
    if missing := [part for part in PARTS if part not in parts]:
        raise ValueError(f"clusters: nobody plays {missing[0]!r}; let one of them play two parts")
    for number, cluster in enumerate(found.clusters):
        _addresses(f"clusters[{number}]", cluster)


def _addresses(place: str, cluster: Given) -> None:
    """Raises ValueError for one that is none."""
    for key in ("dns", "xds", "console"):
        text = getattr(cluster, key)
        try:
            address(text)
        except ValueError as error:
            raise ValueError(f"{place}.{key}: {text!r} is not an IP address and a port") from error
    try:
        for prefix in cluster.pods:
            ipaddress.ip_network(prefix)
    except ValueError as error:
        raise ValueError(f"{place}.pods: {error}") from error
