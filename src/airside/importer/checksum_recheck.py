"""Compares an archive that was imported with a list of checksums that came afterwards. Blocking."""

import time
from pathlib import Path

from airside.archive.checksum_files import compare, find_listed
from airside.archive.directory import stat_key
from airside.archive.formats.parts import part_of
from airside.archive.stop import Stop
from airside.catalog.catalog import Catalog
from airside.core.errors import ArchiveError, ChecksumMismatchError
from airside.importer.importer import Importer, Job, Outcome

UNCHANGED = "unchanged"
"""The state of an outcome that changed nothing."""
CHECKED = ("imported", "partial", "rejected")
"""States of archives that a list of checksums may change."""
_STAYS = "the images that were imported from it before stay"


class ChecksumRecheck:
    """Checks archives again; thread-safe."""

    def __init__(self, catalog: Catalog, importer: Importer) -> None:
        self._catalog, self._importer = catalog, importer

    def run(self, job: Job, stop: Stop) -> Outcome | None:
        """Compare an unchanged archive with the lists that its notes do not name yet.

        A wrong one is rejected; its images stay. Returns None if it must be imported: it changed,
        or was not imported. Raises StoppedError, StoreError, and as `compare`.
        """
        started, key = time.monotonic(), _key(job)
        rows = [row for row in self._catalog.sources(path=str(job.path)) if row.id == job.source_id]
        if not rows or rows[0].state not in ("imported", "partial") or rows[0].stat_key != key:
            return None
        listed = tuple(
            each for each in find_listed(job.path, job.beneath) if each.note() not in rows[0].notes
        )
        try:
            compare(job.path, job.beneath, listed, stop)
        except ChecksumMismatchError as exc:
            wrong = ChecksumMismatchError(f"{exc.message}; {_STAYS}", **exc.context)
            return self._importer.reject(job, key, wrong, started)
        return Outcome(job.path, UNCHANGED)

    def waiting_for(self, paths: list[Path]) -> list[tuple[int, Path]]:
        """Returns the archives (source id, path) among these that a list may change."""
        wanted = {each for path in paths for each in (path, *_whole(path))}
        rows = [(row.id, Path(row.path)) for row in self._catalog.sources() if row.state in CHECKED]
        return [(found, path) for found, path in rows if {path, *_whole(path)} & wanted]

    def rejected_by(self, lists: list[Path]) -> list[tuple[int, Path]]:
        """Returns the archives (source id, path) that these lists, now deleted, were against."""
        if not lists:
            return []
        said = {(path.parent, f"{path.name!r:.200} lists ") for path in lists}
        rows = [row for row in self._catalog.sources() if row.state == "rejected"]
        return [
            (row.id, Path(row.path))
            for row in rows
            if any(Path(row.path).parent == d and row.reason.startswith(t) for d, t in said)
        ]


def _whole(path: Path) -> tuple[Path, ...]:
    """Returns the path of the archive that a part is of; nothing for a whole file."""
    part = part_of(path.name)
    return (path.with_name(part.whole),) if part else ()


def _key(job: Job) -> str:
    try:
        return str(stat_key(job.path, job.beneath))
    except (OSError, ArchiveError):
        return ""
