"""Clusters: their heartbeat, what the hub makes of it, and what each agent believes of the others."""
