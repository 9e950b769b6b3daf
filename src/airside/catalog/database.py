"""The catalog's database file: connections, migrations, transactions, translated errors."""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airside.catalog.changes import take_changes, watch_changes
from airside.catalog.commit_mark import CommitMark
from airside.catalog.schema import MIGRATIONS, VERSION
from airside.core.errors import NotFoundError, StorageFullError, StoreCorruptError, StoreError

_BUSY_SECONDS = 10.0
_REBUILD = "restart the agent: it sets a damaged catalog aside and rebuilds it (airside status)"


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turns sqlite3.Error into StoreError, StorageFullError or StoreCorruptError."""
    try:
        yield
    except sqlite3.Error as exc:
        code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
        kinds = {
            sqlite3.SQLITE_FULL: StorageFullError,
            sqlite3.SQLITE_CORRUPT: StoreCorruptError,
            sqlite3.SQLITE_NOTADB: StoreCorruptError,
        }
        kind = kinds.get(code, StoreError)
        hint = _REBUILD if kind is StoreCorruptError else None
        raise kind(f"the catalog failed: {doing}: {exc}", hint=hint) from exc


def _create_private(path: Path) -> None:
    """Creates an empty database that only this user reads; SQLite gives its WAL the same mode."""
    with contextlib.suppress(OSError):  # SQLite reports it
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


class Writer:
    """The only write connection. Thread-safe: its lock is held for each transaction."""

    def __init__(self, path: Path) -> None:
        self.lock = threading.RLock()
        _create_private(path)
        with translated(f"cannot open {path}"):
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.row_factory = sqlite3.Row
            try:
                self._prepare(path)
            except BaseException:
                self._connection.close()
                raise
        self._mark = CommitMark(path)
        self._commits = self._recorded_commits()
        self._marked = self._mark.read()
        self.lost_commits = max(0, self._marked - self._commits)
        """Transactions that an earlier process committed and that the file lacks."""

    def _recorded_commits(self) -> int:
        with translated("read"):
            row = self._connection.execute(
                "SELECT value FROM meta WHERE key = 'commits'"
            ).fetchone()
        return int(row["value"]) if row is not None else 0

    def _prepare(self, path: Path) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            self._connection.execute(f"PRAGMA {pragma}").fetchall()
        self._migrate(path)

    def _migrate(self, path: Path) -> None:
        """Migrates the tables to VERSION; backs an older catalog up beside itself first."""
        found = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        if found > VERSION:
            raise newer_version(path, found)
        if 0 < found < VERSION:
            backup = path.with_name(f"catalog-v{found}.db")
            _create_private(backup)
            with sqlite3.connect(backup) as copy:
                self._connection.backup(copy)
        for number in range(found, VERSION):
            script = (
                f"BEGIN IMMEDIATE; {MIGRATIONS[number]} PRAGMA user_version={number + 1}; COMMIT;"
            )
            self._connection.executescript(script)

    @contextlib.contextmanager
    def transaction(self, doing: str) -> Iterator[sqlite3.Connection]:
        """Opens a write transaction.

        It is committed and durable at the end, and rolled back by any exception.
        """
        with self.lock, translated(doing):
            self._connection.execute("BEGIN IMMEDIATE")
            number, before = self._commits, self._connection.total_changes
            try:
                yield self._connection
                if self._connection.total_changes != before:
                    number += 1
                    self._connection.execute(
                        "INSERT OR REPLACE INTO meta VALUES ('commits', ?)", (str(number),)
                    )
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            if number != self._commits:
                self._commits = number
                if number > self._marked:  # else a loss is not yet noted elsewhere
                    self._mark.write(number)

    def take_loss(self) -> None:
        """Lets the mark follow the file's own number: a loss is noted elsewhere by now."""
        with self.lock:
            self._marked = 0
            self._mark.write(self._commits)

    def watch_changes(self) -> None:
        """Records which repositories change from now on."""
        with self.lock, translated("watch changes"):
            watch_changes(self._connection)

    def take_changes(self) -> set[int]:
        """Returns the ids of the repositories that changed since the last call."""
        with self.lock, translated("look for changes"):
            return take_changes(self._connection)

    def close(self) -> None:
        with self.lock, translated("close"):
            self._connection.close()
        self._mark.close()


def newer_version(path: Path, found: int) -> StoreError:
    """Returns the refusal of a catalog that a newer Airside has written."""
    return StoreError(
        f"the catalog {path} has version {found}, this Airside supports up to {VERSION}: "
        "install a newer Airside",
        found=found,
        expected=VERSION,
        hint="docs/upgrade.md says how to go back to an earlier version",
    )


class Readers:
    """The read connections, one for each thread."""

    def __init__(self, path: Path, *, writable_directory: bool = True) -> None:
        self._path, self._writable = path, writable_directory
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._lock = threading.Lock()

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """Runs a query in this thread's connection. Raises StoreError."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        with translated("read"):
            if connection is None:
                connection = self._open()
                self._local.connection = connection
            return connection.execute(sql, values).fetchall()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Opens a separate connection that reads one snapshot. Raises StoreError."""
        with translated("read"):
            connection = self._open()
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                self._forget(connection)

    @contextlib.contextmanager
    def copy(self) -> Iterator[sqlite3.Connection]:
        """Opens a private copy of the catalog, to change at will. Raises StoreError."""
        with translated("copy"):
            copy, connection = sqlite3.connect("", isolation_level=None), self._open()
            try:
                connection.backup(copy)
                copy.row_factory = sqlite3.Row
                copy.execute("PRAGMA foreign_keys=ON")
                yield copy
            finally:
                self._forget(connection)
                copy.close()

    def copy_to(self, path: Path) -> None:
        """Writes a compact copy of the catalog to a new file. Not synced. Raises StoreError."""
        with translated(f"copy the catalog to {path}"):
            connection = self._open()
            try:
                connection.execute("VACUUM INTO ?", (str(path),))
            finally:
                self._forget(connection)

    def _forget(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            self._all.remove(connection)
        connection.close()

    def _open(self) -> sqlite3.Connection:
        if not self._path.exists():
            raise NotFoundError(f"there is no catalog at {self._path}: has the agent run yet?")
        # mode=ro needs the -wal file; immutable=1 ignores it
        wal = self._path.with_name(self._path.name + "-wal").exists()
        mode = "mode=ro" if wal or self._writable else "immutable=1"
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?{mode}",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.row_factory = sqlite3.Row
        with self._lock:
            self._all.append(connection)
        return connection

    def close(self) -> None:
        with self._lock:
            for connection in self._all:
                connection.close()
            self._all.clear()
