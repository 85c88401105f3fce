"""What the API server does to Services: defaults, validation, ClusterIP allocation.

Invariant: an address in `spec.clusterIPs` of a stored Service is taken in its range, and only there. Follows
the Service strategy of kube-apiserver for everything but node ports, which are stored as given.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from isthmus.apiserver import status
from isthmus.apiserver.serviceip import Family, ServiceRange, family_of
from isthmus.apiserver.status import Cause

Object = dict[str, Any]
_PORT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_WORDS = {
    "type": ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"),
    "sessionAffinity": ("ClientIP", "None"),
    "trafficDistribution": ("PreferClose", "PreferSameZone", "PreferSameNode"),
}
"""The words that a field of the spec may have."""
_POLICIES = ("SingleStack", "PreferDualStack", "RequireDualStack")


def fill(service: Object) -> None:
    """Defaults that need no state."""
    spec = service.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["sessionAffinity"] == "ClientIP":
        spec.setdefault("sessionAffinityConfig", {"clientIP": {"timeoutSeconds": 10800}})
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if port.get("targetPort") in (None, 0, "") and "port" in port:
            port["targetPort"] = port["port"]
    service.setdefault("status", {"loadBalancer": {}})


def validate(service: Object) -> list[Cause]:
    """Violations that need no state."""
    spec = service["spec"]
    causes: list[Cause] = [
        status.unsupported(f"spec.{name}", spec[name], words)
        for name, words in _WORDS.items()
        if spec.get(name) is not None and spec[name] not in words
    ]
    if spec["type"] == "ExternalName" and not spec.get("externalName"):
        causes.append(status.required("spec.externalName"))
    ports = spec.get("ports") or []
    if not ports and spec["type"] != "ExternalName" and spec.get("clusterIP") != "None":
        causes.append(status.required("spec.ports"))
    ingress = (service.get("status") or {}).get("loadBalancer", {}).get("ingress")
    if ingress and spec["type"] != "LoadBalancer":
        why = "may only be used when `spec.type` is 'LoadBalancer'"
        causes.append(status.forbidden_field("status.loadBalancer.ingress", why))
    causes += _ports(ports)
    return causes


def _ports(ports: list[Object]) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    pairs: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        here = f"spec.ports[{index}]"
        name, number, protocol = port.get("name", ""), port.get("port"), port["protocol"]
        if not name and len(ports) > 1:
            causes.append(status.required(f"{here}.name"))
        elif name and (len(name) > 63 or _PORT_NAME.fullmatch(name) is None):
            causes.append(status.invalid_value(f"{here}.name", name, "must be a lowercase RFC 1123 label"))
        elif name in names:
            causes.append(status.duplicate(f"{here}.name", name))
        names.add(name)
        if not isinstance(number, int) or not 1 <= number <= 65535:
            why = "must be between 1 and 65535, inclusive"
            causes.append(status.invalid_value(f"{here}.port", number, why))
        if protocol not in ("SCTP", "TCP", "UDP"):
            causes.append(status.unsupported(f"{here}.protocol", protocol, ("SCTP", "TCP", "UDP")))
        if (number, protocol) in pairs:
            causes.append(status.duplicate(here, {"port": number, "protocol": protocol}))
        pairs.add((number, protocol))
    return causes


class ServiceAddresses:
    """The service ranges of one cluster, the primary first, and the addresses services have of them."""

    def __init__(self, cidrs: Sequence[str]) -> None:
        self.ranges = [ServiceRange(cidr) for cidr in cidrs]

    def assign(self, new: Object, old: Object | None) -> tuple[list[Cause], list[str]]:
        """Fill clusterIP(s) and families in place; returns violations and the addresses newly taken.

        Raises a 500 StatusError, as the real server does, where a range has nothing left.
        """
        spec = new["spec"]
        before: Object = old["spec"] if old else {}
        if spec["type"] == "ExternalName":
            for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                spec.pop(name, None)
            return [], []
        had: list[str] = before.get("clusterIPs") or []
        wanted = _wanted(spec)
        if had and not wanted:
            wanted = list(had)
        if had and wanted[:1] != had[:1]:
            why = "may not change once set"
            return [status.invalid_value("spec.clusterIPs[0]", spec.get("clusterIPs") or wanted, why)], []
        if had:
            for name in ("ipFamilies", "ipFamilyPolicy"):
                spec.setdefault(name, before.get(name))
        headless = wanted == ["None"]
        causes, families = self._families(spec, [] if headless else wanted, headless)
        if causes:
            return causes, []
        spec["ipFamilies"] = families
        if headless:
            spec["clusterIP"], spec["clusterIPs"] = "None", ["None"]
            return [], []
        return self._addresses(spec, families, wanted[: len(families)], set(had))

    def release(self, service: Object, keep: Object | None = None) -> None:
        """Give back the addresses of a service that is gone, or that an update no longer has."""
        kept = (keep or {}).get("spec", {}).get("clusterIPs") or ()
        self.give_back([each for each in service["spec"].get("clusterIPs") or () if each not in kept])

    def give_back(self, addresses: Sequence[str]) -> None:
        for address in addresses:
            for candidate in self.ranges:
                candidate.release(address)

    def _families(self, spec: Object, wanted: list[str], headless: bool) -> tuple[list[Cause], list[Family]]:
        configured = [each.family for each in self.ranges]
        policy = spec.get("ipFamilyPolicy")
        families: list[Family] = list(spec.get("ipFamilies") or ())
        if policy is None:
            policy = "RequireDualStack" if len(wanted) == 2 or len(families) == 2 else "SingleStack"
        if policy not in _POLICIES:
            return [status.unsupported("spec.ipFamilyPolicy", policy, _POLICIES)], []
        spec["ipFamilyPolicy"] = policy
        for index, address in enumerate(wanted):
            family = family_of(address)
            if family is None:
                why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
                return [status.invalid_value(f"spec.clusterIPs[{index}]", address, why)], []
            if index >= len(families):
                families.append(family)
        for index, family in enumerate(families):
            if family not in configured and not (headless and not spec.get("selector")):
                why = "not configured on this cluster"
                return [status.invalid_value(f"spec.ipFamilies[{index}]", family, why)], []
        if not families:
            families = configured[:1]
        other: list[Family] = [each for each in configured if each not in families]
        if policy == "SingleStack":
            families = families[:1]
        elif len(families) == 1 and other:
            families.append(other[0])
        elif len(families) == 1 and policy == "RequireDualStack":
            why = "this cluster is not configured for dual-stack services"
            return [status.invalid_value("spec.ipFamilyPolicy", policy, why)], []
        return [], families

    def _addresses(
        self, spec: Object, families: list[Family], wanted: list[str], had: set[str]
    ) -> tuple[list[Cause], list[str]]:
        taken: list[str] = []
        addresses: list[str] = []
        ranges = {each.family: each for each in self.ranges}
        for index, family in enumerate(families):
            pool = ranges[family]
            address = wanted[index] if index < len(wanted) else None
            if address is None:
                address = pool.allocate()
                if address is None:
                    self.give_back(taken)
                    raise status.internal_error("failed to allocate a serviceIP: range is full")
                taken.append(address)
            elif address not in had and (cause := self._claim(pool, address, taken)):
                self.give_back(taken)
                return [cause], []
            addresses.append(address)
        spec["clusterIP"], spec["clusterIPs"] = addresses[0], addresses
        return [], taken

    def _claim(self, pool: ServiceRange, address: str, taken: list[str]) -> Cause | None:
        field = "spec.clusterIPs"
        if not pool.contains(address):
            why = f"failed to allocate IP {address}: the provided network does not match the current range"
            return status.invalid_value(field, [address], why)
        if pool.taken(address):
            why = f"failed to allocate IP {address}: provided IP is already allocated"
            return status.invalid_value(field, [address], why)
        pool.take(address)
        taken.append(address)
        return None


def _wanted(spec: Object) -> list[str]:
    """The cluster IPs a spec asks for; clusterIP and clusterIPs[0] are the same field."""
    single, several = spec.get("clusterIP") or "", list(spec.get("clusterIPs") or ())
    if single and (not several or several[0] != single):
        return [single, *several[1:]]
    return several
