"""Proxyless gRPC, `xds:///` to the agent of its own cluster: `python -m loadtests.load.callers.grpc FILE`.

The library reads one bootstrap for a whole process, so a process calls from one cluster.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import locust  # noqa: F401 (first of all: it makes sockets cooperate)

# isort: split
import msgspec

from isthmus.model.names import ClusterId, Vantage
from isthmus.xds.bootstrap import grpc_bootstrap
from loadtests.load.callers.openloop import Failed, OpenLoop, run
from loadtests.load.errand import Errand, Place

DEADLINE_SECONDS = 4.5
"""Callers are as patient as those of HTTP, and told by the library rather than by `CALL_SECONDS`."""
KEEPALIVE = (("grpc.keepalive_time_ms", 2000), ("grpc.keepalive_timeout_ms", 2000))
"""As docs/proxies.md advises: a connection into silence is not found out otherwise."""
_CHECK = "/grpc.health.v1.Health/Check"


class Call(OpenLoop):
    """Calls over one channel: the library connects to whom its control plane names, and draws among them."""

    abstract = True

    def __init__(self, environment: Any) -> None:
        import grpc

        super().__init__(environment)
        self._grpc = grpc
        channel = grpc.insecure_channel(f"xds:///{self.door.service}:{self.door.port}", options=KEEPALIVE)
        self._check = channel.unary_unary(_CHECK, lambda data: data, lambda data: data)

    def call(self) -> str:
        try:
            _, call = self._check.with_call(b"", timeout=DEADLINE_SECONDS)
        except self._grpc.RpcError as error:
            raise Failed(error.code().name, self._led(error)) from error
        return _cluster(call)

    def _led(self, error: Any) -> str:
        """Where a failed call was, if an answer had begun or the library names an address."""
        return _cluster(error) or self.place.named(error.details() or "")


def _cluster(call: Any) -> str:
    return next((str(value) for key, value in call.initial_metadata() or () if key == "x-cluster"), "")


def announce(place: Place, file: Path) -> None:
    """Write the bootstrap of this place and name it where the library looks."""
    address, port = place.xds
    vantage = Vantage(place.region, place.zone, ClusterId(place.cluster))
    server = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    bootstrap = grpc_bootstrap(f"callers-{place.cluster}", vantage, server, identity=place.identity)
    file.write_bytes(msgspec.json.encode(bootstrap))
    os.environ["GRPC_XDS_BOOTSTRAP"] = str(file)


if __name__ == "__main__":
    errand = Path(sys.argv[1])
    (place,) = msgspec.json.decode(errand.read_bytes(), type=Errand).places
    announce(place, errand.with_suffix(".bootstrap.json"))
    import grpc.experimental.gevent

    grpc.experimental.gevent.init_gevent()
    run({"grpc": Call})
