"""The last good inputs on disk, so that an agent starts without hub or API server.

What is kept are inputs (the objects as they were read), never plans: a newer version plans anew from them.
Invariants: the event loop never waits for the disk (one thread, batches); a file that cannot be read or
written costs the safety of the next start, never this one; rows that a source still fails to confirm are
marked stale with the time they were saved.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import structlog

from isthmus.api.meta import Kind, ObjectKey
from isthmus.flow import Table, Writer
from isthmus.kube.packing import inflate

log = structlog.get_logger()

BATCH_SECONDS = 0.5
CONFIRM_SECONDS = 30.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (
  source TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, object BLOB NOT NULL,
  PRIMARY KEY (source, namespace, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sources (source TEXT PRIMARY KEY, saved REAL NOT NULL) WITHOUT ROWID;
"""

Changes = Mapping[ObjectKey, Any]
"""Objects by key, None for one that is gone."""


class LastGood:
    """The store; an async context manager. `source` names a table, e.g. `hub/exportedservices`."""

    def __init__(self, path: Path, *, wall: Callable[[], float] = time.time) -> None:
        self._path = path
        self._wall = wall
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lastgood")
        self._database: sqlite3.Connection | None = None
        self._failing = False
        self._owed: set[str] = set()
        """Sources of which more may have changed than was written."""

    async def __aenter__(self) -> Self:
        try:
            await self._do(self._connect)
        except (sqlite3.Error, OSError) as error:
            log.warning("last-good store unusable", path=str(self._path), error=str(error))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._do(self._close)
        self._thread.shutdown()

    async def load(self, source: str, kind: Kind[Any]) -> tuple[float, dict[ObjectKey, Any]] | None:
        """When the source's rows were last confirmed (wall clock) and the rows; None where there are none."""
        try:
            found: tuple[float, dict[ObjectKey, Any]] | None = await self._do(self._read, source, kind)
        except sqlite3.Error as error:
            log.warning("last-good store unreadable", source=source, error=str(error))
            return None
        return found

    async def newest(self, prefix: str) -> int:
        """The highest resource version of all rows of the sources with that prefix; 0 where there is none."""
        try:
            found: int = await self._do(self._newest, prefix)
        except sqlite3.Error as error:
            log.warning("last-good store unreadable", source=prefix, error=str(error))
            return 0
        return found

    async def follow(self, source: str, table: Table[ObjectKey, Any]) -> None:
        """Keeps the source's rows on disk equal to the table, in batches, until cancelled.

        Rows that are stale (this store's own, perhaps) are not written: what is on disk is as good.
        """
        self._owed.add(source)
        fresh: set[ObjectKey] = set()
        table.observe(lambda key, _old, _new: fresh.add(key))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._confirm(source, table), name=f"lastgood-confirm-{source}")
            try:
                async for keys in table.changes():
                    fresh.clear()
                    await self._keep(source, table, keys)
                    del keys  # the first are all, and it may be long until the next
                    await asyncio.sleep(BATCH_SECONDS)
            except asyncio.CancelledError:  # an orderly end: the next start knows what we knew
                if fresh and table.synced:
                    await self._keep(source, table, frozenset(fresh))
                raise

    async def _confirm(self, source: str, table: Table[ObjectKey, Any]) -> None:
        """Moves the time the rows were last known to be true, where nothing changes for long."""
        while True:
            await asyncio.sleep(CONFIRM_SECONDS)
            if table.synced:
                await self._keep(source, table, frozenset())

    async def _keep(self, source: str, table: Table[ObjectKey, Any], keys: frozenset[ObjectKey]) -> None:
        """Writes these rows, or all where some are owed."""
        if table.stale:
            self._owed.add(source)
            return
        everything = source in self._owed
        self._owed.discard(source)
        rows = dict(table.items()) if everything else {key: table.get(key) for key in keys}
        try:
            await self._do(self._write, source, rows, everything)
        except sqlite3.Error as error:
            self._owed.add(source)
            if not self._failing:
                log.warning("last-good store unwritable", source=source, error=str(error))
            self._failing = True
        else:
            if self._failing:
                log.info("last-good store written again")
            self._failing = False

    async def _do(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _connect(self) -> None:
        database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            database.executescript(SCHEMA)
        except sqlite3.OperationalError:  # a full disk, for one: what is in the file may still be good
            database.close()
            raise
        except sqlite3.DatabaseError:
            # A damaged file is worth nothing: begin anew beside it.
            database.close()
            self._path.replace(self._path.with_suffix(".damaged"))
            database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            database.executescript(SCHEMA)
        self._database = database

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _read(self, source: str, kind: Kind[Any]) -> tuple[float, dict[ObjectKey, Any]] | None:
        if self._database is None:
            return None
        saved = self._database.execute("SELECT saved FROM sources WHERE source = ?", (source,)).fetchone()
        if saved is None:
            return None
        raw = self._database.execute("SELECT namespace, name, object FROM rows WHERE source = ?", (source,))
        rows: dict[ObjectKey, Any] = {}
        for namespace, name, blob in raw:
            try:
                rows[ObjectKey(namespace, name)] = kind.decode(blob)
            except msgspec.DecodeError as error:
                log.warning(
                    "last-good row unreadable", source=source, key=f"{namespace}/{name}", error=str(error)
                )
        return saved[0], rows

    def _newest(self, prefix: str) -> int:
        if self._database is None:
            return 0
        version = "CAST(json_extract(CAST(object AS TEXT), '$.metadata.resourceVersion') AS INTEGER)"
        query = f"SELECT max({version}) FROM rows WHERE source GLOB ? AND json_valid(CAST(object AS TEXT))"
        return int(self._database.execute(query, (f"{prefix}*",)).fetchone()[0] or 0)

    def _write(self, source: str, rows: Changes, everything: bool) -> None:
        database = self._database
        if database is None:
            return
        database.execute("BEGIN")
        try:
            if everything:
                database.execute("DELETE FROM rows WHERE source = ?", (source,))
            database.executemany(
                "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)",
                ((source, *key, _plain(row)) for key, row in rows.items() if row is not None),
            )
            database.executemany(
                "DELETE FROM rows WHERE source = ? AND namespace = ? AND name = ?",
                ((source, *key) for key, row in rows.items() if row is None),
            )
            database.execute("INSERT OR REPLACE INTO sources VALUES (?, ?)", (source, self._wall()))
            database.execute("COMMIT")
        except BaseException:
            database.execute("ROLLBACK")
            raise


def _plain(row: Any) -> bytes:
    return inflate(row) if isinstance(row, bytes) else msgspec.json.encode(row)


async def seed(
    store: LastGood,
    source: str,
    kind: Kind[Any],
    table: Table[ObjectKey, Any],
    writer: Writer[ObjectKey, Any],
) -> bool:
    """Fills a table that its source has not filled yet with the last good rows, marked stale since then."""
    found = await store.load(source, kind)
    if found is None or writer.synced:
        return False
    saved, rows = found
    writer.stale(saved)
    writer.replace(rows)
    log.warning(
        "serving last-good rows", source=source, rows=len(table), age_seconds=round(time.time() - saved)
    )
    return True
