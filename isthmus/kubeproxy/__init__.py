"""The kube-proxy door: a plan's shares as EndpointSlices of the derived Service."""
