"""How a client proves who it is and knows its control plane, as Envoy reads it.

Envoy reads files that a bootstrap names once, when it starts. A secret that comes from a file of its own
(SDS) is followed: whenever something is moved into the folder of the certificate, as Kubernetes renews what
it mounts, Envoy reads certificate and key again, and shows them from the next connection on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from isthmus.xds.rows import split_listen

CERTIFICATE, AUTHORITIES = "isthmus-certificate", "isthmus-authorities"
"""Names of the secrets; Envoy takes one from each file."""
_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Files with which a client proves who it is, and knows its control plane by (PEM, absolute paths).

    gRPC libraries look for new ones from time to time. Envoy does where `secrets` is set: the folder that
    holds what `secret_files` gives (an absolute path); empty: it reads them when it starts. `server`: the
    name or IP address that the control plane's certificate is to be for, says Envoy; empty: the host it is
    found at.
    """

    ca: str
    certificate: str
    key: str
    server: str = ""
    secrets: str = ""


def secret_files(host: str, identity: Identity) -> dict[str, dict[str, Any]]:
    """Contents by name of the files in the folder `secrets`. `host`: where the control plane is found."""
    own = {"tls_certificate": {**_own(identity), "watched_directory": _folder(identity.certificate)}}
    other = {"validation_context": {**_other(host, identity), "watched_directory": _folder(identity.ca)}}
    return {
        f"{name}.json": {"resources": [{"@type": f"{_TLS}Secret", "name": name, **secret}]}
        for name, secret in ((CERTIFICATE, own), (AUTHORITIES, other))
    }


def transport_socket(host: str, identity: Identity) -> dict[str, Any]:
    """Both sides show a certificate, and that of the control plane is for the host that is asked for."""
    if identity.secrets:
        context: dict[str, Any] = {
            "tls_certificate_sds_secret_configs": [_followed(CERTIFICATE, identity)],
            "validation_context_sds_secret_config": _followed(AUTHORITIES, identity),
        }
    else:
        context = {"tls_certificates": [_own(identity)], "validation_context": _other(host, identity)}
    found: dict[str, Any] = {
        "@type": f"{_TLS}UpstreamTlsContext",
        "common_tls_context": {**context, "alpn_protocols": ["h2"]},
    }
    name, is_name = _server(host, identity)
    if is_name:
        found["sni"] = name
    return {"name": "envoy.transport_sockets.tls", "typed_config": found}


def _own(identity: Identity) -> dict[str, Any]:
    return {
        "certificate_chain": {"filename": identity.certificate},
        "private_key": {"filename": identity.key},
    }


def _other(host: str, identity: Identity) -> dict[str, Any]:
    name, is_name = _server(host, identity)
    san = {"san_type": "DNS" if is_name else "IP_ADDRESS", "matcher": {"exact": name}}
    return {"trusted_ca": {"filename": identity.ca}, "match_typed_subject_alt_names": [san]}


def _server(host: str, identity: Identity) -> tuple[str, bool]:
    """Whom the control plane's certificate is for, and whether that is a name."""
    name = identity.server or host.strip("[]")
    return name, split_listen(f"[{name}]:1") is None


def _followed(name: str, identity: Identity) -> dict[str, Any]:
    file = str(PurePath(identity.secrets) / f"{name}.json")
    return {"name": name, "sds_config": {"path_config_source": {"path": file}, "resource_api_version": "V3"}}


def _folder(file: str) -> dict[str, str]:
    return {"path": str(PurePath(file).parent)}
