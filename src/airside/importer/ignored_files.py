"""Records the files beside archives that are none: checksums, signatures, notes. Blocking.

What always holds: such a file is `ignored`, never a failure; its kind is the reason that
`airside archives --all` shows, and it is not read again until it changes.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

from airside.archive.checksum_files import may_be_list, read_checksums
from airside.archive.companion_file import companion_at
from airside.archive.directory import stat_key
from airside.catalog.catalog import Catalog
from airside.catalog.model import IGNORED, NOTHING_READ
from airside.core.errors import AirsideError
from airside.importer.importer import Job, Outcome

_MOST_NAMED = 1000


class IgnoredFiles:
    """Tells companion files from archives; thread-safe."""

    def __init__(self, catalog: Catalog, clock: Callable[[], float]) -> None:
        self._catalog, self._clock = catalog, clock

    def take(self, job: Job) -> Outcome | None:
        """Record a companion file. Returns None, and does nothing, for what may be an archive.

        Raises StoreError. What can't be read is left to the importer, which tells why.
        """
        if job.is_repeated:  # the reason might show what another file has
            return None
        try:
            key = str(stat_key(job.path, job.beneath))
            kind = companion_at(job.path, job.beneath)
        except (OSError, AirsideError):
            return None
        if not kind:
            return None
        self._record(job, key, kind)
        return Outcome(job.path, IGNORED, reason=kind, named=_named(job))

    def _record(self, job: Job, key: str, kind: str) -> None:
        self._catalog.source_states.set_kind(job.source_id, "archive")
        result = replace(
            NOTHING_READ, source_id=job.source_id, state=IGNORED, reason=kind, stat_key=key
        )
        self._catalog.imports.record(result, self._clock())


def _named(job: Job) -> tuple[Path, ...]:
    """Returns the paths beside a list of checksums that it is about."""
    name = job.path.name
    if not may_be_list(name):
        return ()
    names = (each.file_name(name) for each in read_checksums(job.path, job.beneath))
    named = dict.fromkeys(n for n in names if n not in {"", ".", "..", name})
    return tuple(job.path.with_name(n) for n in islice(named, _MOST_NAMED))
