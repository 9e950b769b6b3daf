"""Measures one import: what it read, how it ended, how long it took and on what.

The stages of each import are a line of the debug log: where each began after the start of the
import and how long it took, in milliseconds.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from airside.archive.sources import Progress
from airside.core.errors import AirsideError, ArchiveChangedError, NotFoundError, StoppedError
from airside.core.timeline import Timeline, recorded
from airside.importer.importer import Outcome
from airside.ports.measures import ImportMeter

log = logging.getLogger("airside.import")

_SHOWN_IMAGES = 20


class ImportMeasure:
    """One running import. `progress` passes on what it notes."""

    def __init__(
        self, path: Path, meter: ImportMeter, progress: Progress, timeline: Timeline
    ) -> None:
        self._timeline = timeline
        self._path, self._meter, self._progress = path, meter, progress
        self._started, self._done_bytes = time.monotonic(), 0

    def progress(self, done_bytes: int, total_bytes: int) -> None:
        self._done_bytes = done_bytes
        self._progress(done_bytes, total_bytes)

    def ended(self, outcome: Outcome) -> Outcome:
        """Count the import by its outcome, and return that."""
        more = {"airside.images": ", ".join(outcome.images[:_SHOWN_IMAGES])}
        self.count(outcome.state, outcome.code, outcome.reason, more)
        return outcome

    def count(
        self, state: str, code: str, reason: str, more: Mapping[str, str | int] | None = None
    ) -> None:
        seconds = time.monotonic() - self._started
        self._meter.imported(state, code, self._done_bytes, seconds)
        log.debug("%s: %s after %.0f ms: %s", self._path, state, seconds * 1000, self._timeline)
        attributes: dict[str, str | int] = {
            "airside.path": str(self._path),
            "airside.state": state,
            "airside.read_bytes": self._done_bytes,
            **({"error.type": code} if code else {}),
            **{f"airside.{k}_milliseconds": v for k, v in self._timeline.milliseconds.items()},
            **(more or {}),
        }
        self._meter.finished("import", seconds, attributes, reason if code else "")


@contextmanager
def measured(path: Path, meter: ImportMeter, progress: Progress) -> Iterator[ImportMeasure]:
    """Measure an import. One that raises counts as failed, unless it was stopped or its file went.

    The caller counts one that ends.
    """
    with recorded() as timeline:
        measure = ImportMeasure(path, meter, progress, timeline)
        try:
            yield measure
        except (StoppedError, ArchiveChangedError, NotFoundError):
            raise
        except AirsideError as exc:
            is_unreadable = exc.code == "archive_unreadable"
            measure.count("unreadable" if is_unreadable else "failed", exc.code, exc.message)
            raise
