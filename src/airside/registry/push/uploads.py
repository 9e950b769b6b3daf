"""Running blob uploads: their state in memory, each with one ingest of the store.

Bounded in number, size and idle time. A restart drops them and deletes their bytes in `ingest/`;
clients then start again. Blocking; thread-safe.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from airside.core.errors import (
    ConflictError,
    DigestMismatchError,
    TooLargeError,
    TooManyError,
    UploadUnknownError,
)
from airside.oci.digest import BytesLike, Digest
from airside.oci.reference import Repository
from airside.ports.content import Ingest

_ID_BYTES = 16


class UploadIngest(Ingest, Protocol):
    """An ingest whose digest algorithm may become known only at the end."""

    def rehash(self, algorithm: str) -> None:
        """Hashes the written bytes again, so that `digest` uses this algorithm."""


class UploadStore(Protocol):
    """The store of the uploaded bytes."""

    def ingest(self, algorithm: str = "sha256") -> UploadIngest: ...


@dataclass(slots=True)
class Upload:
    """One upload. One request at a time writes to it (`Uploads.claim`)."""

    id: str
    repository: Repository
    ingest: UploadIngest
    limit_bytes: int
    touched_at: float
    is_written: bool = False
    ended: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def offset(self) -> int:
        """Number of bytes received."""
        return self.ingest.size_bytes

    def write(self, chunks: Iterable[BytesLike]) -> None:
        """Appends bytes. Raises UploadUnknownError after its end, TooLargeError, StoreError."""
        with self.lock:
            if self.ended:
                raise UploadUnknownError("the upload was cancelled")
            for chunk in chunks:
                if self.offset + len(chunk) > self.limit_bytes:
                    raise TooLargeError(
                        f"the blob is larger than {self.limit_bytes} bytes (limits.upload_bytes)",
                        expected=self.limit_bytes,
                    )
                self.ingest.hash(chunk)
                self.ingest.write(chunk)

    def end(self) -> UploadIngest:
        """Ends writing, and returns the ingest. Raises UploadUnknownError after its end."""
        with self.lock:
            if self.ended:
                raise UploadUnknownError("the upload was cancelled")
            self.ended = True
            return self.ingest

    def discard(self) -> None:
        with self.lock:
            self.ended = True
            self.ingest.discard()


@dataclass(frozen=True, slots=True)
class PushedManifest:
    """A manifest as a client sent it. `reference` is a digest or a tag."""

    raw: bytes
    media_type: str
    reference: Digest | str
    tags: tuple[str, ...] = ()
    """Additional tags."""

    @property
    def all_tags(self) -> tuple[str, ...]:
        own = () if isinstance(self.reference, Digest) else (self.reference,)
        return tuple(dict.fromkeys((*own, *self.tags)))


class Uploads:
    """All running uploads, by unguessable IDs."""

    def __init__(
        self,
        store: UploadStore,
        *,
        max_uploads: int,
        max_bytes: int,
        idle_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._clock = store, clock
        self._max_uploads, self._max_bytes = max_uploads, max_bytes
        self._idle_seconds = idle_seconds
        self._uploads: dict[str, Upload] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._uploads)

    def start(self, repository: Repository, algorithm: str = "sha256") -> Upload:
        """Starts an upload. Raises TooManyError, StoreError."""
        self.sweep()
        with self._lock:
            if len(self._uploads) >= self._max_uploads:
                raise TooManyError(
                    f"{self._max_uploads} uploads are running already (limits.uploads): retry later"
                )
            upload = Upload(
                secrets.token_hex(_ID_BYTES),
                repository,
                self._store.ingest(algorithm),
                self._max_bytes,
                self._clock(),
            )
            self._uploads[upload.id] = upload
        return upload

    def get(self, upload_id: str, repository: Repository) -> Upload:
        """The upload, if it is one of this repository. Raises UploadUnknownError."""
        found = self._uploads.get(upload_id)
        if found is None or found.repository != repository:
            raise UploadUnknownError(
                f"{repository} has no upload {upload_id[:64]!r}: it has ended, or was idle for "
                f"{self._idle_seconds:g} s; start a new one"
            )
        return found

    def claim(self, upload: Upload) -> None:
        """Reserves the upload for one request, until `release`.

        Raises ConflictError if another request has reserved it.
        """
        with self._lock:
            if upload.is_written:
                raise ConflictError("another request is writing to this upload")
            upload.is_written = True

    def release(self, upload: Upload) -> None:
        upload.is_written = False
        upload.touched_at = self._clock()

    def take(self, upload: Upload) -> UploadIngest:
        """Ends an upload: the caller commits or discards the ingest. Raises UploadUnknownError."""
        ingest = upload.end()
        self._uploads.pop(upload.id, None)
        return ingest

    def cancel(self, upload: Upload) -> None:
        """Ends an upload and deletes its bytes. Idempotent."""
        self._uploads.pop(upload.id, None)
        upload.discard()

    def sweep(self) -> int:
        """Cancels idle uploads. Returns their number."""
        limit = self._clock() - self._idle_seconds
        idle = [u for u in list(self._uploads.values()) if not u.is_written]
        old = [upload for upload in idle if upload.touched_at < limit]
        for upload in old:
            self.cancel(upload)
        return len(old)

    def close(self) -> None:
        """Cancels all uploads."""
        for upload in list(self._uploads.values()):
            self.cancel(upload)


def check_digest(ingest: UploadIngest, digest: Digest) -> None:
    """Verifies the digest of the written bytes. Raises DigestMismatchError, StoreError."""
    if ingest.digest.algorithm != digest.algorithm:
        ingest.rehash(digest.algorithm)
    found = ingest.digest
    if found != digest:
        raise DigestMismatchError(
            f"the content hashes to {found}, not to {digest}",
            blob=digest,
            expected=digest,
            found=found,
        )
