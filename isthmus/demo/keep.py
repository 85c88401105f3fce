"""What there is to try while the demo stays up: commands to copy, and the doors that make them work."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from isthmus.demo.forward import Door
from isthmus.demo.kubeconfig import kubeconfig
from isthmus.demo.population import DemoService

_HEADINGS = {
    "dns": "By name",
    "envoy": "Through Envoy",
    "admin": "What Envoy knows",
    "console": "What agents say",
}


def write_kubeconfig(doors: Sequence[Door], folder: Path) -> Path:
    """One context per API server; the file is good while the demo stays up."""
    servers = {d.name.removeprefix("api "): url(d) for d in doors if d.name.startswith("api ")}
    config = folder / "kubeconfig-outside"
    config.write_text(kubeconfig(servers, next(iter(servers))))
    return config


def what_to_try(doors: Sequence[Door], config: Path, service: DemoService) -> str:
    """Every line that is not a heading is a command; each works in any shell."""
    contexts = [d.name.removeprefix("api ") for d in doors if d.name.startswith("api ")]
    member = contexts[-1]
    lines = [
        "# Kubernetes: one context per cluster, and the hub",
        f"export KUBECONFIG={config}",
        f"kubectl --context {member} get serviceexports,serviceimports,globaltrafficpolicies -A",
        *(f"kubectl --context {name} get services,endpointslices -A" for name in contexts[1:]),
        "kubectl --context hub get clusters -o yaml",
        "# Drain a cluster, and take it back",
        f'kubectl --context hub patch cluster {member} --type merge -p \'{{"spec":{{"drain":true}}}}\'',
        f'kubectl --context hub patch cluster {member} --type merge -p \'{{"spec":{{"drain":false}}}}\'',
    ]
    for kind, heading in _HEADINGS.items():
        lines.append(f"# {heading}")
        for door in doors:
            what, _, name = door.name.partition(" ")
            if what == kind:
                lines.append(f"{_command(door, kind, service)}   # {name}")
    agents = [url(door) for door in doors if door.name.startswith("console ")]
    lines += [
        "# What they say together",
        f"export ISTHMUS_AGENTS={','.join(agents)}",
        f"{_program()} status",
        f"{_program()} explain {service.namespace}/{service.name}",
        f"{_program()} events --follow",
    ]
    return "\n".join(lines)


def _program() -> str:
    """This command, as it can be typed here."""
    return "isthmus" if shutil.which("isthmus") else f"{sys.executable} -m isthmus"


def _command(door: Door, kind: str, service: DemoService) -> str:
    host, port = door.outside
    match kind:
        case "dns":
            return f"dig @{host} -p {port} {service.authority}"
        case "envoy":
            return f"curl -H 'host: {service.authority}:{service.http_port}' {url(door)}/"
        case "admin":
            return f"curl {url(door)}/clusters"
        case _:
            return f"curl '{url(door)}/v1/plans?service={service.namespace}/{service.name}'"


def url(door: Door) -> str:
    """Where the door is reached from outside."""
    return f"http://{door.outside[0]}:{door.outside[1]}"
