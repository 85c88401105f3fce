"""Kubernetes kinds, one type each, no behaviour.

msgspec Structs for what streams in bulk (unknown fields are skipped while decoding), pydantic models for what
people write. Field names are snake_case here and camelCase on the wire.
"""
