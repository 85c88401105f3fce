"""What happens to an object between a client's body and the store: pruning, defaults, validation,
allocation.

`fill` and `validate` are stateless; `Admission.allocate` is the last step before the store and cannot be
followed by a refusal. Built-in kinds are dispatched by name, custom ones by their schema.
"""

from __future__ import annotations

from typing import Any

from isthmus.apiserver import crd, endpointslice, objectmeta, rules, schema, service, status
from isthmus.apiserver.resources import CRDS, ENDPOINT_SLICES, LEASES, NAMESPACES, SERVICES, Resource
from isthmus.apiserver.status import Cause, StatusError

Object = dict[str, Any]
NAME_LABEL = "kubernetes.io/metadata.name"


def fill(resource: Resource, obj: Object) -> list[str]:
    """Prune unknown fields and set defaults, in place; returns the paths that were pruned."""
    if resource.custom:
        pruned = schema.prune(obj, resource.schema)
        schema.default(obj, resource.schema)
        return pruned
    _check_types(resource, obj)
    match resource.plural:
        case SERVICES.plural:
            service.fill(obj)
        case ENDPOINT_SLICES.plural:
            endpointslice.fill_slice(obj)
        case CRDS.plural:
            crd.fill(obj)
        case NAMESPACES.plural:
            _fill_namespace(obj)
        case "pods":
            obj.setdefault("status", {}).setdefault("phase", "Pending")
    return []


def _check_types(resource: Resource, obj: Object) -> None:
    """400 where a field has a type that cannot be decoded; other keywords are no matter of decoding."""
    for cause in schema.validate(obj, resource.schema):
        if cause.reason == "FieldValueTypeInvalid":
            kind = resource.kind
            text = f'{kind} in version "{resource.version}" cannot be handled as a {kind}: {cause}'
            raise status.bad_request(text)


def _fill_namespace(obj: Object) -> None:
    obj.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
    obj.setdefault("status", {}).setdefault("phase", "Active")
    if name := obj["metadata"].get("name"):
        obj["metadata"].setdefault("labels", {})[NAME_LABEL] = name


def validate(resource: Resource, new: Object, old: Object | None) -> None:
    """Raise a 422 StatusError that names every violation."""
    before = old["metadata"] if old else None
    causes = objectmeta.validate(new["metadata"], resource, old=before)
    if resource.custom:
        causes += schema.validate(new, resource.schema)
        if not rules.blocked(causes):
            causes += rules.violations(new, resource.schema, old)
        elif rules.has_rules(resource.schema):
            causes.append(rules.UNCHECKED)
    else:
        match resource.plural:
            case SERVICES.plural:
                causes += service.validate(new)
            case ENDPOINT_SLICES.plural:
                causes += endpointslice.validate_slice(new, old)
            case LEASES.plural:
                causes += endpointslice.validate_lease(new)
            case CRDS.plural:
                causes += crd.validate(new, old)
    if causes:
        raise refused(resource, new, causes)


def refused(resource: Resource, obj: Object, causes: list[Cause]) -> StatusError:
    """The 422 for an object."""
    return status.invalid(resource.group, resource.kind, obj["metadata"].get("name", ""), causes)


class Admission:
    """The stateful part: allocation of service addresses, for one cluster."""

    def __init__(self, addresses: service.ServiceAddresses) -> None:
        self._addresses = addresses

    def allocate(self, resource: Resource, new: Object, old: Object | None, *, dry_run: bool) -> None:
        """Take what the object needs; a dry run gives it back at once. Raises 422 or 500 where it cannot."""
        if resource.bucket != SERVICES.bucket:
            return
        causes, taken = self._addresses.assign(new, old)
        if causes:
            raise refused(resource, new, causes)
        if dry_run:
            self._addresses.give_back(taken)
        elif old is not None:
            self._addresses.release(old, keep=new)

    def release(self, resource: Resource, obj: Object) -> None:
        """Give back what a removed object had."""
        if resource.bucket == SERVICES.bucket:
            self._addresses.release(obj)
