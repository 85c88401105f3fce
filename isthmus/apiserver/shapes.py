"""The shapes of built-in kinds: the topology of what has several owners, the types of what the server reads.

These are no full schemas: fields that are not named here are stored as they come. Types given here are
checked, as the real server's decoder checks them, so that the code behind can rely on them.
"""

from __future__ import annotations

from typing import Any

from isthmus.apiserver.topology import METADATA, STRING_SET, STRINGS, Schema, listmap, obj

_STRING: Schema = {"type": "string"}
_INTEGER: Schema = {"type": "integer"}
_BOOLEAN: Schema = {"type": "boolean"}
_OBJECT: Schema = {"type": "object"}
_OBJECTS: Schema = {"type": "array", "items": _OBJECT}
_LIST: Schema = {"type": "array", "items": _STRING}
_ATOMIC: Schema = {**STRINGS, "x-kubernetes-map-type": "atomic"}
_SELECTOR: Schema = {**_OBJECT, "x-kubernetes-map-type": "atomic"}
_CONDITIONS: Schema = listmap("type", type=_STRING, lastTransitionTime=_STRING)
_PROTOCOL: Schema = {"type": "string", "default": "TCP"}

_CONTAINER: dict[str, Any] = {
    "ports": listmap("containerPort", "protocol", merge_key="containerPort", protocol=_PROTOCOL),
    "env": listmap("name"),
    "volumeMounts": listmap("mountPath"),
}
_POD_SPEC: Schema = obj(
    containers=listmap("name", **_CONTAINER),
    initContainers=listmap("name", **_CONTAINER),
    volumes=listmap("name"),
    hostAliases=listmap("ip"),
    nodeSelector=_ATOMIC,
)
PLAIN: Schema = obj()
NAMESPACE: Schema = obj(spec=obj(finalizers=_LIST), status=obj(conditions=_CONDITIONS))
NODE: Schema = obj(
    spec=obj(podCIDRs=STRING_SET), status=obj(conditions=_CONDITIONS, addresses=listmap("type"))
)
SERVICE: Schema = obj(
    spec=obj(
        type=_STRING,
        clusterIP=_STRING,
        clusterIPs=_LIST,
        ipFamilies=_LIST,
        ipFamilyPolicy=_STRING,
        sessionAffinity=_STRING,
        externalName=_STRING,
        ports=listmap(
            "port", "protocol", merge_key="port", name=_STRING, port=_INTEGER, protocol=_PROTOCOL,
            targetPort={"x-kubernetes-int-or-string": True},
        ),
        selector=_ATOMIC,
    ),
    status=obj(conditions=_CONDITIONS, loadBalancer=_OBJECT),
)  # fmt: skip
ENDPOINT_SLICE: Schema = obj(
    addressType=_STRING,
    endpoints={"type": "array", "items": obj(addresses=_LIST, conditions=_OBJECT)},
    ports={"type": "array", "items": obj(name=_STRING, port=_INTEGER, protocol=_STRING)},
)
LEASE: Schema = obj(
    spec=obj(
        holderIdentity=_STRING,
        leaseDurationSeconds=_INTEGER,
        leaseTransitions=_INTEGER,
        acquireTime=_STRING,
        renewTime=_STRING,
    )
)
POD: Schema = obj(spec=_POD_SPEC, status=obj(phase=_STRING, conditions=_CONDITIONS, podIPs=listmap("ip")))
DEPLOYMENT: Schema = obj(
    spec=obj(selector=_SELECTOR, template=obj(metadata=METADATA, spec=_POD_SPEC)),
    status=obj(conditions=_CONDITIONS),
)
SERVICE_ACCOUNT: Schema = obj(secrets=listmap("name"))
CONFIG_MAP: Schema = obj(data=STRINGS, binaryData=STRINGS)
CRD: Schema = obj(
    spec=obj(
        group=_STRING,
        scope=_STRING,
        names=obj(
            plural=_STRING,
            singular=_STRING,
            kind=_STRING,
            listKind=_STRING,
            shortNames=_LIST,
            categories=_LIST,
        ),
        conversion=obj(strategy=_STRING),
        versions={
            "type": "array",
            "items": obj(
                name=_STRING,
                served=_BOOLEAN,
                storage=_BOOLEAN,
                schema=obj(openAPIV3Schema=_OBJECT),
                subresources=_OBJECT,
                additionalPrinterColumns=_OBJECTS,
            ),
        },
    ),
    status=obj(conditions=_CONDITIONS),
)
