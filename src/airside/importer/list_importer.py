"""Imports one list: the runtimes pull its images, and the catalog records the result.

Nothing of a list is stored: its images are containerd's, and stay there when the list is removed.
The catalog records the failures, and the images that each runtime pulled since the file changed
last. Those are not pulled again, so that neither a restart nor a retry restores an image that was
removed since, for instance by kubelet's garbage collection. Blocking; one call is one job in one
thread.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from airside.archive.formats.image_list import LIST
from airside.archive.sources import Progress
from airside.archive.stat_key import StatKey
from airside.archive.stop import Stop
from airside.catalog.catalog import Catalog
from airside.catalog.model import NOTHING_READ, Import
from airside.core.errors import ArchiveChangedError, ArchiveError
from airside.core.problem import Problem, first_code
from airside.core.settings import Settings
from airside.importer.importer import Job, Outcome
from airside.importer.list_puller import ListFile, Pulled, Pulling, load_list
from airside.ports.content import Puller
from airside.ports.runtime_set import RuntimeSet

NO_RUNTIME = (
    "its images are pulled by a container runtime, and none with CRI is connected: it is read "
    "again when one is"
)


class ListImporter:
    """Imports lists; thread-safe."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        runtimes: RuntimeSet,
        clock: Callable[[], float],
    ) -> None:
        self._settings, self._catalog, self._clock = settings, catalog, clock
        self._runtimes = runtimes
        self._pulling = Pulling(settings)
        self._seen: dict[Path, StatKey] = {}

    def available(self) -> list[Puller]:
        """Returns the runtimes that can pull now."""
        return [puller for puller in self._runtimes.pullers() if puller.is_available]

    def behind(self) -> list[tuple[int, Path]]:
        """Returns the lists (source id, path) of which an available runtime lacks an image."""
        runtimes = [puller.runtime for puller in self.available()]
        rows = self._catalog.lists() if runtimes else []
        return [(row.id, Path(row.path)) for row in rows if row.lacks(runtimes)]

    def run(
        self, job: Job, *, stop: Stop, progress: Progress, forget_refusals: bool = False
    ) -> Outcome:
        """Pull the images of a list and record the result.

        `forget_refusals`: pull also images that a registry refused before.
        A bad list is a result, not an error. Raises StoppedError, ArchiveChangedError,
        ArchiveUnreadableError, NotFoundError, UnavailableError, StoreError.
        """
        started = time.monotonic()
        self._catalog.source_states.set_kind(job.source_id, "list")
        listed = self._load(job)
        images = listed.images
        if images.problems and (job.strict or not images.entries):
            return self._refuse(job, listed, started)
        self._remember(job.path, listed, forget_refusals=forget_refusals)
        return self._pull(job, listed, started, stop, progress)

    def _load(self, job: Job) -> ListFile:
        try:
            return load_list(job.path, self._settings.limits, job.beneath)
        except ArchiveError as exc:  # it was a list a moment ago
            raise ArchiveChangedError(
                f"{job.path} changed while it was read: {exc.message}", path=job.path
            ) from exc

    def _remember(self, path: Path, listed: ListFile, *, forget_refusals: bool) -> None:
        """Forget the refusals of a list that changed since the last import."""
        if forget_refusals or self._seen.get(path) != listed.key:
            self._pulling.forget(entry.name for entry in listed.images.entries)
        self._seen[path] = listed.key

    def _pull(
        self, job: Job, listed: ListFile, started: float, stop: Stop, progress: Progress
    ) -> Outcome:
        done = self._catalog.pulled(job.source_id)
        wanted = {entry.name for entry in listed.images.entries}
        done = frozenset((name, runtime) for name, runtime in done if name in wanted)
        pullers = self.available()
        if not pullers and wanted - {name for name, _ in done}:
            return self._wait(job, listed, Pulled(set(done)), started)
        if _lacking(wanted, pullers, done):
            self._catalog.source_states.set_state(job.source_id, "importing", self._clock())
        pulled = self._pulling.pull(listed, pullers, done, stop=stop, progress=progress)
        problems = (*listed.images.problems, *pulled.problems)
        failed = {problem.image for problem in pulled.problems}
        state = "imported" if not problems else "partial" if wanted - failed else "failed"
        return self._record(job, listed, pulled, state, problems, started)

    def _wait(self, job: Job, listed: ListFile, pulled: Pulled, started: float) -> Outcome:
        there = {name for name, _ in pulled.done}
        for entry in listed.images.entries:
            if entry.name not in there:
                pulled.failed(entry, "not pulled yet: no container runtime is connected", 0.0)
        problems = (*listed.images.problems, *pulled.problems)
        return self._record(job, listed, pulled, "waiting", problems, started, NO_RUNTIME)

    def _refuse(self, job: Job, listed: ListFile, started: float) -> Outcome:
        problems = listed.images.problems
        return self._record(job, listed, Pulled(set()), "rejected", problems, started)

    def _record(
        self,
        job: Job,
        listed: ListFile,
        pulled: Pulled,
        state: str,
        problems: tuple[Problem, ...],
        started: float,
        reason: str = "",
    ) -> Outcome:
        reason = reason or (problems[0].reason if problems else "")
        seconds = time.monotonic() - started
        failed = {problem.image for problem in pulled.problems}
        result = replace(
            NOTHING_READ,
            source_id=job.source_id,
            state=state,
            reason=reason,
            stat_key=str(listed.key),
            format=LIST,
            seconds=seconds,
            problems=problems,
            notes=listed.images.notes,
            on_removal=job.on_removal,
            keeps_claims=state == "rejected",
            pulled=_in_order(listed, pulled),
        )
        if not self._is_known(job, result):
            self._catalog.imports.record(result, self._clock())
        names = [entry.name for entry in listed.images.entries]
        there = {name for name, _ in pulled.done} - failed
        return Outcome(
            job.path,
            state,
            images=tuple(name for name in names if name in there),
            problems=problems,
            seconds=seconds,
            reason=reason,
            retry=pulled.again_seconds is not None,
            after_seconds=pulled.again_seconds or 0.0,
            stat_key=str(listed.key),
            code=first_code(problems),
        )

    def _is_known(self, job: Job, result: Import) -> bool:
        """Returns True if the catalog has this waiting state already: it is no event."""
        rows = self._catalog.sources(path=str(job.path)) if result.state == "waiting" else []
        return any(
            (row.id, row.state, row.stat_key, row.reason, row.problems)
            == (job.source_id, result.state, result.stat_key, result.reason, result.problems)
            for row in rows
        )


def _lacking(wanted: set[str], pullers: Sequence[Puller], done: frozenset[tuple[str, str]]) -> bool:
    return any((name, puller.runtime) not in done for name in wanted for puller in pullers)


def _in_order(listed: ListFile, pulled: Pulled) -> tuple[tuple[str, str], ...]:
    """Returns the pulled (name, runtime) pairs in the order of the list."""
    order = {entry.name: number for number, entry in enumerate(listed.images.entries)}
    return tuple(sorted(pulled.done, key=lambda each: (order[each[0]], each[1])))
