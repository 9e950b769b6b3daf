"""The embedded content store: `DATA/oci` is a plain OCI image layout.

What always holds: a file under `blobs/` has the digest of its name and was on disk before it got
that name (write to the ingest file, fsync, rename, fsync of the directory). Blob files have mode
0444 and are never written to again. The caller derives `index.json` from the catalog.

Left to others: what a blob means, who may see it, when it may be deleted.
"""

import contextlib
import itertools
import json
import logging
import os
import stat as stat_module
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from airside.core.disk_space import DiskSpace
from airside.core.errors import NotFoundError, SizeMismatchError, StoreError
from airside.core.failpoints import fault
from airside.core.listeners import Listeners
from airside.core.settings import MIB
from airside.core.timeline import stage
from airside.oci.digest import HEX_LENGTHS, BytesLike, Digest, new_hasher
from airside.oci.model import Descriptor
from airside.ports.content import Ingest
from airside.store.filesystem import (
    PRIVATE_DIRECTORY,
    make_directories,
    open_private,
    set_mode,
    start_writeback,
    sync_directory,
    sync_file,
    translated,
    write_durably,
)
from airside.store.quarantine import Quarantine
from airside.store.rehash import check_working, file_key, open_file_key
from airside.store.verified import Suspects, VerifiedFiles

log = logging.getLogger("airside.store")

_BLOB_MODE = 0o444
_WRITEBACK_BYTES = 8 * MIB
_SYNC_THREADS = 8
_RECORDED_TIMES = 3
"""The catalog writes a document to its log, then to its tables, with what it knows of it."""


