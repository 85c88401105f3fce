"""A door worker's process: `python -m isthmus.agent.worker SETTINGS_FILE dns|xds NUMBER`.

It knows neither Kubernetes nor policies; its rows come from control over the socket in the state directory,
and it goes on serving them when control dies.
"""

from __future__ import annotations

from isthmus.agent import logs  # first: it keeps what follows small

# isort: split
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from isthmus.agent import process
from isthmus.model.names import ClusterId, Vantage

LINK = "link.sock"


def main(settings_file: Path, door: str, number: str) -> None:
    """Runs one worker of a door; the settings were validated by whoever wrote them."""
    settings: dict[str, Any] = json.loads(settings_file.read_text())
    work = {"dns": _dns, "xds": _xds}[door](settings, settings_file.parent / LINK, f"{door}-{number}")
    style: logs.LogFormat = settings["log_format"]
    process.run(f"{door}-{number}", work, level=settings["log_level"], style=style)


def _dns(settings: dict[str, Any], link: Path, name: str) -> Callable[[], Awaitable[None]]:
    from isthmus.dns import worker
    from isthmus.dns.server import Listen
    from isthmus.dns.upstream import Place

    others = settings["dns_forward"].split(",")
    options = worker.Options(
        name=name,
        vantage=Vantage(settings["region"], "", ClusterId(settings["cluster"])),
        listen=(Listen(*process.host_and_port(settings["dns_listen"])),),
        zone=settings["zone"],
        query_log=settings["dns_query_log"],
        forward=tuple(Place(*process.host_and_port(one)) for one in others if one),
    )
    return lambda: worker.run(options, link)


def _xds(settings: dict[str, Any], link: Path, name: str) -> Callable[[], Awaitable[None]]:
    # gRPC's C core writes to standard error by itself; what it has to say reaches us as errors too.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from isthmus.tls import Files
    from isthmus.xds import worker

    tls = None
    if settings["xds_cert"]:
        tls = Files(
            certificate=Path(settings["xds_cert"]),
            key=Path(settings["xds_key"]),
            authorities=Path(settings["xds_ca"]),
        )
    options = worker.Options(
        name=name,
        cluster=ClusterId(settings["cluster"]),
        listen=settings["xds_listen"],
        tls=tls,
        trust_domain=settings["xds_trust_domain"],
    )
    return lambda: worker.run(options, link)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
