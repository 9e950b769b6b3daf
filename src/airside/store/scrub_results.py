"""What re-hashing the store finds, what becomes of it, and when it is due. Pure.

A blob is wrong if its bytes do not hash to its digest, if it has another size, if it is not there,
or if the disk cannot read it. What is wrong is set aside; what is good elsewhere takes its place.
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
"""`quarantined`, `missing`: it was not asked to be repaired. `wrong`: a record of the catalog that
was not. `orphan`, `removed`: a file that nothing needs, told or deleted."""
Origin = Literal["", "catalog", "store", "archive", "runtime"]

FINE: frozenset[Result] = frozenset({"repaired", "orphan", "removed"})
_MEDIA_ERRORS = {errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENODATA, errno.EILSEQ}
"""Errors of one place of a disk; others are of the file system, of a permission, of us."""


@dataclass(frozen=True, slots=True)
class BlobFile:
    """What was seen of a blob's file. `error`: the errno of a read that failed.

    `key` tells one file from another that has its name since; empty where there is none.
    """

    key: str = ""
    size_bytes: int = 0
    digest: Digest | None = None
    error: int = 0


def is_media_error(error: int | None) -> bool:
    """Whether a read failed for one file, not for all."""
    return error in _MEDIA_ERRORS


def judge(digest: Digest, size_bytes: int, seen: BlobFile) -> Problem:
    """What is wrong with a blob; empty if nothing is."""
    if seen.error:
        return "unreadable"
    if not seen.key:
        return "missing"
    if seen.size_bytes != size_bytes:
        return "wrong-size"
    return "" if seen.digest == digest else "wrong-bytes"


def state_of(problem: Problem) -> str:
    """The state in the catalog: wrong bytes may be elsewhere too, by hard link."""
    return "lost" if problem == "missing" else "quarantined"


@dataclass(frozen=True, slots=True)
class RuntimeFile:
    """A container runtime's own file of a repaired blob: `right`, `replaced`, `absent`, `wrong`."""

    runtime: str
    state: str


@dataclass(frozen=True, slots=True)
class BlobFinding:
    """One blob that is or was wrong. `found`: the digest that its bytes had, where it was told.

    `origin`, `source`: what it was repaired from, and the archive's path or the runtime's socket.
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
        """What a person is to do; empty if nothing."""
        if self.result == "lost":
            where = f" ({', '.join(self.archives)})" if self.archives else ""
            return (
                f"nothing here has it any more: drop the archive that brings it again{where}, or "
                "push the image again"
            )
        if self.result in {"quarantined", "missing", "wrong"}:
            return "airside verify --repair gets it from its archive or from containerd"
        if any(file.state == "wrong" for file in self.runtimes):
            return (
                "containerd's own copy is wrong too and could not be replaced: remove the image "
                "from containerd (crictl rmi), it is published again"
            )
        return ""


def reason_of(problem: Problem, seen: BlobFile, text: str = "") -> str:
    """What is wrong, in words; `text` is the operating system's for an error."""
    return {
        "": "",
        "wrong-bytes": f"its bytes hash to {seen.digest}",
        "wrong-size": f"it has {seen.size_bytes} bytes",
        "missing": "it is not there",
        "unreadable": f"the disk cannot read it: {text}",
        "wrong-record": "the catalog's copy of it has other bytes",
        "orphan": "nothing needs it",
    }[problem]


@dataclass(frozen=True, slots=True)
class ScrubPass:
    """One pass over the store: begun, and ended or still to be gone on with. Times in seconds."""

    started_at: float
    by: str = "agent"
    ended_at: float | None = None
    blobs: int = 0
    size_bytes: int = 0
    wrong: int = 0
    repaired: int = 0
    lost: int = 0

    def counted(self, blobs: int, size_bytes: int, items: Iterable[BlobFinding]) -> "ScrubPass":
        """After so much more was looked at."""
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
    """The pass that `to_text` told; None for none, or one that cannot be read."""
    try:
        return ScrubPass(**json.loads(text)) if text else None
    except (ValueError, TypeError):
        return None


def next_pass(
    last: ScrubPass | None, oldest_verified_at: float | None, now: float, period_seconds: float
) -> ScrubPass | None:
    """The pass that is due: one to go on with, a new one, or None.

    A new one is due when the blob that was verified longest ago was so a whole period ago. A time
    that is still to come is a clock's that was wrong.
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
    """How long to wait so that no more bytes go than a rate allows; what was missed is not made up.

    `now` is a monotonic clock's, in seconds.
    """

    bytes_per_second: int
    _free_at: float = 0.0

    def wait_seconds(self, count: int, now: float) -> float:
        """After `count` bytes."""
        if not self.bytes_per_second:
            return 0.0
        self._free_at = max(self._free_at, now) + count / self.bytes_per_second
        return self._free_at - now
