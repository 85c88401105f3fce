"""EndpointSlices and Leases: the defaults and checks kube-apiserver makes (discovery.k8s.io,
coordination.k8s.io).

Addresses that mean "this machine" or "this link" are refused as the real server refuses them; what passes
here passes there.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from isthmus.apiserver import status
from isthmus.apiserver.serviceip import family_of
from isthmus.apiserver.status import Cause

Object = dict[str, Any]
_MAX_ENDPOINTS = 1000
_MAX_ADDRESSES = 100
_MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)")
_HOST = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def fill_slice(obj: Object) -> None:
    """Defaults."""
    obj.setdefault("endpoints", [])
    obj.setdefault("ports", None)  # Go encodes these even when they are empty
    for endpoint in obj["endpoints"]:
        endpoint.setdefault("conditions", {})
    for port in obj.get("ports") or ():
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")


def validate_slice(obj: Object, old: Object | None) -> list[Cause]:
    """Violations of a slice; its address type never changes."""
    kind = obj.get("addressType")
    if not kind:
        return [status.required("addressType")]
    if kind not in ("FQDN", "IPv4", "IPv6"):
        return [status.unsupported("addressType", kind, ("FQDN", "IPv4", "IPv6"))]
    if old is not None and old.get("addressType") != kind:
        return [status.invalid_value("addressType", kind, "field is immutable")]
    causes: list[Cause] = []
    if len(obj["endpoints"]) > _MAX_ENDPOINTS:
        causes.append(status.too_many("endpoints", len(obj["endpoints"]), _MAX_ENDPOINTS))
    for index, endpoint in enumerate(obj["endpoints"][:_MAX_ENDPOINTS]):
        causes += _endpoint(endpoint, kind, f"endpoints[{index}]")
    names: set[str] = set()
    for index, port in enumerate(obj.get("ports") or ()):
        if port["name"] in names:
            causes.append(status.duplicate(f"ports[{index}].name", port["name"]))
        names.add(port["name"])
        if port["protocol"] not in ("SCTP", "TCP", "UDP"):
            supported = ("SCTP", "TCP", "UDP")
            causes.append(status.unsupported(f"ports[{index}].protocol", port["protocol"], supported))
    return causes


def _endpoint(endpoint: Object, kind: str, path: str) -> list[Cause]:
    addresses = endpoint.get("addresses") or []
    if not addresses:
        return [status.required(f"{path}.addresses", "must contain at least 1 address")]
    if len(addresses) > _MAX_ADDRESSES:
        return [status.too_many(f"{path}.addresses", len(addresses), _MAX_ADDRESSES)]
    causes = []
    for index, address in enumerate(addresses):
        if kind != "FQDN" and family_of(address) not in (None, kind):
            causes.append(status.invalid_value(f"{path}.addresses", address, f"must be an {kind} address"))
        elif why := _refusal(address, kind):
            causes.append(status.invalid_value(f"{path}.addresses[{index}]", address, why))
    return causes


def _refusal(address: str, kind: str) -> str:
    """Why an address is refused; empty when it is fine."""
    if kind == "FQDN":
        return "" if _HOST.fullmatch(address) and len(address) <= 253 else "must be a valid DNS name"
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
    if parsed.is_unspecified:
        return f"may not be unspecified ({address})"
    if parsed.is_loopback:
        return "may not be in the loopback range (127.0.0.0/8, ::1/128)"
    if parsed.is_link_local:
        return "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
    if parsed.is_multicast and (kind == "IPv6" or address.startswith("224.0.0.")):
        return "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
    return ""


def validate_lease(obj: Object) -> list[Cause]:
    """Violations of a Lease; times must have exactly six digits of a second."""
    spec = obj.get("spec") or {}
    for name in ("acquireTime", "renewTime"):
        if (given := spec.get(name)) is not None and _MICRO_TIME.fullmatch(given) is None:
            text = (
                f'parsing time "{given}" as "2006-01-02T15:04:05.000000Z07:00": spec.{name} is no MicroTime'
            )
            raise status.bad_request(f'Lease in version "v1" cannot be handled as a Lease: {text}')
    causes: list[Cause] = []
    if (seconds := spec.get("leaseDurationSeconds")) is not None and seconds <= 0:
        causes.append(status.invalid_value("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    if (count := spec.get("leaseTransitions")) is not None and count < 0:
        why = "must be greater than or equal to 0"
        causes.append(status.invalid_value("spec.leaseTransitions", count, why))
    return causes
