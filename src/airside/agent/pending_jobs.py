"""The jobs that wait for a thread: archives and lists of images, each kind in its order."""

from collections import OrderedDict
from collections.abc import Container
from pathlib import Path

from airside.archive.formats.image_list import is_list_name
from airside.importer.importer import Job


class PendingJobs:
    """One job for each path; a newer one replaces it. Each call takes as long for any number."""

    def __init__(self) -> None:
        self._archives: OrderedDict[Path, Job] = OrderedDict()
        self._lists: OrderedDict[Path, Job] = OrderedDict()

    def __len__(self) -> int:
        return len(self._archives) + len(self._lists)

    def __contains__(self, path: Path) -> bool:
        return path in self._archives or path in self._lists

    def add(self, job: Job) -> None:
        """Adds a job. One that only compares checksums replaces none: the other does so too."""
        if job.for_checksums and job.path in self:
            return
        self._of(job.path)[job.path] = job

    def pop(self, path: Path) -> Job | None:
        return self._of(path).pop(path, None)

    def next_archive(self, running: Container[Path]) -> Path | None:
        """Returns the first archive whose path is not among the few running ones."""
        return next((path for path in self._archives if path not in running), None)

    def next_list(self, running: Container[Path]) -> Path | None:
        return next((path for path in self._lists if path not in running), None)

    def _of(self, path: Path) -> OrderedDict[Path, Job]:
        return self._lists if is_list_name(path.name) else self._archives
