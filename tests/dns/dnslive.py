"""A worker of its own for a test, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import dns.asyncquery
import dns.message
import dns.rcode

from isthmus.dns.server import Listen
from isthmus.dns.worker import TABLE, Options, Standing, serve
from isthmus.flow.table import Table, Writer

SVC = "checkout.shop.svc.clusterset.local"
DEADLINE = 60.0


class Live:
    """A worker that serves a table this process writes."""

    def __init__(
        self, make: Any, rows: Writer[str, bytes], where: Listen, standing: Standing | None = None
    ) -> None:
        self.make = make
        self.rows = rows
        self.where = where
        self.standing = standing

    def put(self, key: str, *ips: str) -> None:
        self.rows.put(self.make.key(key), self.make.render(self.make.service(key), ips))

    async def udp(self, name: str = SVC, rtype: str = "A", **query: Any) -> dns.message.Message:
        asked = dns.message.make_query(name, rtype, **query)
        return await dns.asyncquery.udp(asked, self.where.host, port=self.where.port, timeout=DEADLINE)

    async def tcp(self, name: str = SVC, rtype: str = "A", **query: Any) -> dns.message.Message:
        asked = dns.message.make_query(name, rtype, **query)
        return await dns.asyncquery.tcp(asked, self.where.host, port=self.where.port, timeout=DEADLINE)

    async def dig(self, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            "dig",
            f"@{self.where.host}",
            "-p",
            str(self.where.port),
            "+tries=1",
            "+time=60",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        return out.decode()

    async def until(self, condition: Callable[[dns.message.Message], bool], **query: Any) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition(await self.udp(**query)):
                await asyncio.sleep(0.005)


def options(make: Any, **more: Any) -> Options:
    one = (Listen(more.pop("host", "127.0.0.1"), more.pop("port", 0)),)
    listen = more.pop("listen", one)
    return Options(name="dns-0", vantage=make.vantage, listen=listen, **more)


@contextlib.asynccontextmanager
async def worker(make: Any, *, synced: bool = True, **more: Any) -> AsyncIterator[Live]:
    table: Table[str, bytes] = Table(TABLE)
    rows = table.partition("test")
    if synced:
        rows.replace({make.key("shop/checkout"): make.render(make.service("shop/checkout"), ["10.96.0.10"])})
    stands: asyncio.Future[Standing] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(options(make, **more), table, listening=stands.set_result))
    try:
        async with asyncio.timeout(DEADLINE):
            await asyncio.wait({task, stands}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        standing = stands.result()
        live = Live(make, rows, standing.served.bound[0], standing)
        if synced:
            name = f"checkout.shop.svc.{more.get('zone', 'clusterset.local')}"
            await live.until(lambda reply: reply.rcode() == dns.rcode.NOERROR, name=name)
        yield live
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
