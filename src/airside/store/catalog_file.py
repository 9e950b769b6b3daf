"""The catalog's file at a start: trusted, examined, or set aside as damaged. Blocking.

After a clean stop the file's sha256 is noted in `DATA/catalog.clean`: the next start compares it,
and so notices every flipped bit. Without the note the file is examined (`catalog.soundness`). A
damaged or absent catalog of a store that has blobs is a loss of records: the file moves to
`DATA/damaged`, and the newest good copy takes its place, or the start rebuilds it.
"""

import json
import logging
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from airside.catalog.soundness import examine_catalog
from airside.store.backups import Backups
from airside.store.filesystem import file_sha256, sync_directory, translated, write_durably
from airside.store.index_seal import index_generation
from airside.store.local import LocalStore
from airside.store.lost_records import LostRecords, parse_lost

log = logging.getLogger("airside.node")

CATALOG = "catalog.db"
_NOTE = "catalog.clean"
_PENDING = "recovery.json"
_SIDE_FILES = ("-wal", "-shm")


class CatalogFile:
    """The catalog's file of one data directory; nobody has it open."""

    def __init__(self, data: Path, store: LocalStore, backups: Backups) -> None:
        self._data, self._store, self._backups = data, store, backups
        self.path = data / CATALOG

    def prepare(self, now: float) -> LostRecords | None:
        """Makes the file one that can be opened. Returns the loss that is not yet recovered.

        Raises StoreError.
        """
        with translated("cannot examine", self.path):
            pending = parse_lost(_text(self._data / _PENDING))
            reason = self._damage()
            if not reason:
                return pending
            lost = LostRecords(now, reason if pending is None else pending.reason)
            return self._set_aside(lost)

    def begin(self, lost: LostRecords) -> None:
        """Notes a loss that the records show: a recovery that is killed goes on at the next start.

        Raises StoreError.
        """
        with translated("cannot note a loss of records in", self._data):
            self._write_pending(lost)

    def done(self) -> None:
        """Notes that the loss is recovered and recorded in the catalog."""
        with translated("cannot delete", self._data / _PENDING):
            (self._data / _PENDING).unlink(missing_ok=True)
            sync_directory(self._data)

    def note_clean(self) -> None:
        """Notes the bytes of the closed catalog. Nothing is noted if its log is still there."""
        with suppress(OSError):
            if not self._log_bytes():
                text = json.dumps({"sha256": file_sha256(self.path)})
                write_durably(self._data / _NOTE, text.encode())

    def _damage(self) -> str:
        """Returns why the file must be set aside; empty if it need not."""
        noted = self._take_note()
        if not self.path.exists():
            return "catalog.db is absent" if self._has_content() else ""
        if noted:
            if file_sha256(self.path) != noted:
                return "the bytes of catalog.db changed after the last clean stop"
            if self._log_bytes():
                log.warning("%s-wal is of no use after a clean stop: set aside", self.path)
                self._move([self._data / f"{CATALOG}-wal"])
            return ""
        return examine_catalog(self.path).reason

    def _take_note(self) -> str:
        """Returns the sha256 of the last clean stop, and deletes the note; empty without one."""
        text = _text(self._data / _NOTE)
        if text is None:
            return ""
        (self._data / _NOTE).unlink()
        sync_directory(self._data)
        with suppress(ValueError, TypeError, KeyError):
            return str(json.loads(text)["sha256"])
        return ""

    def _has_content(self) -> bool:
        return next(iter(self._store.digests()), None) is not None

    def _log_bytes(self) -> int:
        path = self._data / f"{CATALOG}-wal"
        return path.stat().st_size if path.exists() else 0

    # damaged files

    def _set_aside(self, lost: LostRecords) -> LostRecords:
        """Moves the damaged files, and puts the newest copy in their place if that is the best."""
        self._write_pending(lost)
        log.error("records were lost: %s; rebuilding the catalog", lost.reason)
        moved = self._move([self.path, *(self._data / f"{CATALOG}{s}" for s in _SIDE_FILES)])
        (self._data / "catalog.commits").unlink(missing_ok=True)
        raw = self._store.read_index()
        if raw is not None and index_generation(raw) < 0:
            moved += self._move([self._store.root / "index.json"])
        lost = replace(lost, set_aside=tuple(moved))
        copy = self._backups.newest()
        if copy is not None and copy.is_catalog and copy.generation >= index_generation(raw):
            lost = replace(lost, restored_from=str(copy))
            self._write_pending(lost)
            self._backups.place_catalog(copy, self.path)
        else:
            self._write_pending(lost)
        return lost

    def _move(self, paths: list[Path]) -> list[str]:
        directory = self._data / "damaged"
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        moved = []
        for path in paths:
            if path.exists():
                directory.mkdir(mode=0o700, exist_ok=True)
                target = directory / f"{path.name}-{stamp}"
                path.replace(target)
                sync_directory(path.parent)
                moved.append(str(target))
        if moved:
            sync_directory(directory)
            sync_directory(self._data)
        return moved

    def _write_pending(self, lost: LostRecords) -> None:
        write_durably(self._data / _PENDING, lost.to_text().encode())


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
