"""HTTP through the Envoy of the caller's own cluster: `python -m loadtests.load.callers.http FILE`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import locust  # noqa: F401 (first of all: it makes sockets cooperate)

# isort: split
from geventhttpclient import HTTPClient

from loadtests.load.callers.openloop import CALL_SECONDS, MAX_IN_FLIGHT, Failed, OpenLoop, run


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
        answer.read()
        if answer.status_code != 200:
            raise Failed(f"HTTP {answer.status_code}", answer.get("x-cluster", ""))
        return str(answer.get("x-cluster", ""))

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
    run({"envoy-get": Get, "envoy-post": Post, "envoy-static": Get, "envoy-tuned": Get})
