"""The results of a scrub: what is wrong with a blob, what was done, and when a pass is due. Pure.

A blob is wrong if its bytes do not hash to its digest, if its size differs, if its file is missing,
or if the disk cannot read it. A wrong file is moved to quarantine and replaced by good bytes from
elsewhere.
"""

import errno
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Literal

from airside.oci.digest import Digest

Problem = Literal[
    "", "wrong-bytes", "wrong-size", "missing", "unreadable", "wrong-record", "orphan"
]
Result = Literal["repaired", "quarantined", "missing", "lost", "wrong", "orphan", "removed"]
"""`quarantined`, `missing`: no repair was asked for. `lost`: no good bytes were found.

`wrong`: a record of the catalog that was not repaired. `orphan`, `removed`: a file that nothing
needs, reported or deleted.
"""
Origin = Literal["", "catalog", "store", "archive", "runtime"]

FINE: frozenset[Result] = frozenset({"repaired", "orphan", "removed"})
_MEDIA_ERRORS = {errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENODATA, errno.EILSEQ}
"""Errors of one place on a disk; others are of the file system, of a permission, or of us."""


@dataclass(frozen=True, slots=True)
class BlobFile:
    """The file of a blob as it was read. `error`: the errno of a failed read.

    `key` differs if another file has the same name by now; empty if there is no file.
    """

    key: str = ""
    size_bytes: int = 0
    digest: Digest | None = None
    error: int = 0


def is_media_error(error: int | None) -> bool:
    """Returns True if a read failed for this file alone, not for the whole file system."""
    return error in _MEDIA_ERRORS


def judge(digest: Digest, size_bytes: int, seen: BlobFile) -> Problem:
    """Returns what is wrong with a blob; empty if nothing is."""
    if seen.error:
        return "unreadable"
    if not seen.key:
        return "missing"
    if seen.size_bytes != size_bytes:
        return "wrong-size"
    return "" if seen.digest == digest else "wrong-bytes"


def state_of(problem: Problem) -> str:
    """Returns the blob's state in the catalog. Wrong bytes may have another hard link elsewhere."""
    return "lost" if problem == "missing" else "quarantined"


@dataclass(frozen=True, slots=True)
class RuntimeFile:
    """A runtime's own file of a repaired blob.

    `state`: `right`, `replaced`, `absent` or `wrong`.
    """

    runtime: str
    state: str


@dataclass(frozen=True, slots=True)
class BlobFinding:
    """A blob that is or was wrong. `found`: the digest of its bytes, where they were hashed.

    `origin` and `source` say where the good bytes came from: the kind of place, and the path of the
    archive or the socket of the runtime.
    """

    digest: Digest
    size_bytes: int
    problem: Problem
    result: Result
    reason: str = ""
    found: str = ""
    images: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    origin: Origin = ""
    source: str = ""
    runtimes: tuple[RuntimeFile, ...] = ()

    @property
    def is_fine(self) -> bool:
        return self.result in FINE

    def repaired(
        self, origin: Origin, source: str, runtimes: Iterable[RuntimeFile] = ()
    ) -> "BlobFinding":
        return replace(
            self, result="repaired", origin=origin, source=source, runtimes=tuple(runtimes)
        )

    @property
    def advice(self) -> str:
        """The action that a person must take; empty if none."""
        if self.result == "lost":
            where = f" ({', '.join(self.archives)})" if self.archives else ""
            return (
                f"no good copy was found: drop an archive that contains it again{where}, or "
                "push the image again"
            )
        if self.result in {"quarantined", "missing", "wrong"}:
            return "airside verify --repair restores it from its archive or from containerd"
        if any(file.state == "wrong" for file in self.runtimes):
            return (
                "containerd's own copy is wrong too and could not be replaced: remove the image "
                "from containerd (crictl rmi); it is published again"
            )
        return ""


def reason_of(problem: Problem, seen: BlobFile, text: str = "") -> str:
    """Returns what is wrong, in words. `text` is the operating system's message for an error."""
    return {
        "": "",
        "wrong-bytes": f"its bytes hash to {seen.digest}",
        "wrong-size": f"it has {seen.size_bytes} bytes",
        "missing": "its file is missing",
        "unreadable": f"the disk cannot read it: {text}",
        "wrong-record": "the catalog's copy of it has other bytes",
        "orphan": "nothing in the catalog needs it",
    }[problem]


@dataclass(frozen=True, slots=True)
class ScrubPass:
    """One pass over the store: ended, or still to be continued. Times in seconds."""

    started_at: float
    by: str = "agent"
    ended_at: float | None = None
    blobs: int = 0
    size_bytes: int = 0
    wrong: int = 0
    repaired: int = 0
    lost: int = 0

    def counted(self, blobs: int, size_bytes: int, items: Iterable[BlobFinding]) -> "ScrubPass":
        """Returns the pass with so many more blobs, bytes and findings counted."""
        counted = [item for item in items if item.problem != "orphan"]
        return replace(
            self,
            blobs=self.blobs + blobs,
            size_bytes=self.size_bytes + size_bytes,
            wrong=self.wrong + len(counted),
            repaired=self.repaired + sum(item.result == "repaired" for item in counted),
            lost=self.lost + sum(item.result == "lost" for item in counted),
        )

    def to_text(self) -> str:
        return json.dumps(asdict(self))


def parse_pass(text: str | None) -> ScrubPass | None:
    """Returns the pass that `to_text` wrote; None if there is none or it cannot be read."""
    try:
        return ScrubPass(**json.loads(text)) if text else None
    except (ValueError, TypeError):
        return None


def next_pass(
    last: ScrubPass | None, oldest_verified_at: float | None, now: float, period_seconds: float
) -> ScrubPass | None:
    """Returns the pass that is due: one to continue, a new one, or None.

    A new pass is due a whole period after the least recently verified blob was verified. A time in
    the future means that the clock was wrong.
    """
    if not period_seconds or oldest_verified_at is None:
        return None
    if last is not None and last.ended_at is None and last.by == "agent":
        return last if last.started_at <= now else replace(last, started_at=now)
    if (
        last is not None
        and last.ended_at
        and last.started_at <= now < last.ended_at + period_seconds
    ):
        return None
    is_due = oldest_verified_at <= now - period_seconds or oldest_verified_at > now
    return ScrubPass(now) if is_due else None


@dataclass(slots=True)
class Pace:
    """A limit on the rate of reading. Time in which nothing was read is not made up for.

    `now` is of a monotonic clock, in seconds.
    """

    bytes_per_second: int
    _free_at: float = 0.0

    def wait_seconds(self, count: int, now: float) -> float:
        """Returns the seconds to wait after reading `count` bytes."""
        if not self.bytes_per_second:
            return 0.0
        self._free_at = max(self._free_at, now) + count / self.bytes_per_second
        return self._free_at - now
