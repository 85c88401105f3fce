"""Locust users that call when a call is due, whatever became of those before (an open loop).

One user is all callers of one cluster at one door. Latency counts from when a call was due. The program
writes a line when it can begin, then samples. Lines on stdin say whose callers are dead; the first one is the
signal to begin, their end that to stop.

Each call that was due yields exactly one sample, when it ends: one that could not be sent is a failure, and
so is one that has not ended when all patience is over.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import gevent
import gevent.queue
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
"""Seconds that a stalled process may make up for; what is older is not sent at all, and a failure."""
LAST_SECONDS = CALL_SECONDS + 1.0
"""After the last order: until then calls under way may end by themselves."""


class Failed(Exception):
    """A call that its caller got nothing from. `cluster`: where it was led, if anybody knows."""

    def __init__(self, why: str, cluster: str = "") -> None:
        super().__init__(why)
        self.cluster = cluster


class OpenLoop(User):
    """Derived classes make one call at a time in `call`; the classes that run have door, place and rate."""

    abstract = True
    door: ClassVar[Door]
    place: ClassVar[Place]
    rate: ClassVar[float]
    dead: ClassVar[frozenset[str]] = frozenset()
    until: ClassVar[float] = math.inf
    """Calls that are due from then on are nobody's: the callers were told to stop."""
    all: ClassVar[list[OpenLoop]] = []
    """Those that run, and one that has broken: what was due then is due."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._due = time.monotonic()
        self._under_way: dict[int, float] = {}
        """Calls that nobody has told of yet, by number: when they were due."""
        self._numbers = itertools.count()
        self._was_dead = False
        OpenLoop.all.append(self)

    def call(self) -> str:
        """Make one call and return the cluster that served it; raises Failed or OSError."""
        raise NotImplementedError

    def forget(self) -> None:
        """Callers that died do not come back with what they had: connections, answers."""

    def wait_time(self) -> float:
        """Seconds until the next call is due."""
        now = time.monotonic()
        self._due += 1 / self.rate
        self._skip(min(now - MAX_LAG, OpenLoop.until))
        return max(0.0, self._due - now)

    @task
    def turn(self) -> None:
        """Send what is due, and do not wait for what becomes of it."""
        if self._due >= OpenLoop.until:
            return
        dead = self._is_dead()
        if dead and not self._was_dead:
            self.forget()
        self._was_dead = dead
        if dead:
            return
        if len(self._under_way) >= MAX_IN_FLIGHT:
            self._give_up("too many calls in flight")
            return
        number = next(self._numbers)
        self._under_way[number] = self._due
        gevent.spawn(self._send, number)

    def end(self) -> None:
        """Nobody waits any longer for what was due and is not sent, or is under way."""
        self._skip(OpenLoop.until)
        for number in list(self._under_way):
            self._tell(number, "", Failed("unfinished"))

    def is_calling(self) -> bool:
        """Whether a call is under way, or is due and will be sent late."""
        return bool(self._under_way) or self._due < OpenLoop.until

    def _is_dead(self) -> bool:
        return self.place.cluster in OpenLoop.dead

    def _skip(self, until: float) -> None:
        """Give up what was due before this time."""
        while self._due < until:
            self._give_up("the callers were held up")
            self._due += 1 / self.rate

    def _give_up(self, why: str) -> None:
        """Tell of a call that is due and is not sent; the dead have none."""
        if not self._is_dead():
            number = next(self._numbers)
            self._under_way[number] = self._due
            self._tell(number, "", Failed(f"not sent: {why}"))

    def _send(self, number: int) -> None:
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
        self._tell(number, cluster, failure)

    def _tell(self, number: int, cluster: str, failure: Failed | None) -> None:
        due = self._under_way.pop(number, None)
        if due is None:  # it came after its end was told
            return
        self.environment.events.request.fire(
            request_type=self.door.name,
            name=self.place.cluster,
            response_time=(time.monotonic() - due) * 1000,
            response_length=0,
            exception=failure,
            context={"due": due, "cluster": cluster},
        )


class _Runner(LocalRunner):
    def monitor_cpu_and_memory(self) -> None:  # type: ignore[override]
        """Not here: /proc may number processes as another pid namespace does."""


def run(kinds: dict[str, type[OpenLoop]]) -> None:
    """The program: users of all doors and places of the errand in the file named on the command line."""
    errand = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Errand)
    users = [
        type(
            f"{door}-{place.cluster}",
            (kinds[door],),
            {
                "door": DOORS[door].within(errand.namespace),
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
    # One writes, so that lines stay whole where the pipe is full; nobody who tells waits.
    lines: gevent.queue.Queue[bytes | type[StopIteration]] = gevent.queue.Queue()
    writer = gevent.spawn(lambda: [out.write(line) for line in lines])

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
        lines.put(encode(sample) + b"\n")

    environment.events.request.add_listener(tell)  # type: ignore[no-untyped-call]
    environment.runner = runner = _Runner(environment)
    lines.put(b"ready\n")
    for line in FileObjectPosix(sys.stdin.fileno(), "rb", closefd=False):
        OpenLoop.dead = frozenset(msgspec.json.decode(line, type=Orders).dead)
        if runner.state == STATE_INIT:
            runner.start(len(users), spawn_rate=len(users))
    # The runner is not told to stop: that takes so long that calls under way would be the slower for it.
    OpenLoop.until = stopped = time.monotonic()
    while time.monotonic() < stopped + LAST_SECONDS and any(user.is_calling() for user in OpenLoop.all):
        gevent.sleep(0.05)
    for user in OpenLoop.all:
        user.end()
    lines.put(StopIteration)
    writer.join()
