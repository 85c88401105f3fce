"""One of three clusters falls silent under load, in a network namespace of this process's own.

Usage: silence.py ENVOY FOLDER. Prints a JSON object: what failed, and who answered before and after. Ends
when requests are answered as quickly as before. Nobody tells the proxy anything.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from http_load import HttpBackend, Load, loaded, until
from xds_harness import Rows, Shares, plan_of, served, sidecar

from loadtests.ports import free_port

CLUSTERS = ("eu-1", "eu-2", "us-1")
VICTIM = "127.0.2.0/24"
RULES = f"""
add table inet silence
add chain inet silence input {{ type filter hook input priority 0; }}
add rule inet silence input ip daddr {VICTIM} drop
"""


async def main(binary: str, folder: Path) -> dict[str, object]:
    backends = {
        name: [HttpBackend(name, f"127.0.{net}.{host}") for host in (1, 2)]
        for net, name in enumerate(CLUSTERS, 1)
    }
    for backend in (b for found in backends.values() for b in found):
        await backend.start()
    listen = f"127.0.0.1:{free_port()}"
    rows = Rows()
    rows.listen(listen)
    rows.service()
    rows.plan(plan_of(Shares({f"{name}/r/z": (3333, found) for name, found in backends.items()})))
    async with served(rows) as door, sidecar(binary, folder, door.address, listen) as proxy:
        await proxy.serving()
        async with loaded(Load(listen)) as load:
            await until(lambda: _true(len(load.answers) >= 200), "200 answers")
            await asyncio.to_thread(subprocess.run, ["nft", "-f", "-"], input=RULES.encode(), check=True)
            silent = load.now

            async def settled() -> bool:
                """Whether of two seconds' requests hardly any waited for somebody silent."""
                lately = [at for at in load.begun if load.now - 3 < at < load.now - 1]
                quick = {at for at, latency, _, _ in load.answers if latency < 0.5}
                return min(lately, default=0.0) > silent and len(quick & set(lately)) >= 0.99 * len(lately)

            await until(settled, "requests are answered quickly again")
        before = [body for at, latency, _, body in load.answers if at + latency < silent]
        return {
            "requests": len(load.answers),
            "failed": [str(failure) for failure in load.failed],
            "before": {name: before.count(name) for name in CLUSTERS},
            "after": dict(load.by(since=silent)),
        }


async def _true(value: bool) -> bool:
    return value


if __name__ == "__main__":
    found = asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
    sys.stdout.write(json.dumps(found) + "\n")
