"""A real Envoy shows and trusts what is on disk now, not what was there when it started."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from authority import Authority
from http_load import backends, until
from xds_harness import Door, Rows, Shares, plan_of, served, sidecar

from isthmus.tls import Files
from isthmus.xds.proxies import described
from loadtests.ports import free_port

pytestmark = pytest.mark.envoy
NODE = "test-sidecar"


class Mount:
    """A folder as Kubernetes mounts a Secret: its files are links, and all of them turn in one moment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._number = 0
        self.files = Files(
            certificate=folder / "tls.crt", key=folder / "tls.key", authorities=folder / "ca.crt"
        )

    def put(self, authority: Authority, *names: str) -> None:
        self._number += 1
        version = self.folder / f"..{self._number}"
        version.mkdir()
        certificate, key = authority.sign(names=names)
        contents = (("tls.crt", certificate), ("tls.key", key), ("ca.crt", authority.certificate))
        for name, content in contents:
            (version / name).write_bytes(content)
            if self._number == 1:
                (self.folder / name).symlink_to(f"..data/{name}")
        turned = self.folder / "..next"
        turned.symlink_to(version.name)
        turned.rename(self.folder / "..data")


def shown(door: Door) -> list[str]:
    """The certificates of the proxies that are connected."""
    return [str(told["identity"]) for told in described(door.ads, 0.0)]


@pytest.mark.parametrize("follow", [True, False], ids=["by SDS", "once"])
async def test_a_renewed_certificate_and_authority_count_for_the_next_handshake(
    envoy_binary: str, tmp_path: Path, follow: bool
) -> None:
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    mount, rows = Mount(tmp_path / "mounted"), Rows()
    mount.put(old, NODE)
    listen, address = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    rows.listen(listen)
    rows.service()
    async with backends("eu-1") as found, AsyncExitStack() as first:
        rows.plan(plan_of(Shares({"eu-1/eu/a": (10_000, found)})))
        server = old.files("server", old.sign(names=("localhost",)))
        door = await first.enter_async_context(served(rows, address, tls=server))
        async with sidecar(envoy_binary, tmp_path, address, listen, tls=mount.files, follow=follow) as proxy:
            await proxy.serving()
            assert shown(door) == [NODE]
            mount.put(new, NODE, "renewed.example")

            async def read() -> bool:
                stats = await proxy.stats("ssl_context_update_by_sds")
                return sum(stats.values()) >= 4 or not follow

            await until(read, "both secrets were read a second time")
            await first.aclose()
            server = new.files("server", new.sign(names=("localhost",)))
            async with served(rows, address, name="xds-1", tls=server) as door:

                async def back() -> bool:
                    if follow:
                        return shown(door) == [f"{NODE}, renewed.example"]
                    stats = await proxy.stats("cluster.isthmus.ssl.(fail_verify|connection_error)")
                    return sum(stats.values()) > 0

                await until(back, "a handshake with what is on disk now, or one that cannot succeed")
                assert follow or shown(door) == []