class LocalIngest:
    """A blob being written to `ingest/`. See `airside.ports.content.Ingest`."""

    def __init__(self, path: Path, algorithm: str, space: DiskSpace) -> None:
        self.path, self._space = path, space
        self._algorithm = algorithm
        self._hasher = new_hasher(algorithm)
        self._hashed_bytes = self._written_bytes = 0
        self._writeback_from = 0
        self._done = False
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with translated("cannot create", path):
            self._descriptor: int | None = os.open(path, flags, 0o400)
            try:
                set_mode(self._descriptor, _BLOB_MODE)  # whatever the umask
                fault("ingest.after_create")
            except BaseException:
                self.discard()
                raise

    def hash(self, chunk: BytesLike) -> None:
        self._hasher.update(chunk)
        self._hashed_bytes += len(chunk)

    def write(self, chunk: BytesLike) -> None:
        descriptor = self._descriptor
        if descriptor is None:
            raise StoreError(f"the ingest {self.path.name} is finished")
        with (
            self._space.writing(self.path.parent, len(chunk)),
            translated("cannot write", self.path),
        ):
            view = memoryview(chunk)
            while view:
                view = view[os.write(descriptor, view) :]
            fault("ingest.after_write")
        self._written_bytes += len(chunk)
        if self._written_bytes - self._writeback_from >= _WRITEBACK_BYTES:
            self._start_writeback(descriptor)

    def _start_writeback(self, descriptor: int) -> None:
        start_writeback(
            descriptor, self._writeback_from, self._written_bytes - self._writeback_from
        )
        self._writeback_from = self._written_bytes

    def finish(self) -> None:
        if self._descriptor is not None:
            self._start_writeback(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def digest(self) -> Digest:
        return Digest(self._algorithm, self._hasher.hexdigest())

    @property
    def size_bytes(self) -> int:
        return self._hashed_bytes

    @property
    def is_whole(self) -> bool:
        return self._hashed_bytes == self._written_bytes

    def open(self) -> BinaryIO:
        with translated("cannot open", self.path):
            return self.path.open("rb")

    def rehash(self, algorithm: str) -> None:
        hasher, count = new_hasher(algorithm), 0
        with self.open() as file, translated("cannot read", self.path):
            while chunk := file.read(MIB):
                hasher.update(chunk)
                count += len(chunk)
        self._algorithm, self._hasher, self._hashed_bytes = algorithm, hasher, count

    def discard(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if not self._done:
            self._done = True
            with contextlib.suppress(OSError):
                self.path.unlink()

    def moved(self) -> None:
        """Marks the file as renamed to its final name, so that `discard` deletes nothing."""
        self._done = True


class LocalStore:
    """Blobs under `root/blobs/<alg>/<hex>`. See `airside.ports.content.ContentStore`."""

    def __init__(
        self,
        root: Path,
        ingest: Path,
        space: DiskSpace | None = None,
        verified: VerifiedFiles | None = None,
    ) -> None:
        self.root, self._ingest = root, ingest
        self.verified = verified or VerifiedFiles()
        self.replaced = Listeners()
        """Notified after a wrong file was replaced: it may have another hard link elsewhere."""
        self.suspects = Suspects()
        self._quarantine = Quarantine(root.parent / "quarantine")
        self.space = space or DiskSpace(0)
        self._blobs = root / "blobs"
        self._blobs_text = str(self._blobs)  # a Path for each blob is slow, and `stat` runs for all
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Creates the directories and `oci-layout`. Raises StoreError."""
        with translated("cannot prepare", self.root):
            algorithms = (self._blobs / algorithm for algorithm in HEX_LENGTHS)
            for directory in (self.root, self._blobs, *algorithms, self._ingest):
                make_directories(directory, PRIVATE_DIRECTORY)
            layout = self.root / "oci-layout"
            if not layout.exists():
                write_durably(layout, json.dumps({"imageLayoutVersion": "1.0.0"}).encode())

    def sweep_ingest(self) -> int:
        """Deletes what an earlier process left in `ingest/`. Returns the number of files."""
        count = 0
        with translated("cannot sweep", self._ingest):
            for leftover in self._ingest.iterdir():
                leftover.unlink()
                count += 1
        return count

    def path(self, digest: Digest) -> Path:
        """Returns the path that the blob has in the store, whether or not it is held."""
        return self._blobs / digest.algorithm / digest.hex

    def stat(self, digest: Digest) -> int | None:
        try:
            found = os.stat(f"{self._blobs_text}/{digest.algorithm}/{digest.hex}")  # noqa: PTH116
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise StoreError(f"cannot stat blob {digest}: {exc.strerror}", blob=digest) from exc
        return found.st_size if stat_module.S_ISREG(found.st_mode) else None

    def is_right(self, digest: Digest) -> bool:
        return self.verified.is_right(digest, self.path(digest))

    def suspect(self, digest: Digest) -> None:
        """Reports a blob that was found wrong where it was needed."""
        self.suspects.add(digest)

    def is_fresh(self, digest: Digest, file: BinaryIO | None = None) -> bool:
        """Returns True if the blob's file was verified lately, or this open one whenever it was."""
        if file is not None:
            return self.verified.is_last(digest, open_file_key(file.fileno()))
        return self.verified.is_fresh(digest, file_key(self.path(digest)))

    def open(self, digest: Digest) -> BinaryIO:
        try:
            return self.path(digest).open("rb")
        except FileNotFoundError as exc:
            raise NotFoundError(f"blob {digest} is not in the store", blob=digest) from exc
        except OSError as exc:
            raise StoreError(f"cannot open blob {digest}: {exc.strerror}", blob=digest) from exc

    def check_space(self, needed_bytes: int) -> None:
        """Raises StorageFullError if `needed_bytes` more do not fit."""
        self.space.check(self._ingest, needed_bytes)

    def recording(self, documents_bytes: int) -> AbstractContextManager[None]:
        """Grants the space for the catalog's record of documents, which has their bytes too.

        The catalog is on the store's file system. Raises StorageFullError at the begin.
        """
        return self.space.writing(self._ingest, _RECORDED_TIMES * documents_bytes)

    def ingest(self, algorithm: str = "sha256") -> LocalIngest:
        name = f"{os.getpid()}-{next(self._numbers)}"
        return LocalIngest(self._ingest / name, algorithm, self.space)

    def commit(self, ingests: Sequence[Ingest]) -> int:
        own = [ingest for ingest in ingests if isinstance(ingest, LocalIngest)]
        assert len(own) == len(ingests), "ingests of another store"
        try:
            return self._commit(own)
        finally:
            for ingest in own:
                ingest.discard()

    def _commit(self, ingests: Sequence[LocalIngest]) -> int:
        fresh: dict[Digest, LocalIngest] = {}
        for ingest in ingests:
            ingest.finish()
            if not ingest.is_whole:
                raise SizeMismatchError(
                    f"blob {ingest.digest}: the written length is not the hashed length; "
                    "not committed",
                    blob=ingest.digest,
                )
            if not self.is_right(ingest.digest):
                fresh.setdefault(ingest.digest, ingest)
        with translated("cannot make blobs durable in", self._ingest), stage("sync"):
            fault("store.before_sync")
            self._sync([ingest.path for ingest in fresh.values()])
            fault("store.after_sync")
        with translated("cannot commit blobs to", self._blobs), stage("rename"):
            replaced = self._rename(fresh)
        if replaced:
            self.replaced.notify()
        return len(fresh)

    def _sync(self, paths: list[Path]) -> None:
        """Fsyncs all files in parallel: the file system then shares its journal commits."""
        if len(paths) < 2:
            for path in paths:
                sync_file(path)
            return
        with ThreadPoolExecutor(min(_SYNC_THREADS, len(paths)), "store-sync") as pool:
            for _ in pool.map(sync_file, paths):
                pass

    def _rename(self, fresh: dict[Digest, LocalIngest]) -> int:
        """Returns how many wrong files were replaced."""
        replaced = 0
        with self._lock:
            for digest, ingest in fresh.items():
                path = self.path(digest)
                if file_key(path):
                    if self.is_right(digest):  # another import committed it first
                        continue
                    log.warning("blob %s: replacing its wrong file by the bytes that came", digest)
                    self._quarantine.keep(path, digest)
                    replaced += 1
                ingest.path.rename(path)
                ingest.moved()
                self.verified.note(digest, file_key(path))
                fault("store.after_rename")
            for algorithm in {digest.algorithm for digest in fresh}:
                sync_directory(self._blobs / algorithm)
            fault("store.after_directory_sync")
        return replaced

    def put(self, data: bytes, algorithm: str = "sha256") -> LocalIngest:
        """Ingests a small blob from memory. The caller commits it."""
        return self.put_all((data,), algorithm)

    def put_all(self, chunks: Iterable[bytes], algorithm: str) -> LocalIngest:
        """Ingests all chunks. The caller commits or discards the ingest."""
        ingest = self.ingest(algorithm)
        try:
            for chunk in chunks:
                ingest.hash(chunk)
                ingest.write(chunk)
            ingest.finish()
        except BaseException:
            ingest.discard()
            raise
        return ingest

    def delete(self, digest: Digest) -> int:
        path = self.path(digest)
        with translated("cannot delete", path):
            fault("store.before_delete")
            try:
                found = path.stat()
                path.unlink()
            except FileNotFoundError:
                return 0
        return found.st_size if found.st_nlink == 1 else 0

    def freed_bytes(self, digest: Digest) -> int:
        """Returns the bytes that deleting the blob would free: 0 if it has another hard link."""
        try:
            found = self.path(digest).stat()
        except OSError:
            return 0
        return found.st_size if found.st_nlink == 1 else 0

    def missing(self, descriptors: Iterable[Descriptor]) -> list[Descriptor]:
        return [d for d in descriptors if self.stat(d.digest) != d.size_bytes]

    def digests(self) -> Iterator[Digest]:
        for algorithm, length in HEX_LENGTHS.items():
            with (
                translated("cannot list", self._blobs),
                os.scandir(self._blobs / algorithm) as found,
            ):
                for entry in found:
                    if len(entry.name) == length:
                        yield Digest(algorithm, entry.name)

    def hash_blob(self, digest: Digest) -> Digest:
        """Reads a held blob and returns the digest of its bytes.

        Raises NotFoundError, StoreError.
        """
        hasher = new_hasher(digest.algorithm)
        with self.open(digest) as file, translated("cannot read", self.path(digest)):
            while chunk := file.read(MIB):
                hasher.update(chunk)
        return Digest(digest.algorithm, hasher.hexdigest())

    def written_at(self, digest: Digest) -> float | None:
        """Returns the modification time of the blob's file, in seconds; None if it is not held."""
        try:
            return self.path(digest).stat().st_mtime
        except OSError:
            return None

    def check_working(self) -> None:
        """Raises StoreError if the file system is gone or fails.

        Ask before calling any blob lost.
        """
        check_working(self.root, self._ingest)

    def write_index(self, index_json: bytes) -> None:
        """Replaces `index.json`: temporary file, fsync, rename. Raises StoreError."""
        target = self.root / "index.json"
        temporary = self.root / ".index.json.tmp"
        with translated("cannot write", target):
            temporary.unlink(missing_ok=True)
            with open(temporary, "xb", opener=open_private) as file:
                file.write(index_json)
                file.flush()
                os.fsync(file.fileno())
            fault("store.index_written")
            temporary.replace(target)
            fault("store.index_renamed")
            sync_directory(self.root)

    def index_key(self) -> str:
        """Returns a key that changes whenever `index.json` is replaced; empty if it is absent."""
        try:
            found = (self.root / "index.json").stat()
        except OSError:
            return ""
        return f"{found.st_ino}:{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}"

    def read_index(self) -> bytes | None:
        """Returns the bytes of `index.json`, or None if it cannot be read."""
        try:
            return (self.root / "index.json").read_bytes()
        except OSError:
            return None
