"""Who the command meets in these tests, and the environment it runs in."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from isthmus.console.events import Ring

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 180.0


@dataclass
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str


@dataclass
class Console:
    """A running console and what it tells events from."""

    url: str
    ring: Ring
    server: TestServer


@dataclass
class PodProxy:
    """An API server's part in it: it lists agents' pods, and forwards to their consoles."""

    url: str = ""
    pods: dict[str, str] = field(default_factory=dict)
    """Name and console URL, "" for one that does not answer."""
    forbidden: bool = False
    unknown: str = ""
    """A pod that is listed and gone."""

    def status(self, code: int, reason: str, message: str) -> web.Response:
        body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
        return web.json_response(body, status=code)

    async def list(self, request: web.Request) -> web.Response:
        if self.forbidden:
            return self.status(403, "Forbidden", 'pods is forbidden: User "eve" cannot list resource "pods"')
        assert request.query["labelSelector"] == "app.kubernetes.io/name=isthmus-agent"
        assert request.match_info["namespace"] == "isthmus-system"
        items = [
            {"metadata": {"name": name, "namespace": "isthmus-system"}, "status": {"phase": "Running"}}
            for name in self.pods
        ]
        items.append({"metadata": {"name": "old"}, "status": {"phase": "Succeeded"}})
        return web.json_response({"metadata": {}, "items": items})

    async def forward(self, request: web.Request) -> web.Response:
        name, _, port = request.match_info["pod"].partition(":")
        assert port == "9470"
        if name == self.unknown:
            return self.status(404, "NotFound", f'pods "{name}" not found')
        if not self.pods[name]:
            return self.status(503, "ServiceUnavailable", "error trying to reach service: dial tcp")
        url = f"{self.pods[name]}/{request.match_info['rest']}"
        async with aiohttp.ClientSession() as session, session.get(url, params=request.query) as answer:
            return web.Response(
                body=await answer.read(), status=answer.status, content_type="application/json"
            )


def environment(folder: Path, **more: str) -> dict[str, str]:
    """A user without agents, kubeconfig or terminal."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LANG")}
    return {**kept, "HOME": str(folder), "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "TZ": "UTC", **more}
