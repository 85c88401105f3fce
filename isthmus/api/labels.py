"""Labels and annotations that Isthmus reads or writes."""

from __future__ import annotations

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "isthmus"
"""Value of MANAGED_BY on every object that is ours."""

SLICE_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
SLICE_MANAGER = "isthmus.dev"
"""Value of SLICE_MANAGED_BY on our EndpointSlices; Kubernetes' own controller then leaves them alone."""

SERVICE_NAME = "kubernetes.io/service-name"
"""On an EndpointSlice: the Service of this cluster it belongs to. Never on an imported slice."""

IMPORT_NAME = "multicluster.kubernetes.io/service-name"
"""On an imported EndpointSlice: the ServiceImport it belongs to (KEP-1645)."""

SOURCE_CLUSTER = "multicluster.kubernetes.io/source-cluster"
"""On an imported EndpointSlice: the cluster that its endpoints run in (KEP-1645)."""

DERIVED_SERVICE = "multicluster.kubernetes.io/derived-service"
"""Annotation of a ServiceImport: the Service that holds its clusterset IPs."""

REGION = "topology.kubernetes.io/region"
ZONE = "topology.kubernetes.io/zone"

DRAIN = "isthmus.dev/drain"
"""Annotation of a ServiceExport, `true` or `false`: new sessions go elsewhere."""

EXPECTED_ENDPOINTS = "isthmus.dev/expected-endpoints"
"""Annotation of a ServiceExport, a count: lost readiness below it spills to other clusters."""

PROBE = "isthmus.dev/probe"
"""Annotation of a ServiceExport, a JSON object: how its endpoints are checked."""

EXPORT_TO = "isthmus.dev/export-to"
"""Annotation of a ServiceExport, cluster names and `label=value` with commas between: who may import."""

AUTO_EXPORT = "isthmus.dev/auto-export"
"""Annotation of a Namespace or Service, `true` or `false`: whether a ServiceExport is made for it."""

DETACH = "isthmus.dev/detach"
"""Annotation of a ServiceExport or ServiceImport, `true` or `false`: what exists stays as it is."""

ADOPT = "isthmus.dev/adopt"
"""Annotation of a ServiceImport that is not ours, `true` or `false`: Isthmus may take it over."""

POLICY_ORIGIN = "isthmus.dev/policy-origin"
"""Label of a PolicyReport, `Hub` or `Member`: where the policy was written."""

APPLIED = "isthmus.dev/applied"
"""Annotation of every object that is ours: a fingerprint of what was applied last."""

RELEASE = "isthmus.dev/release-version"
"""Label of our CustomResourceDefinitions: the release that they came with."""

CLUSTER = "isthmus.dev/cluster"
"""Annotation of any object in a file: the cluster it belongs to (`isthmus translate`)."""

EXPORTED_AT = "isthmus.dev/exported-at"
"""Annotation of a ServiceExport, `<RFC 3339> <uid>`: its creation in the hub's clock, measured once."""

LEFT = "isthmus.dev/left"
"""Annotation of the ClusterProperty `cluster.clusterset.k8s.io`: since when the cluster is leaving its
clusterset, or has left it. Whoever removes it lets the cluster join again."""
