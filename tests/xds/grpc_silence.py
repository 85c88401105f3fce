"""The first tier of gRPC clients falls silent, in a network namespace of this process's own.

Usage: grpc_silence.py FOLDER. Prints a JSON object: for each sort of channel who answered its calls (or how
they failed) from before the accident until only the other tier answers, and after how many seconds it did.
`told`: whether the control plane gives the other tier meanwhile, as it does when its checks have failed.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from grpc_parts import Caller, GrpcBackend, caller
from xds_harness import GRPC_CLASS, Rows, Shares, plan_of, served

from isthmus.model.policy import DoorSettings, Retry

TARGET = "web.shop.svc.clusterset.local:80"
VICTIM, OTHER = "127.0.2.1", "127.0.3.1"
RULES = f"""
add table inet silence
add chain inet silence input {{ type filter hook input priority 0; }}
add rule inet silence input ip daddr {VICTIM} drop
"""
DETECTION_SECONDS = 1.5
"""What checks need by default to find a silent endpoint."""
KEEPALIVE = {"grpc.keepalive_time_ms": 1000, "grpc.keepalive_timeout_ms": 1000}
CASES: dict[str, dict[str, Any]] = {
    "told": {"told": True, "timeout": 4.0},
    "told, keepalive": {"told": True, "timeout": 6.0, "options": KEEPALIVE},
    "alone, keepalive": {"told": False, "timeout": 6.0, "options": KEEPALIVE},
}


async def silence(rules: str) -> None:
    await asyncio.to_thread(subprocess.run, ["nft", "-f", "-"], input=rules.encode(), check=True)


async def accident(calls: Caller, rows: Rows, tiers: list[GrpcBackend], *, told: bool, **how: Any) -> Any:
    def share(first: GrpcBackend, second: GrpcBackend) -> None:
        own, other = {f"{first.cluster}/r/z": (10_000, [first])}, {f"{second.cluster}/r/z": [second]}
        rows.plan(plan_of(Shares(shares=own, standby=[other])))

    victim, other = tiers
    share(victim, other)
    await calls.ask(target=TARGET, until=victim.cluster, **how)
    asking = asyncio.create_task(calls.ask(target=TARGET, until=other.cluster, **how))
    await asyncio.sleep(0.3)
    await silence(RULES)
    began = time.monotonic()
    if told:
        await asyncio.sleep(DETECTION_SECONDS)
        share(other, victim)
    found = await asking
    await silence("delete table inet silence")
    return {"seen": found["seen"], "late": found["late"], "seconds": found.get("turned", began) - began}


async def main(folder: Path) -> dict[str, Any]:
    tiers = [GrpcBackend("victim", VICTIM), GrpcBackend("other", OTHER)]
    for backend in tiers:
        await backend.start()
    rows = Rows()
    rows.for_grpc(doors=DoorSettings(retry=Retry(asked=True)))
    rows.plan(plan_of(Shares(shares={"victim/r/z": (10_000, tiers[:1])})))
    async with served(rows) as door, caller(folder, door.address, GRPC_CLASS) as calls:
        found = {name: await accident(calls, rows, tiers, **case) for name, case in CASES.items()}
    for backend in tiers:
        await backend.stop()
    return found


if __name__ == "__main__":
    report = asyncio.run(main(Path(sys.argv[1])))
    sys.stdout.write(json.dumps(report) + "\n")
