"""Tests adoption: gives containerd one small file as a blob, and deletes it again. Blocking.

Follows the steps of a publication (ADR 0016): links the file from the data directory's file system
into a private directory beside containerd's blobs, renames it to its digest, commits it without
data under a lease, and deletes the lease. Leaves only empty directories that containerd creates
too: its content directory and `blobs/sha256`. If the doctor is killed meanwhile, a file of some 30
bytes and a lease that expires stay behind.
"""

import errno
import os
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from airside.containerd.client import Client
from airside.core.errors import AirsideError, ContainerdError
from airside.diagnostics.doctor.facts import Trial
from airside.oci.digest import Digest, digest_of, is_digest
from airside.store.filesystem import PRIVATE_DIRECTORY, make_directories

_LEASE_SECONDS = 60.0
_TRIES = 3
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}
_MOST_NAMES = 5


def try_adoption(client: Client, origin: Path, content_root: Path) -> Trial:
    """Returns the result of the test.

    `origin`: a directory of the data directory that the agent clears when it starts.
    """
    made = _Attempt(client, origin, content_root)
    try:
        return made.run()
    except OSError as exc:
        return Trial(error=f"{exc.filename or content_root}: {exc.strerror}")
    finally:
        made.tidy()


class _Attempt:
    def __init__(self, client: Client, origin: Path, root: Path) -> None:
        self.client = client
        self.name = f"airside-doctor-{uuid.uuid4().hex[:12]}"
        self.raw = f"{self.name}\n".encode()
        self.digest: Digest = digest_of(self.raw)
        self.source = origin / self.name
        self.private = root / f".{self.name}"
        self.target = root / "blobs" / self.digest.algorithm / self.digest.hex
        self.leased = False

    def run(self) -> Trial:
        """Raises OSError if a directory cannot be written; an error of containerd is a result."""
        with self.source.open("xb") as file:
            file.write(self.raw)
            os.fchmod(file.fileno(), 0o444)
        make_directories(self.private, PRIVATE_DIRECTORY)
        placed = self._place()
        try:
            reason = self._adopt()
        except AirsideError as exc:
            reason = exc.message
        if reason:
            return replace(placed, reason=reason)
        return replace(placed, adopted=True, collected=self._collect())

    def _place(self) -> Trial:
        """Links or copies the file to its digest's name."""
        inside, found = self.private / self.digest.hex, Trial("link")
        try:
            os.link(self.source, inside)
        except OSError as exc:
            if exc.errno not in _NO_LINK:
                raise
            found = Trial("copy", exc.strerror or "")
            inside.write_bytes(self.raw)
        make_directories(self.target.parent)
        inside.rename(self.target)
        return found

    def _adopt(self) -> str:
        """Returns '' if containerd adopts the blob, else its error."""
        self.leased = True
        self.client.leases.create(self.name, seconds=_LEASE_SECONDS)
        reason = ""
        for _ in range(_TRIES):
            try:
                self.client.content.adopt(self.name, self.digest, len(self.raw), {}, self.name)
            except ContainerdError as exc:
                if exc.context.get("status") != "OUT_OF_RANGE":
                    raise
                reason = exc.message
                self.client.content.abort(self.name)
                if not self.target.exists():  # a collection deleted it in between
                    self._place()
            else:
                return ""
        return reason

    def _collect(self) -> bool | None:
        """Deletes the lease. Returns True if containerd deleted the file too, None if unknown."""
        try:
            self.client.leases.delete(self.name, sync=True)
        except AirsideError:
            return None
        self.leased = False
        return not self.target.exists()

    def tidy(self) -> None:
        """Deletes files and lease, ignoring errors. containerd deletes a blob that it adopted."""
        known = False
        if self.leased:
            with suppress(AirsideError):
                self.client.leases.delete(self.name, sync=True)
            with suppress(AirsideError):
                known = self.client.content.info(self.digest) is not None
        leftovers = [self.source, self.private / self.digest.hex]
        for path in leftovers if known else [*leftovers, self.target]:
            with suppress(OSError):
                path.unlink()
        with suppress(OSError):
            self.private.rmdir()


def foreign_names(content_root: Path) -> tuple[str, ...]:
    """Returns the first names in the blob directories that are not digests. Raises OSError."""
    found: list[str] = []
    for algorithm in (content_root / "blobs").iterdir():
        names = os.listdir(algorithm)  # noqa: PTH208 - only names are wanted
        found += [
            f"{algorithm.name}/{name}"
            for name in names
            if not is_digest(f"{algorithm.name}:{name}")
        ]
    return tuple(sorted(found)[:_MOST_NAMES])
