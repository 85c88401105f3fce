"""Locust users that call when a call is due, whatever became of those before (an open loop).

One user is all callers of one cluster at one door. Latency counts from when a call was due. The program
writes a line when it can begin, then each call as a sample. Lines on stdin say whose callers are dead; the
first one is the signal to begin, their end that to stop.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import gevent
import msgspec
from gevent.fileobject import FileObjectPosix
from locust import User, task
from locust.env import Environment
from locust.runners import STATE_INIT, LocalRunner

from loadtests.load.doors import DOORS, Door
from loadtests.load.errand import Errand, Orders, Place
from loadtests.load.samples import Sample

CALL_SECONDS = 5.0
"""A call that takes longer has failed."""
MAX_IN_FLIGHT = 512
"""Per user; what is due beyond is a failure of its own, never a queue."""
MAX_LAG = 2.0
"""Seconds that a stalled process may make up for; what is older is not sent at all."""


class Failed(Exception):
    """A call that its caller got nothing from. `cluster`: where it was led, if anybody knows."""

    def __init__(self, why: str, cluster: str = "") -> None:
        super().__init__(why)
        self.cluster = cluster


class OpenLoop(User):  # type: ignore[misc]
    """Derived classes make one call at a time in `call`; the classes that run have door, place and rate."""

    abstract = True
    door: ClassVar[Door]
    place: ClassVar[Place]
    rate: ClassVar[float]
    dead: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._due = time.monotonic()
        self._in_flight = 0
        self._was_dead = False

    def call(self) -> str:
        """Make one call and return the cluster that served it; raises Failed or OSError."""
        raise NotImplementedError

    def forget(self) -> None:
        """Callers that died do not come back with what they had: connections, answers."""

    def wait_time(self) -> float:
        """Seconds until the next call is due."""
        now = time.monotonic()
        self._due += 1 / self.rate
        if now - self._due > MAX_LAG:
            self._due = now
        return max(0.0, self._due - now)

    @task
    def turn(self) -> None:
        """Send what is due, and do not wait for what becomes of it."""
        if self.place.cluster in OpenLoop.dead:
            if not self._was_dead:
                self.forget()
            self._was_dead = True
            return
        self._was_dead = False
        if self._in_flight >= MAX_IN_FLIGHT:
            self._tell(self._due, "", Failed("too many calls in flight"))
            return
        self._in_flight += 1
        gevent.spawn(self._send, self._due)

    def _send(self, due: float) -> None:
        cluster, failure = "", None
        try:
            with gevent.Timeout(CALL_SECONDS, TimeoutError("timeout")):
                cluster = self.call()
        except Failed as error:
            cluster, failure = error.cluster, error
        except OSError as error:
            failure = Failed(error.strerror or str(error) or type(error).__name__)
        except Exception as error:  # noqa: BLE001 (whatever a library raises, no call goes uncounted)
            failure = Failed(type(error).__name__)
        finally:
            self._in_flight -= 1
        self._tell(due, cluster, failure)

    def _tell(self, due: float, cluster: str, failure: Failed | None) -> None:
        self.environment.events.request.fire(
            request_type=self.door.name,
            name=self.place.cluster,
            response_time=(time.monotonic() - due) * 1000,
            response_length=0,
            exception=failure,
            context={"due": due, "cluster": cluster},
        )


class _Runner(LocalRunner):  # type: ignore[misc]
    def monitor_cpu_and_memory(self) -> None:
        """Not here: /proc may number processes as another pid namespace does."""


def run(kinds: dict[str, type[OpenLoop]]) -> None:
    """The program: users of all doors and places of the errand in the file named on the command line."""
    errand = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Errand)
    users = [
        type(
            f"{door}-{place.cluster}",
            (kinds[door],),
            {
                "door": DOORS[door],
                "place": place,
                "rate": rate / len(errand.places),
                "fixed_count": 1,
                "abstract": False,
            },
        )
        for door, rate in errand.rates.items()
        for place in errand.places
    ]
    environment = Environment(user_classes=users, catch_exceptions=False)
    out = FileObjectPosix(sys.stdout.fileno(), "wb", closefd=False, bufsize=0)
    encode = msgspec.json.Encoder().encode

    def tell(
        request_type: str,
        name: str,
        response_time: float,
        exception: Exception | None,
        context: Any,
        **_: Any,
    ) -> None:
        why = "" if exception is None else str(exception)
        sample = Sample(
            round(context["due"], 4), round(response_time, 2), request_type, name, context["cluster"], why
        )
        out.write(encode(sample) + b"\n")

    environment.events.request.add_listener(tell)
    environment.runner = runner = _Runner(environment)
    out.write(b"ready\n")
    for line in FileObjectPosix(sys.stdin.fileno(), "rb", closefd=False):
        OpenLoop.dead = frozenset(msgspec.json.decode(line, type=Orders).dead)
        if runner.state == STATE_INIT:
            runner.start(len(users), spawn_rate=len(users))
    runner.quit()
