"""Calls of a stock grpcio client with an `xds:///` target, in a process of its own.

Usage: grpc_calls.py. Reads commands from standard input, a JSON object a line, and answers each with one:
{"target": …, "count": …, "headers": {…}} makes so many calls, and tells who served and what failed; with
"together": N as many at a time;
{"target": …, "until": NAME} calls until only NAME answers, and says since when, in monotonic seconds;
{"target": …, "connected": [NAME, …]} calls until each of these has answered lately, and nobody else.
"timeout" is that of each call, in seconds; "options" are those of the channel.
The bootstrap is read from the environment, as users give it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, deque
from typing import Any

import grpc

METHOD = "/test.Who/Answers"
DEADLINE = 60.0


class Client:
    """One channel for each target and its options."""

    def __init__(self) -> None:
        self._calls: dict[Any, Any] = {}
        self._options: tuple[tuple[str, int], ...] = ()

    def who(self, target: str, headers: dict[str, str], timeout: float = 5.0) -> str:
        """Who answers; the status code where nobody does."""
        call = self._calls.get((target, self._options))
        if call is None:
            channel = grpc.insecure_channel(target, options=self._options)
            call = channel.unary_unary(METHOD, lambda data: data, lambda data: data)
            self._calls[target, self._options] = call
        try:
            answer: bytes = call(b"", timeout=timeout, metadata=tuple(headers.items()))
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        return answer.decode()

    def run(self, command: dict[str, Any]) -> dict[str, Any]:
        target, headers = command["target"], command.get("headers", {})
        timeout = command.get("timeout", 5.0)
        self._options = tuple(command.get("options", {}).items())
        if "connected" in command:
            return self._connected(target, set(command["connected"]))
        if "together" in command:
            return asyncio.run(_together(target, command["count"], command["together"]))
        if "until" not in command:
            seen = Counter(self.who(target, headers, timeout) for _ in range(command["count"]))
            return {"seen": dict(seen)}
        started, seen, row = time.monotonic(), Counter[str](), 0
        while row < 20:
            if time.monotonic() - started > DEADLINE + timeout:
                return {"seen": dict(seen), "late": True}
            answer = self.who(target, headers, timeout)
            seen[answer] += 1
            row = row + 1 if answer == command["until"] else 0
            if row == 1:
                turned = time.monotonic()
        return {"seen": dict(seen), "turned": turned, "late": False}

    def _connected(self, target: str, names: set[str]) -> dict[str, Any]:
        """A library connects to new endpoints one by one, and draws among those that it has reached."""
        started, lately = time.monotonic(), deque[str](maxlen=400)
        while time.monotonic() - started < DEADLINE:
            lately.append(self.who(target, {}))
            if len(lately) >= 50 and set(list(lately)[-50:]) <= names and names <= set(lately):
                return {"seen": dict(Counter(lately)), "late": False}
        return {"seen": dict(Counter(lately)), "late": True}


async def _together(target: str, count: int, at_a_time: int) -> dict[str, Any]:
    """The same by the library's other interface, which is the quicker one."""
    seen: Counter[str] = Counter()
    async with grpc.aio.insecure_channel(target) as channel:
        call = channel.unary_unary(METHOD)

        async def caller() -> None:
            for _ in range(count // at_a_time):
                try:
                    answer: bytes = await call(b"", timeout=DEADLINE)
                    seen[answer.decode()] += 1
                except grpc.aio.AioRpcError as error:
                    seen[f"{error.code().name}: {error.details()}"] += 1

        await asyncio.gather(*(caller() for _ in range(at_a_time)))
    return {"seen": dict(seen)}


def main() -> None:
    client = Client()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(client.run(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
