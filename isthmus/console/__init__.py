"""What a process holds, for people and monitoring: JSON views, health and metrics, read-only."""
