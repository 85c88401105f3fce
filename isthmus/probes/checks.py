"""Which check is done for which protocol."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable, Mapping

from isthmus.model.health import CheckProtocol, CheckTarget
from isthmus.probes.dns import check_dns
from isthmus.probes.http import check_http, check_https
from isthmus.probes.icmp import check_icmp
from isthmus.probes.outcome import Outcome
from isthmus.probes.tcp import check_tcp

Check = Callable[[CheckTarget], Awaitable[Outcome]]

_GRPC = "isthmus.probes.grpc"


def _tcp(target: CheckTarget) -> Awaitable[Outcome]:
    return check_tcp(target.address, target.port, target.check.timeout)


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
    CheckProtocol.TCP: _tcp,
    CheckProtocol.HTTP: _http,
    CheckProtocol.HTTPS: _https,
    CheckProtocol.GRPC: _grpc,
    CheckProtocol.ICMP: _icmp,
    CheckProtocol.DNS: _dns,
}
