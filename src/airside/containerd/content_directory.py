"""containerd's content directory: puts our blobs into it, by hard link or as a copy.

Always true: no name in `blobs/<alg>` is anything but a digest (containerd's garbage collection
would fail for good); temporary files lie in a private directory beside `blobs`.
"""

import contextlib
import errno
import logging
import os
import uuid
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from airside.core.disk_space import DiskSpace
from airside.core.errors import StoreError
from airside.core.settings import MIB
from airside.oci.digest import Digest, new_hasher
from airside.store.filesystem import PRIVATE_DIRECTORY, make_directories

log = logging.getLogger("airside.containerd")

LINK, COPY = "link", "copy"
_COPY_BYTES = 16 * MIB
_NO_LINK = {
    errno.EXDEV: "the data directory and {} are on different file systems or mounts",
    errno.EPERM: "hard links from the data directory to {} are not permitted",
    errno.EMLINK: "a blob has as many hard links as the file system of {} allows",
    errno.EOPNOTSUPP: "the file system of {} knows no hard links",
    errno.ENOSYS: "the file system of {} knows no hard links",
}
"""The errors of link(2) after which a blob is copied, and what each means."""


class BlobSource(Protocol):
    """The part of our blob store that containerd is filled from."""

    def path(self, digest: Digest) -> Path: ...
    def open(self, digest: Digest) -> BinaryIO: ...
    def is_right(self, digest: Digest) -> bool: ...
    def is_fresh(self, digest: Digest, file: BinaryIO | None = None) -> bool: ...
    def suspect(self, digest: Digest) -> None: ...


class ContentDirectory:
    """The content directory `root` of one containerd. Thread-safe.

    `store` holds our blobs. `identity` names our private directory below `root`.
    """

    def __init__(
        self, root: Path, store: BlobSource, identity: str, space: DiskSpace | None = None
    ) -> None:
        self.root, self._space = root, space or DiskSpace(0)
        self._store, self._private = store, root / f".{identity}"
        self.why_copied = ""
        """Why the last copy was no link; empty if there was none."""
        self._why_sent = ""

    def path(self, digest: Digest) -> Path:
        """Returns the path of a blob; the file may be absent."""
        return self.root / "blobs" / digest.algorithm / digest.hex

    def link(self, digest: Digest) -> str:
        """Links or copies a blob of ours. Returns "link", "copy", or "" on failure.

        Raises StorageFullError if a copy does not fit.
        """
        ours, target = self._store.path(digest), self.path(digest)
        try:
            make_directories(target.parent)
            try:
                os.link(ours, target)
            except FileExistsError:
                return self._take_over(ours, target, digest)
            except OSError as exc:
                self._note_copy(exc)
                self._copy(ours).rename(target)
                return COPY
        except OSError as exc:
            self._tell_sent(target, exc)
            return ""
        self._why_sent = ""
        return LINK

    def _tell_sent(self, target: Path, error: OSError) -> None:
        """Logs why a blob is sent: once, until a link succeeds or the reason is another."""
        why, self._why_sent = self._why_sent, error.strerror or repr(error)
        if why != self._why_sent:
            log.warning("cannot link to %s: %s; blobs are sent", target, self._why_sent)

    def _take_over(self, ours: Path, target: Path, digest: Digest) -> str:
        """Handles a file that the namespace does not know: ours, a stranger's, or a damaged one.

        containerd would adopt a damaged file of the right size without an error.
        """
        if target.samefile(ours):
            return LINK
        if _hashes_to(target, digest):
            return LINK
        log.warning("%s does not match its digest; replacing it by the store's blob", target)
        fresh = self._fresh(ours)
        way = LINK if fresh.samefile(ours) else COPY
        fresh.replace(target)
        return way

    def _note_copy(self, error: OSError) -> None:
        """Notes why a blob is copied. Raises the error if a copy would not help."""
        why = _NO_LINK.get(error.errno or 0)
        if why is None:
            raise error
        found = why.format(self.root)
        if found != self.why_copied:
            log.warning("blobs are copied, not linked: %s", found)
        self.why_copied = found

    def sync(self, digests: Iterable[Digest]) -> None:
        """Makes the names of these blobs durable. Raises StoreError."""
        for directory in {self.path(digest).parent for digest in digests}:
            _sync_directory(directory)

    def is_same(self, digest: Digest) -> bool:
        """Returns True if containerd's file of a blob is a hard link to ours."""
        try:
            return self.path(digest).samefile(self._store.path(digest))
        except OSError:
            return False

    def replace(self, digest: Digest) -> None:
        """Replaces containerd's file of a blob by the store's, durably.

        Raises StorageFullError, StoreError.
        """
        target = self.path(digest)
        try:
            self._fresh(self._store.path(digest)).replace(target)
        except OSError as exc:
            raise StoreError(f"cannot replace {target}: {exc.strerror}", path=target) from exc
        _sync_directory(target.parent)
        self.drop_private()

    def _fresh(self, ours: Path) -> Path:
        """Returns a second link to a blob of ours in the private directory, or a copy."""
        name = self._private_name()
        try:
            os.link(ours, name)
        except OSError as exc:
            self._note_copy(exc)
            return self._copy(ours)
        return name

    def _copy(self, ours: Path) -> Path:
        """Returns a durable copy in the private directory. Raises StorageFullError, OSError."""
        name = self._private_name()
        try:
            with ours.open("rb") as source, name.open("xb") as copy:
                self._copy_bytes(source.fileno(), copy.fileno())
                os.fchmod(copy.fileno(), 0o444)
                os.fsync(copy.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                name.unlink()
            raise
        return name

    def sending(self, size_bytes: int) -> AbstractContextManager[object]:
        """Grants the space of a blob that containerd receives. Raises StorageFullError."""
        return self._space.granting(self.root, size_bytes)

    def _copy_bytes(self, source: int, target: int) -> None:
        """Copies inside the kernel if possible, which shares extents on some file systems."""
        remaining = os.fstat(source).st_size
        while remaining:
            count = min(remaining, _COPY_BYTES)
            with self._space.writing(self.root, count):
                count = _copy_some(source, target, count)
            if not count:
                raise OSError(errno.EIO, "the file ended early")
            remaining -= count

    def write_private(self, raw: bytes) -> Path:
        """Writes a new file in the private directory and returns its path. Raises OSError."""
        name = self._private_name()
        with name.open("xb") as file:
            file.write(raw)
            os.fchmod(file.fileno(), 0o444)
        return name

    def _private_name(self) -> Path:
        make_directories(self._private, PRIVATE_DIRECTORY)
        return self._private / uuid.uuid4().hex

    def drop_private(self) -> None:
        """Deletes the private directory if it is empty."""
        with contextlib.suppress(OSError):
            self._private.rmdir()

    def sweep_private(self) -> None:
        """Deletes the files that an interrupted process left in the private directory."""
        with contextlib.suppress(OSError):
            for leftover in self._private.iterdir():
                leftover.unlink()
        self.drop_private()


def _sync_directory(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise StoreError(f"cannot sync {path}: {exc.strerror}", path=path) from exc


def _hashes_to(path: Path, digest: Digest) -> bool:
    hasher = new_hasher(digest.algorithm)
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            hasher.update(chunk)
    return hasher.hexdigest() == digest.hex


def _copy_some(source: int, target: int, count: int) -> int:
    try:
        return os.copy_file_range(source, target, count)
    except OSError as exc:
        if exc.errno not in {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
            raise
        return os.sendfile(target, source, None, count)
