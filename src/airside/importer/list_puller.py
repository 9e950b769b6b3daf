"""Detects and reads lists of images, and lets runtimes pull them. Blocking.

A runtime pulls through the port `Puller`, one image after the other, and skips those that it has. A
failure concerns one line only. A registry's refusal is remembered for `refused_seconds`, so that
its missing images are not requested at each retry. Left to the caller: back-off after other
failures, and the record of earlier pulls.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from airside.archive.beneath import ANYWHERE, Beneath
from airside.archive.formats.companions import HEAD_BYTES, companion_of
from airside.archive.formats.image_list import (
    Entry,
    ImageList,
    is_list_name,
    is_tar,
    parse_list,
)
from airside.archive.open_file import open_archive, translated_reading
from airside.archive.sources import Progress
from airside.archive.stat_key import StatKey
from airside.archive.stop import Stop
from airside.archive.tar.compression import Compression, detect_compression
from airside.core.errors import (
    ArchiveChangedError,
    ContainerdError,
    InputError,
    PullRefusedError,
    StoppedError,
)
from airside.core.problem import Problem
from airside.core.settings import Limits, Settings
from airside.ports.content import Puller

log = logging.getLogger("airside.import")


@dataclass(frozen=True, slots=True)
class ListFile:
    """A parsed list and its file's stat key. `error`: the reason why it can't be used."""

    key: StatKey
    images: ImageList
    error: InputError | None = None


def is_list_file(path: Path, beneath: Beneath = ANYWHERE) -> bool:
    """Returns True if the file is a list, by name and content.

    Raises LinkRefusedError, ArchiveUnreadableError, NotFoundError, UnavailableError, ArchiveError.
    """
    if not is_list_name(path.name) or beneath.is_directory(path):
        return False
    with open_archive(path, beneath) as file, translated_reading(path):
        head = os.pread(file.fileno(), HEAD_BYTES, 0)
    if detect_compression(head) is not Compression.NONE or is_tar(head):
        return False
    return not companion_of(path.name, head)


def load_list(path: Path, limits: Limits, beneath: Beneath = ANYWHERE) -> ListFile:
    """Read a list. Raises ArchiveChangedError, and as `is_list_file`."""
    with open_archive(path, beneath) as file, translated_reading(path):
        key = StatKey.of(os.fstat(file.fileno()))
        data = _read(file, limits.list_bytes + 1)
        if StatKey.of(os.fstat(file.fileno())) != key:
            raise ArchiveChangedError(f"{path} changed while it was read", path=path)
    try:
        return ListFile(key, parse_list(data, limits))
    except InputError as exc:
        return ListFile(key, ImageList((), (Problem(exc.message, code=exc.code),), ()), exc)


def _read(file: BinaryIO, count: int) -> bytes:
    data = b""
    while len(data) < count and (chunk := file.read(count - len(data))):
        data += chunk
    return data


@dataclass(slots=True)
class Pulled:
    """The result of pulling a list. `done`: (name, runtime) of all pulled images.

    `again_seconds`: the least delay before a retry; None: nothing failed.
    """

    done: set[tuple[str, str]]
    problems: list[Problem] = field(default_factory=list)
    again_seconds: float | None = None

    def failed(self, entry: Entry, reason: str, again_seconds: float) -> None:
        """Record the failure of a line; the shortest delay counts."""
        self.problems.append(Problem(f"line {entry.line}: {reason}", entry.name, code="containerd"))
        before = self.again_seconds
        self.again_seconds = again_seconds if before is None else min(before, again_seconds)


@dataclass(frozen=True, slots=True)
class _Failure:
    """The reason why a pull failed. `is_lost`: this runtime can't pull any other image either."""

    reason: str
    again_seconds: float = 0.0
    is_lost: bool = False


@dataclass(frozen=True, slots=True)
class _Refusal:
    until: float
    reason: str


class Pulling:
    """Pulls lists; thread-safe, as its pullers are."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._refused_seconds, self._clock = settings.refused_seconds, clock
        self._refusals: dict[tuple[str, str], _Refusal] = {}

    def forget(self, names: Iterable[str]) -> None:
        """Forget the refusals of these images, so that they are requested again."""
        wanted = frozenset(names)
        for key in [key for key in tuple(self._refusals) if key[0] in wanted]:
            self._refusals.pop(key, None)

    def pull(
        self,
        listed: ListFile,
        pullers: Sequence[Puller],
        done: Iterable[tuple[str, str]],
        *,
        stop: Stop,
        progress: Progress,
    ) -> Pulled:
        """Let each runtime pull the images that are not `done`. Raises StoppedError."""
        pulled = Pulled(set(done))
        lost: dict[str, _Failure] = {}
        for entry in listed.images.entries:
            for puller in pullers:
                if stop():
                    raise StoppedError("pulling the list was stopped")
                runtime = puller.runtime
                if (entry.name, runtime) in pulled.done:
                    continue
                failure = lost.get(runtime) or self._try(entry.name, puller, stop)
                if failure is None:
                    pulled.done.add((entry.name, runtime))
                    continue
                if failure.is_lost:
                    lost[runtime] = failure
                where = f"{runtime}: " if len(pullers) > 1 else ""
                pulled.failed(entry, where + failure.reason, failure.again_seconds)
            progress(entry.end, listed.key.size_bytes)
        return pulled

    def _try(self, name: str, puller: Puller, stop: Stop) -> _Failure | None:
        key, now = (name, puller.runtime), self._clock()
        refusal = self._refusals.get(key)
        if refusal is not None and now < refusal.until:
            return _Failure(refusal.reason, refusal.until - now)
        self._refusals.pop(key, None)
        try:
            _pull(name, puller, stop)
        except PullRefusedError as exc:
            self._refusals[key] = _Refusal(now + self._refused_seconds, exc.message)
            return _Failure(exc.message, self._refused_seconds)
        except ContainerdError as exc:
            return _Failure(exc.message, is_lost=exc.is_away and not puller.is_available)
        return None


def _pull(name: str, puller: Puller, stop: Stop) -> None:
    if puller.has(name, stop=stop):
        return
    started = time.monotonic()
    image_id = puller.pull(name, stop=stop)
    log.info("%s: pulled in %.2f s, image ID %s", name, time.monotonic() - started, image_id)
