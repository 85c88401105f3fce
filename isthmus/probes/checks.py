"""Which check is done for which protocol."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

import structlog

from isthmus.model.health import CheckProtocol, CheckTarget
from isthmus.probes.dialler import Dialler, Done, Stop
from isthmus.probes.dns import check_dns
from isthmus.probes.http import check_http, check_https
from isthmus.probes.icmp import check_icmp
from isthmus.probes.outcome import Outcome

Check = Callable[[CheckTarget], Awaitable[Outcome]]

RAISED = "the check raised"
RAISED_SECONDS = 60.0
"""How long nothing is said of further ones."""

_GRPC = "isthmus.probes.grpc"

log = structlog.get_logger()


def _http(target: CheckTarget) -> Awaitable[Outcome]:
    return check_http(target.address, target.port, target.check.timeout, target.check.path)


def _https(target: CheckTarget) -> Awaitable[Outcome]:
    check = target.check
    return check_https(target.address, target.port, check.timeout, check.path, target.name)


async def _grpc(target: CheckTarget) -> Outcome:
    if _GRPC not in sys.modules:
        await asyncio.to_thread(importlib.import_module, _GRPC)
    from isthmus.probes.grpc import check_grpc

    return await check_grpc(target.address, target.port, target.check.timeout, target.name)


def _icmp(target: CheckTarget) -> Awaitable[Outcome]:
    return check_icmp(target.address, target.check.timeout)


def _dns(target: CheckTarget) -> Awaitable[Outcome]:
    return check_dns(target.address, target.port, target.check.timeout, udp=target.udp)


CHECKS: Mapping[CheckProtocol, Check] = {
    CheckProtocol.HTTP: _http,
    CheckProtocol.HTTPS: _https,
    CheckProtocol.GRPC: _grpc,
    CheckProtocol.ICMP: _icmp,
    CheckProtocol.DNS: _dns,
}
"""Those that need a task each; TCP is the dialler's."""


class Checks:
    """Begins checks within `async with`; when it is left, those under way have ended without a word."""

    def __init__(self, checks: Mapping[CheckProtocol, Check] = CHECKS) -> None:
        self._checks = checks
        self._dialler = Dialler()
        self._tasks: set[asyncio.Task[None]] = set()
        self._raised = float("-inf")

    async def __aenter__(self) -> Self:
        self._dialler.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dialler.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def begin(self, target: CheckTarget, done: Done) -> Stop:
        """Begins a check; `done` is told what it found, later. What is returned ends it without a word."""
        check = self._checks.get(target.check.effective)
        if check is None:
            return self._dialler.dial(target.address, target.port, target.check.timeout, done)
        task = asyncio.get_running_loop().create_task(self._run(check, target, done), name="probe")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task.cancel

    async def _run(self, check: Check, target: CheckTarget, done: Done) -> None:
        try:
            outcome = await check(target)
        except Exception:  # a bug in one check must not end the others
            now = asyncio.get_running_loop().time()
            if now - self._raised > RAISED_SECONDS:
                self._raised = now
                log.exception("check raised", protocol=target.check.effective.value, service=target.name)
            outcome = Outcome(None, RAISED)
        done(outcome)
