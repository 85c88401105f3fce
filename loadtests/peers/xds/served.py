"""The xDS worker of Isthmus as a server of the benchmark: the product's own code, fed with rows by hand.

Serves CDS and EDS over ADS for so many clusters with so many endpoints each, all nodes alike. Driven by the
lines that `loadtests/xdspeers.py` describes.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3]))

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2

from isthmus.agent import logs
from isthmus.flow.table import Table
from isthmus.model.names import ClusterId, Vantage
from isthmus.tls import Files
from isthmus.xds import worker
from isthmus.xds.rows import EVERYBODY, EXPLICIT, ProxyClass, ResourceType, Row
from isthmus.xds.server import Limits

CLUSTER = ClusterId("eu-1")
VANTAGE = Vantage("", "", CLUSTER)


def name(number: int) -> str:
    return f"svc-{number:04d}"


def cluster(number: int) -> bytes:
    found = cluster_pb2.Cluster(name=name(number), type=cluster_pb2.Cluster.EDS)
    found.connect_timeout.seconds = 1
    found.eds_cluster_config.eds_config.ads.SetInParent()
    found.eds_cluster_config.eds_config.resource_api_version = 2  # V3
    return found.SerializeToString(deterministic=True)


def assignment(number: int, endpoints: int, first_sick: bool) -> bytes:
    found = endpoint_pb2.ClusterLoadAssignment(cluster_name=name(number))
    group = found.endpoints.add()
    group.locality.region, group.locality.zone = "r1", "z1"
    group.load_balancing_weight.value = 1
    for host in range(endpoints):
        one = group.lb_endpoints.add(health_status=2 if first_sick and host == 0 else 1)
        one.load_balancing_weight.value = 1
        address = one.endpoint.address.socket_address
        address.address, address.port_value = f"10.{number // 250}.{number % 250}.{host + 1}", 8080
    return found.SerializeToString(deterministic=True)


def stats() -> dict[str, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {"cpu_s": used.ru_utime + used.ru_stime, "rss_mb": pages * resource.getpagesize() >> 20}


async def serve(services: int, endpoints: int, tls: Files | None) -> None:
    rows: Table[str, bytes] = Table("xds")
    wants: Table[str, bytes] = Table("wants")
    writer = rows.partition("control")
    eds = [str(Row(ResourceType.EDS, str(VANTAGE), name(number))) for number in range(services)]
    content = {key: assignment(number, endpoints, False) for number, key in enumerate(eds)}
    content |= {str(Row(ResourceType.CDS, EVERYBODY, name(n))): cluster(n) for n in range(services)}
    content[str(Row(ResourceType.LDS, str(ProxyClass(VANTAGE)), EXPLICIT))] = b""
    writer.replace(content)
    del content
    gc.freeze()
    sick = [False] * services
    options = worker.Options(
        name="bench", cluster=CLUSTER, listen="localhost:0", limits=Limits(streams=20_000), tls=tls
    )
    lines: asyncio.Queue[str] = asyncio.Queue()
    rest = bytearray()

    def readable() -> None:
        data = os.read(0, 65536)
        if not data:
            lines.put_nowait("quit")
            asyncio.get_running_loop().remove_reader(0)
        rest.extend(data)
        while b"\n" in rest:
            line, _, tail = rest.partition(b"\n")
            rest[:] = tail
            lines.put_nowait(line.decode())

    async with asyncio.TaskGroup() as group:
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        serving = group.create_task(
            worker.serve(options, rows, wants, listening=lambda address, _ads: told.set_result(address))
        )
        say({"addr": await told, "pid": os.getpid()})
        asyncio.get_running_loop().add_reader(0, readable)
        while True:
            match (await lines.get()).split():
                case ["flip", text]:
                    number = int(text)
                    sick[number] = not sick[number]
                    writer.put(eds[number], assignment(number, endpoints, sick[number]))
                    say({"flipped": name(number)})
                case ["stats"]:
                    say(stats())
                case _:
                    serving.cancel()
                    return


def say(answer: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-services", type=int, default=1000)
    parser.add_argument("-endpoints", type=int, default=20)
    parser.add_argument("-tls", default="", metavar="CERT,KEY,CA")
    args = parser.parse_args()
    tls = None
    if args.tls:
        certificate, key, authorities = map(Path, args.tls.split(","))
        tls = Files(certificate=certificate, key=key, authorities=authorities)
    worker.many_connections()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logs.configure("bench", level="info", style="json")
    asyncio.run(serve(args.services, args.endpoints, tls))


if __name__ == "__main__":
    main()
