"""Kubernetes without the mission: access, client, reflector, work queue, lease, server-side apply.

Nothing here knows services, plans or clustersets. One `Client` stands for one API server; everything that
fails concerns that server alone.
"""
