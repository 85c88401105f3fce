"""KEP-1645: exports, their merge, imports and EndpointSlices, and the border to other clusters.

Pure functions between Kubernetes objects and model values; what they return for Kubernetes is JSON-able and
holds only the fields that Isthmus owns (server-side apply).
"""
