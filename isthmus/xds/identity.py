"""Who a client is by its certificate, and which nodes that allows it to be.

Invariant: a node is what its certificate says and not what its first request says (the protocol leaves node
fields to the client). The SPIFFE identity of a workload (`spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`) may
be any node `NAME.NAMESPACE`; another URI or a DNS name only the node of just that id; the DNS name
`*.NAMESPACE` what the SPIFFE identity may be. Without a certificate everything is allowed: where that is so,
is decided when the port is opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from isthmus.xds.refusal import NotThatNode

_WORKLOAD = re.compile(r"spiffe://(?P<domain>[a-z0-9._-]+)/ns/(?P<namespace>[a-z0-9-]+)/sa/[a-z0-9.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Subject alternative names of a certificate that was verified."""

    uris: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join((*self.uris, *self.names)) or "no name at all"

    def allows(self, node: str, trust_domain: str = "") -> bool:
        """Whether this may be that node; URIs of another trust domain (empty: any) allow nothing."""
        by_uri = any(_uri_allows(uri, node, trust_domain) for uri in self.uris)
        return by_uri or any(_name_allows(name, node) for name in self.names)


def identity(properties: Mapping[str, Iterable[bytes]]) -> Identity | None:
    """From what gRPC knows of the connection; None without a verified certificate."""
    if b"ssl" not in properties.get("transport_security_type", ()):
        return None
    return Identity(
        uris=tuple(uri.decode(errors="replace") for uri in properties.get("peer_uri", ())),
        names=tuple(name.decode(errors="replace") for name in properties.get("peer_dns", ())),
    )


def require(who: Identity | None, node: str, trust_domain: str = "") -> None:
    """Raises NotThatNode where a certificate does not allow that node."""
    if who is not None and not who.allows(node, trust_domain):
        raise NotThatNode(f"the certificate is for {who}, which may not be node {node}")


def _uri_allows(uri: str, node: str, trust_domain: str) -> bool:
    found = _WORKLOAD.fullmatch(uri)
    if found is None:
        return uri == node and (not trust_domain or uri.startswith(f"spiffe://{trust_domain}/"))
    if trust_domain and found["domain"] != trust_domain:
        return False
    return _ends_with_label(node, found["namespace"])


def _name_allows(name: str, node: str) -> bool:
    return name == node or (name.startswith("*.") and _ends_with_label(node, name[2:]))


def _ends_with_label(node: str, namespace: str) -> bool:
    """Whether a node is `NAME.NAMESPACE`; names of pods may hold dots, those of namespaces may not."""
    name, _, end = node.rpartition(".")
    return bool(name) and end == namespace
