"""How Envoy names its extensions: a canonical name and a typed configuration."""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3 import config_source_pb2, extension_pb2
from google.protobuf import any_pb2

TYPE = "type.googleapis.com/"


def packed(message: Any) -> any_pb2.Any:
    """A message as Any, its bytes deterministic."""
    return any_pb2.Any(
        type_url=TYPE + message.DESCRIPTOR.full_name, value=message.SerializeToString(deterministic=True)
    )


def extension(name: str, message: Any) -> extension_pb2.TypedExtensionConfig:
    """An extension by its canonical name: Envoy rejects names of one's own for some of them."""
    return extension_pb2.TypedExtensionConfig(name=name, typed_config=packed(message))


def over_ads(fetch_timeout: float | None = None) -> config_source_pb2.ConfigSource:
    """A resource that comes over the same stream.

    `fetch_timeout`: seconds until Envoy goes on without it, None for Envoy's own 15 s, 0 for never.
    """
    source = config_source_pb2.ConfigSource(resource_api_version=config_source_pb2.ApiVersion.V3)
    source.ads.SetInParent()
    if fetch_timeout is not None:
        source.initial_fetch_timeout.FromNanoseconds(round(fetch_timeout * 1e9))
    return source
