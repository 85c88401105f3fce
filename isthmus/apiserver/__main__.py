"""`python -m isthmus.apiserver`: clusters until SIGTERM; one JSON line with their URLs when ready."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from isthmus.apiserver.server import ApiServer, ClusterConfig


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _place(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m isthmus.apiserver", description=__doc__)
    parser.add_argument("--cluster", action="append", required=True, metavar="NAME[=HOST:PORT]")
    parser.add_argument("--service-cidr", action="append", default=[], type=_pair, metavar="NAME=CIDR[,CIDR]")
    parser.add_argument("--clock-offset", action="append", default=[], type=_pair, metavar="NAME=SECONDS")
    parser.add_argument("--bookmark-seconds", type=float, default=60.0)
    parser.add_argument("--kubeconfig", type=Path, metavar="PATH", help="write a kubeconfig here")
    parser.add_argument("--admin", type=_place, metavar="HOST:PORT", help="serve the faults here")
    return parser


def configure(arguments: Sequence[str]) -> tuple[list[ClusterConfig], tuple[str, int] | None, Path | None]:
    """Clusters, admin place and kubeconfig path of a command line; wrong use ends the process with code 2."""
    parser = _parser()
    given = parser.parse_args(arguments)
    cidrs, offsets = dict(given.service_cidr), dict(given.clock_offset)
    configs: list[ClusterConfig] = []
    for text in given.cluster:
        name, _, place = text.partition("=")
        try:
            host, port = _place(place) if place else ("127.0.0.1", 0)
            cidr = cidrs.pop(name, "10.96.0.0/16")
            for each in cidr.split(","):
                ipaddress.ip_network(each.strip())
            offset = float(offsets.pop(name, "0"))
        except (argparse.ArgumentTypeError, ValueError) as wrong:
            parser.error(f"cluster {name}: {wrong}")
        configs.append(
            ClusterConfig(
                name=name,
                host=host,
                port=port,
                service_cidr=cidr,
                clock_offset_seconds=offset,
                bookmark_seconds=given.bookmark_seconds,
            )
        )
    if unknown := {*cidrs, *offsets}:
        parser.error(f"there is no cluster {', '.join(sorted(unknown))}")
    if len({config.name for config in configs}) != len(configs):
        parser.error("two clusters have the same name")
    return configs, given.admin, given.kubeconfig


async def serve(
    configs: Sequence[ClusterConfig], admin: tuple[str, int] | None, ready: Callable[[ApiServer], None]
) -> None:
    """Run until SIGTERM or SIGINT; `ready` is called once all clusters listen."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with ApiServer(configs, admin=admin) as server:
        ready(server)
        await stopped.wait()


def main() -> None:
    configs, admin, path = configure(sys.argv[1:])

    def ready(server: ApiServer) -> None:
        if path is not None:
            path.write_text(server.kubeconfig())
        urls = {"clusters": {name: server.url(name) for name in server.clusters}, "admin": server.admin_url}
        sys.stdout.write(msgspec.json.encode(urls).decode() + "\n")
        sys.stdout.flush()

    try:
        asyncio.run(serve(configs, admin, ready))
    except OSError as wrong:
        sys.stderr.write(f"cannot listen: {wrong}\n")
        raise SystemExit(3) from None


if __name__ == "__main__":
    main()
