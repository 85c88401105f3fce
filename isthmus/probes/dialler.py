"""The TCP check: a connection that opens is a success.

All that are on their way stand in one epoll set and on one agenda: a task, a watcher and a timer for each
cost more than the connection itself. A connection is closed in the ordinary way (FIN): a reset would spare
this side a TIME_WAIT and fill the server's log. Invariant: a dial ends once, by what it found or by being
stopped, and its socket is closed then.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
from collections.abc import Callable

from isthmus.probes.agenda import Agenda, Entry
from isthmus.probes.connection import dialled
from isthmus.probes.outcome import PASSED, TIMEOUT, Outcome, failed

TOGETHER = 100
"""Connections that are looked at before the loop does other things."""

Done = Callable[[Outcome], None]
Stop = Callable[[], object]


class Dialler:
    """Opens connections on the running loop, between `open` and `close`."""

    def __init__(self) -> None:
        self._dials: dict[int, _Dial] = {}
        self._late: Agenda[_Dial] = Agenda(self._expire)

    def open(self) -> None:
        self._epoll = select.epoll()
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._look)

    def close(self) -> None:
        """Ends what is under way without a word."""
        for dial in list(self._dials.values()):
            self._close(dial)
        self._late.close()
        asyncio.get_running_loop().remove_reader(self._epoll.fileno())
        self._epoll.close()

    def dial(self, address: str, port: int, timeout: float, done: Done) -> Stop:
        """Connects within `timeout` seconds and says what came of it, never before this has returned.

        What is returned ends it without a word.
        """
        loop = asyncio.get_running_loop()
        try:
            connection = dialled(address)
        except OSError as error:
            return loop.call_soon(done, failed(error)).cancel
        number = connection.connect_ex((address, port))
        if number not in (0, errno.EINPROGRESS):
            connection.close()
            return loop.call_soon(done, failed(OSError(number, ""))).cancel
        dial = _Dial(self, connection, done)
        dial.late = self._late.add(loop.time() + timeout, dial)
        self._dials[connection.fileno()] = dial
        self._epoll.register(connection, select.EPOLLOUT | select.EPOLLONESHOT)
        return dial.stop

    def _look(self) -> None:
        for descriptor, _events in self._epoll.poll(0, TOGETHER):
            # What was found a moment ago may have stopped this one, and another may have its number.
            dial = self._dials.get(descriptor)
            if dial is not None and (outcome := _found(dial.connection)) is not None:
                self._end(dial, outcome)

    def _expire(self, dial: _Dial) -> None:
        # It may have succeeded while nobody looked.
        self._end(dial, _found(dial.connection) or TIMEOUT)

    def _end(self, dial: _Dial, outcome: Outcome) -> None:
        self._close(dial)
        dial.done(outcome)

    def _close(self, dial: _Dial) -> None:
        if self._dials.pop(dial.connection.fileno(), None) is not None:
            if dial.late is not None:
                self._late.cancel(dial.late)
            dial.connection.close()


class _Dial:
    """One connection on its way."""

    __slots__ = ("connection", "dialler", "done", "late")

    def __init__(self, dialler: Dialler, connection: socket.socket, done: Done) -> None:
        self.dialler = dialler
        self.connection = connection
        self.done = done
        self.late: Entry[_Dial] | None = None

    def stop(self) -> None:
        self.dialler._close(self)


def _found(connection: socket.socket) -> Outcome | None:
    """What has become of a connection, None while it is on its way."""
    try:
        connection.getpeername()
    except OSError:
        number = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return failed(OSError(number, "")) if number else None
    return PASSED
