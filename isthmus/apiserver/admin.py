"""The admin port: faults of all clusters of a process, from outside.

GET /faults shows them, POST /faults sets those of one cluster (or of all), DELETE /faults clears them. GET
/suffered tells how many requests have met one. It asks for no credentials, so it belongs on a loopback
address.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from aiohttp import web

from isthmus.apiserver.faults import Fault, Faults


class FaultRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /faults; replaces the cluster's faults. Without a cluster: all clusters."""

    cluster: str = ""
    faults: tuple[Fault, ...]


class Admin:
    """Request handler of the admin port."""

    def __init__(self, faults: Mapping[str, Faults]) -> None:
        self._faults = faults

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/suffered":
            return _answer(200, {name: each.suffered for name, each in self._faults.items()})
        if request.path != "/faults":
            return _answer(404, {"error": "there are only /faults and /suffered"})
        match request.method:
            case "GET":
                return _answer(200, {name: each.active for name, each in self._faults.items()})
            case "POST":
                try:
                    wanted = msgspec.json.decode(await request.read(), type=FaultRequest)
                except msgspec.DecodeError as wrong:
                    return _answer(400, {"error": str(wrong)})
                return self._set(wanted.cluster, wanted.faults)
            case "DELETE":
                return self._set(request.query.get("cluster", ""), ())
            case _:
                return _answer(405, {"error": "GET, POST or DELETE"})

    def _set(self, cluster: str, wanted: tuple[Fault, ...]) -> web.StreamResponse:
        if cluster and cluster not in self._faults:
            return _answer(
                404, {"error": f"there is no cluster {cluster!r}; there are {sorted(self._faults)}"}
            )
        for name, faults in self._faults.items():
            if cluster in ("", name):
                faults.set(*wanted)
        return _answer(200, {name: each.active for name, each in self._faults.items()})


def _answer(code: int, body: object) -> web.Response:
    return web.Response(status=code, body=msgspec.json.encode(body), content_type="application/json")
