"""Callers of gRPC count each call once, and tell which cluster a failed one was led to if anybody knows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest
from calling import called, place
from grpc_parts import GrpcBackend
from xds_harness import Rows, Shares, plan_of, served

from isthmus.model.names import ServiceKey
from isthmus.model.service import Port, Protocol
from loadtests.load.errand import Errand

CART = ServiceKey("shop", "cart")
PORT = Port(name="grpc", protocol=Protocol.TCP, port=7070)
DUE = 40


class Breaking(grpc.GenericRpcHandler):
    """Begins every answer; breaks every fourth off."""

    def __init__(self) -> None:
        self.seen: Counter[bool] = Counter()

    def service(self, _details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._answer)

    async def _answer(self, _request: bytes, context: Any) -> bytes:
        await context.send_initial_metadata((("x-cluster", "us-1"),))
        breaks = self.seen.total() % 4 == 3
        self.seen[breaks] += 1
        if breaks:
            await context.abort(grpc.StatusCode.DATA_LOSS, "cut")
        return b""


async def test_an_answer_that_breaks_off_is_a_failure_of_the_cluster_that_began_it(tmp_path: Path) -> None:
    handler, server = Breaking(), grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    pod = GrpcBackend("us-1")
    pod.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    rows = Rows()
    rows.for_grpc(CART, (PORT,))
    rows.plan(plan_of(Shares(shares={"us-1/us/a": (10_000, [pod])}), CART, PORT))
    try:
        async with served(rows) as door:
            host, _, port = door.address.rpartition(":")
            errand = Errand(program="grpc", places=(place(xds=(host, int(port))),), rates={"grpc": 50.0})
            seen = await called(tmp_path, errand, DUE)
    finally:
        await server.stop(None)
    assert {(row.cluster, row.why) for row in seen} == {("us-1", ""), ("us-1", "DATA_LOSS")}
    assert Counter(bool(row.why) for row in seen) == handler.seen


@pytest.mark.parametrize(
    ("details", "cluster"),
    [
        ("failed to connect to all addresses; last error: UNKNOWN: ipv4:10.66.1.3:7070: refused", "us-1"),
        ("ipv4:10.64.1.3:7070: refused; last error: ipv4:10.65.1.3:7070: refused", "eu-2"),
        ("ipv4:192.0.2.1:7070: refused", ""),
        ("Deadline Exceeded", ""),
    ],
)
def test_an_error_that_names_an_address_names_its_cluster(details: str, cluster: str) -> None:
    assert place().named(details) == cluster
