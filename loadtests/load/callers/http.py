"""HTTP through the Envoy of the caller's own cluster: `python -m loadtests.load.callers.http FILE`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import locust  # noqa: F401 (first of all: it makes sockets cooperate)

# isort: split
import geventhttpclient.client
from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPParseError

from loadtests.load.callers.openloop import CALL_SECONDS, MAX_IN_FLIGHT, Failed, OpenLoop, run

geventhttpclient.client.IDEMPOTENT_METHODS = frozenset()
"""The library repeats these by itself when a connection breaks, again and again: a failure is to be seen."""


class Get(OpenLoop):
    """Connections are kept; there are as many as calls under way."""

    abstract = True

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._headers: Mapping[str, str] = {"Host": f"{self.door.service}:{self.door.port}"}
        self._client = self._connect()

    def _connect(self) -> HTTPClient:
        host, port = self.place.peers.get(self.door.name, self.place.envoy)
        return HTTPClient(
            host,
            port,
            concurrency=MAX_IN_FLIGHT,
            connection_timeout=CALL_SECONDS,
            network_timeout=CALL_SECONDS,
        )

    def call(self) -> str:
        answer = self.ask(self._client)
        cluster = str(answer.get("x-cluster", ""))
        if answer.status_code != 200:
            answer.read()
            raise Failed(f"HTTP {answer.status_code}", cluster)
        try:
            answer.read()
        except (OSError, HTTPParseError) as error:
            raise Failed("the answer was cut", cluster) from error
        return cluster

    def ask(self, client: HTTPClient) -> Any:
        return client.get("/", headers=self._headers)

    def forget(self) -> None:
        self._client.close()
        self._client = self._connect()


class Post(Get):
    """Not to be repeated by anybody who cannot tell whether it has arrived."""

    abstract = True

    def ask(self, client: HTTPClient) -> Any:
        return client.post("/", body=b"one order\n", headers=self._headers)


if __name__ == "__main__":
    run({"envoy-get": Get, "envoy-post": Post, "envoy-static": Get, "envoy-tuned": Get, "envoy-naive": Get})
