"""What programs see: the resolver of libc with a resolv.conf that names a worker."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("path")

ROOT = Path(__file__).parents[2]
IN_A_NAMESPACE = """
import asyncio, socket, sys
sys.path[:0] = sys.argv[1:]
from conftest import Make
from dnslive import worker
from isthmus.dns.upstream import Place

async def look_up(name, family=socket.AF_UNSPEC):
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(name, 80, family=family, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return error.errno
    return sorted({place[4][0] for place in found})

async def main():
    others = (Place("127.0.0.2", 53),)
    async with (
        worker(Make, host="127.0.0.2", port=53, zone="cluster.local"),
        worker(Make, port=53, forward=others) as live,
    ):
        pods = [Make.backend("eu-1", f"10.64.0.{n}", f"fd00::{n}", hostname=f"db-{n}") for n in range(8)]
        plans = Make.plans("shop/db", ("eu-1", 10_000, pods))
        live.rows.put(Make.key("shop/db"), Make.render(Make.service("shop/db", headless=True), [], plans))
        await live.until(lambda reply: bool(reply.answer), name="db.shop.svc.clusterset.local")
        zone = "shop.svc.clusterset.local"
        assert await look_up(f"checkout.{zone}") == ["10.96.0.10"], "AAAA is NODATA, and A counts"
        assert await look_up(f"CheckOut.{zone}.") == ["10.96.0.10"]
        assert await look_up("checkout") == ["10.96.0.10"], "by the search list"
        assert await look_up("checkout.shop") == ["10.96.0.10"], "by its second entry"
        assert await look_up(f"checkout.{zone}", socket.AF_INET6) in (socket.EAI_NODATA, socket.EAI_NONAME)
        assert await look_up(f"nope.{zone}") == socket.EAI_NONAME
        both = await look_up("db")
        assert len(both) == 16, both
        assert await look_up("db-3.eu-1.db") == ["10.64.0.3", "fd00::3"]
        assert await look_up("checkout.shop.svc.cluster.local") == ["10.96.0.10"], "forwarded"
        assert await look_up("nope.shop.svc.cluster.local") == socket.EAI_NONAME, "forwarded"
        assert await look_up("example.com") in (socket.EAI_AGAIN, socket.EAI_NONAME), "refused"

asyncio.run(main())
"""


def test_getaddrinfo_finds_services_and_pods_by_the_search_list(tmp_path: Path) -> None:
    script, resolv = tmp_path / "ask.py", tmp_path / "resolv.conf"
    script.write_text(IN_A_NAMESPACE)
    resolv.write_text(
        "nameserver 127.0.0.1\nsearch shop.svc.clusterset.local svc.clusterset.local\noptions ndots:5\n"
    )
    mount = f"mount --bind {resolv} /etc/resolv.conf"
    setup = f"ip link set lo up && {mount} && grep -q '^hosts:.*dns' /etc/nsswitch.conf"
    unshare = ["unshare", "-Urnm", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*unshare, setup], check=False).returncode:
        pytest.skip(
            "no namespaces of our own, or no libc resolver that asks DNS (unshare -Urnm, nsswitch.conf)"
        )
    paths = [str(ROOT), str(Path(__file__).parent)]
    command = [*unshare, f'{setup} && exec "$0" "$@"', sys.executable, str(script), *paths]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
