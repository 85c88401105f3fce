"""Objects packed for tables that hold tens of thousands of them: deflated JSON.

Most of an object is what all objects of its kind have in common, which is said here once (a preset
dictionary, RFC 1950): packed it takes a quarter of its JSON, which takes a twentieth of its dicts. Invariant:
equal JSON gives equal bytes. Packed rows live in one process and are never written anywhere.
"""

from __future__ import annotations

import zlib
from typing import Final

_META = (
    '"annotations":{"isthmus.dev/applied":"0123456789ab"},"uid":"","creationTimestamp":"2026-01-01T00:00:00Z",'
    '"generation":1,"resourceVersion":"1'
)
_OURS = '"labels":{"app.kubernetes.io/managed-by":"isthmus"},'
_TIME = '","observedGeneration":1,"lastTransitionTime":"2026-01-01T00:00:00Z"},{"type":"'
_COMMON: Final = "".join(
    (
        '{"kind":"Service","apiVersion":"v1","metadata":{"namespace":"","name":"kubernetes","component":"',
        '"fieldManager","deletionTimestamp":"","finalizers":["',
        '"conditions":[{"type":"Valid","status":"True","reason":"Valid",',
        '"message":"The Service can be exported.',
        _TIME,
        'Ready","status":"True","reason":"Exported","message":"The other clusters can see the Service.',
        _TIME,
        'Conflict","status":"False","reason":"NoConflicts","message":"All exports agree.',
        _TIME,
        'isthmus.dev/EndpointsAccepted","status":"True","reason":"Accepted","message":"',
        _TIME,
        'isthmus.dev/AnnotationsAccepted","status":"True","reason":"Accepted","message":"',
        _TIME,
        'Ready","status":"True","reason":"Ready","message":"The service can be called.',
        '"status":{"clusters":[{"cluster":"","endpointSliceObjects":"Present"}}',
        '{"apiVersion":"hub.isthmus.dev/v1alpha1","kind":"HealthReport","metadata":{"namespace":"isthmus-',
        '"observedAt":"2026-01-01T00:00:00.000000Z","sources":[{"cluster":"","up":3,"down":0,"unknown":0},{"',
        '{"apiVersion":"multicluster.x-k8s.io/v1beta1","kind":"ServiceExport","metadata":{"name":"',
        '"annotations":{"isthmus.dev/exported-at":"2026-01-01T00:00:00.000000Z ',
        '{"apiVersion":"multicluster.x-k8s.io/v1beta1","kind":"ServiceImport","metadata":{"namespace":"","name":"",',
        _OURS,
        '"annotations":{"multicluster.kubernetes.io/derived-service":"derived-","isthmus.dev/applied":"',
        '"spec":{"type":"ClusterSetIP","ports":[{"protocol":"TCP","port":80,"name":"http"}],"ips":["10.96.',
        '"type":"ClusterIP","clusterIP":"10.","clusterIPs":["10."],"ipFamilies":["IPv4"],"ipFamilyPolicy":',
        '"SingleStack","internalTrafficPolicy":"Cluster","sessionAffinity":"None","targetPort":80}],',
        '"status":{"loadBalancer":{}}}"selector":{"app":"',
        '{"apiVersion":"hub.isthmus.dev/v1alpha1","kind":"ExportedService","metadata":{"namespace":"isthmus-',
        '"spec":{"cluster":"","service":{"namespace":"","name":""},"algorithm":1,',
        '"exportedAt":"2026-01-01T00:00:00.000000Z","type":"ClusterSetIP","ports":[{"name":"http",',
        '"protocol":"TCP","port":80}],"ipFamilies":["IPv4"],"sessionAffinity":"None","internalTrafficPolicy":',
        '"Cluster","publishNotReadyAddresses":false,"labels":{},"annotations":{},"draining":false}}',
        '{"apiVersion":"hub.isthmus.dev/v1alpha1","kind":"ExportedEndpoints","metadata":{"namespace":"isthmus-',
        _OURS,
        '"network":"","ports":[{"name":"http","protocol":"TCP","port":8080}],"endpoints":[{"id":"","addresses":["10.',
        '"],"ready":true,"serving":true,"terminating":false,"nodeName":"","region":"","zone":"',
        '{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"namespace":"","name":"derived-',
        '"labels":{"kubernetes.io/service-name":"derived-","multicluster.kubernetes.io/service-name":"",',
        '"multicluster.kubernetes.io/source-cluster":"","endpointslice.kubernetes.io/managed-by":"isthmus.dev",',
        '"app.kubernetes.io/managed-by":"isthmus"},"ownerReferences":[{"apiVersion":"v1","kind":"Service","name":"',
        '"ownerReferences":[{"apiVersion":"multicluster.x-k8s.io/v1beta1","kind":"ServiceImport","name":"',
        _META,
        '"addressType":"IPv4","ports":[{"name":"http","protocol":"TCP","port":8080}],"endpoints":[',
        '{"addresses":["10."],"conditions":{"ready":true,"serving":true,"terminating":false},"zone":"","nodeName":""},',
    )
).encode()
_LEVEL, _WINDOW, _MEMORY = 4, -12, 5
_PACKER: Final = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW, _MEMORY, zlib.Z_DEFAULT_STRATEGY, _COMMON)
"""Knows the dictionary; used by copies alone."""


def deflate(plain: bytes) -> bytes:
    """The packed form of an object's JSON."""
    packer = _PACKER.copy()
    return packer.compress(plain) + packer.flush()


def inflate(packed: bytes) -> bytes:
    """The JSON that was packed."""
    return zlib.decompressobj(_WINDOW, _COMMON).decompress(packed)
