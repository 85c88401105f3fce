"""All kinds Isthmus reads or writes, and where they live."""

from __future__ import annotations

from isthmus.api import core, hub, mcs, meta, policy
from isthmus.api.meta import Kind

MCS_GROUP = "multicluster.x-k8s.io"
HUB_GROUP = "hub.isthmus.dev"
TRAFFIC_GROUP = "traffic.isthmus.dev"

NAMESPACE = Kind("", "v1", "Namespace", "namespaces", False, core.Namespace)
POD = Kind("", "v1", "Pod", "pods", True, core.Pod)
NODE = Kind("", "v1", "Node", "nodes", False, core.Node)
SERVICE = Kind("", "v1", "Service", "services", True, core.Service)
ENDPOINT_SLICE = Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", True, core.EndpointSlice)
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases", True, core.Lease)
EVENT = Kind("", "v1", "Event", "events", True, meta.Object)
CRD = Kind(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", False, meta.Object
)
SERVICE_EXPORT = Kind(MCS_GROUP, "v1beta1", "ServiceExport", "serviceexports", True, mcs.ServiceExport)
SERVICE_IMPORT = Kind(MCS_GROUP, "v1beta1", "ServiceImport", "serviceimports", True, mcs.ServiceImport)
CLUSTER_PROPERTY = Kind(
    "about.k8s.io", "v1beta1", "ClusterProperty", "clusterproperties", False, mcs.ClusterProperty
)
POLICY = Kind(
    TRAFFIC_GROUP,
    "v1alpha1",
    "GlobalTrafficPolicy",
    "globaltrafficpolicies",
    True,
    policy.GlobalTrafficPolicy,
)
CLUSTER = Kind(HUB_GROUP, "v1alpha1", "Cluster", "clusters", False, hub.Cluster)
EXPORTED_SERVICE = Kind(
    HUB_GROUP, "v1alpha1", "ExportedService", "exportedservices", True, hub.ExportedService
)
EXPORTED_ENDPOINTS = Kind(
    HUB_GROUP, "v1alpha1", "ExportedEndpoints", "exportedendpoints", True, hub.ExportedEndpoints
)
HEALTH_REPORT = Kind(HUB_GROUP, "v1alpha1", "HealthReport", "healthreports", True, hub.HealthReport)
POLICY_REPORT = Kind(HUB_GROUP, "v1alpha1", "PolicyReport", "policyreports", True, hub.PolicyReport)
