"""DNS as callers of libc meet it, and a plain connection: `python -m loadtests.load.callers.dns FILE`.

Some hosts of each cluster call in turn, from addresses of their own. Each asks for the name, keeps the answer
as long as its TTL says (as nscd and resolver libraries do), and connects to the first address of it. So an
answer that has gone stale shows as a connection that fails.
"""

from __future__ import annotations

import http.client
import itertools
import time
from typing import Any

import locust  # noqa: F401 (first of all: it makes sockets cooperate)

# isort: split
import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from loadtests.load.callers.openloop import Failed, OpenLoop, run

QUERY_SECONDS = 2.0
CONNECT_SECONDS = 1.0


class Udp(OpenLoop):
    """Asks over UDP, and over TCP where the answer was cut."""

    abstract = True

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._hosts = itertools.cycle(enumerate(self.place.hosts))
        self._cached: dict[int, tuple[float, str]] = {}
        """By number of the host: until when, and where to."""

    def call(self) -> str:
        (number, host), now = next(self._hosts), time.monotonic()
        until, address = self._cached.get(number, (0.0, ""))
        if now >= until:
            address, ttl = self._look_up(host)
            if not until:  # hosts of the world do not begin all at once
                ttl *= (number + 1) / len(self.place.hosts)
            self._cached[number] = (now + ttl, address)
        cluster = self.place.owner(address)
        connection = http.client.HTTPConnection(address, self.door.target, timeout=CONNECT_SECONDS)
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", "") or str(error) or type(error).__name__
            raise Failed(f"stale answer: {why}", cluster) from error
        finally:
            connection.close()
        return cluster

    def _look_up(self, host: str) -> tuple[str, float]:
        """The first address, and how many seconds it may be kept."""
        query = dns.message.make_query(self.door.service, dns.rdatatype.A, use_edns=False)
        try:
            answer = self.ask(query, host)
        except (dns.exception.DNSException, OSError, EOFError) as error:
            raise Failed("no DNS answer") from error
        if answer.rcode() != dns.rcode.NOERROR:
            raise Failed(f"DNS {dns.rcode.to_text(answer.rcode())}")
        for rrset in answer.answer:
            if rrset.rdtype == dns.rdatatype.A:
                return rrset[0].address, float(rrset.ttl)
        raise Failed("no address in the DNS answer")

    def ask(self, query: dns.message.Message, host: str) -> dns.message.Message:
        server, port = self.place.peers.get(self.door.name, self.place.dns)
        answer, _ = dns.query.udp_with_fallback(query, server, QUERY_SECONDS, port, source=host)
        return answer

    def forget(self) -> None:
        self._cached.clear()


class Tcp(Udp):
    """Asks over TCP alone (`options use-vc`)."""

    abstract = True

    def ask(self, query: dns.message.Message, host: str) -> dns.message.Message:
        server, port = self.place.dns
        return dns.query.tcp(query, server, QUERY_SECONDS, port, source=host)


if __name__ == "__main__":
    run({"dns-udp": Udp, "dns-tcp": Tcp, "coredns-static": Udp})
