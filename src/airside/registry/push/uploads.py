"""Blobs that clients are sending: in memory, each with one ingest of the store.

Bounded in number, in size, and in the time without a byte. A restart forgets them, as their bytes
in `ingest/` are swept; a client then begins anew. Blocking; safe to call from any thread.
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
    """An ingest of which the algorithm may become known only at its end."""

    def rehash(self, algorithm: str) -> None:
        """Read what was written again: from now on `digest` is of this algorithm."""


class UploadStore(Protocol):
    """Where uploads are written."""

    def ingest(self, algorithm: str = "sha256") -> UploadIngest: ...


@dataclass(slots=True)
class Upload:
    """One blob on its way. One request at a time writes to it (`Uploads.writing`)."""

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
        """How many bytes are there."""
        return self.ingest.size_bytes

    def write(self, chunks: Iterable[BytesLike]) -> None:
        """Append. Raises UploadUnknownError once it ended, TooLargeError, StoreError."""
        with self.lock:
            if self.ended:
                raise UploadUnknownError("the upload was cancelled")
            for chunk in chunks:
                if self.offset + len(chunk) > self.limit_bytes:
                    raise TooLargeError(
                        f"the blob has more than {self.limit_bytes} bytes (limits.upload_bytes)",
                        expected=self.limit_bytes,
                    )
                self.ingest.hash(chunk)
                self.ingest.write(chunk)

    def end(self) -> UploadIngest:
        """Nothing is written any more. Raises UploadUnknownError if it ended before."""
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
    """A manifest as a client sent it. `reference` is a digest, or the tag."""

    raw: bytes
    media_type: str
    reference: Digest | str
    tags: tuple[str, ...] = ()
    """Further ones."""

    @property
    def all_tags(self) -> tuple[str, ...]:
        own = () if isinstance(self.reference, Digest) else (self.reference,)
        return tuple(dict.fromkeys((*own, *self.tags)))


class Uploads:
    """All uploads, by their ids, which can't be guessed."""

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
        """Begin one. Raises TooManyError, StoreError."""
        self.sweep()
        with self._lock:
            if len(self._uploads) >= self._max_uploads:
                raise TooManyError(
                    f"{self._max_uploads} uploads are under way already (limits.uploads): "
                    "try again later"
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
        """The upload of this repository. Raises UploadUnknownError."""
        found = self._uploads.get(upload_id)
        if found is None or found.repository != repository:
            raise UploadUnknownError(
                f"{repository} has no upload {upload_id[:64]!r}: it ended, or it was idle for "
                f"{self._idle_seconds:g} s; begin anew"
            )
        return found

    def claim(self, upload: Upload) -> None:
        """One request writes from now on, until `release`. Raises ConflictError for a second."""
        with self._lock:
            if upload.is_written:
                raise ConflictError("another request writes to this upload")
            upload.is_written = True

    def release(self, upload: Upload) -> None:
        upload.is_written = False
        upload.touched_at = self._clock()

    def take(self, upload: Upload) -> UploadIngest:
        """End it: the caller commits or discards the ingest. Raises UploadUnknownError."""
        ingest = upload.end()
        self._uploads.pop(upload.id, None)
        return ingest

    def cancel(self, upload: Upload) -> None:
        """Forget it and its bytes; idempotent."""
        self._uploads.pop(upload.id, None)
        upload.discard()

    def sweep(self) -> int:
        """Cancel what nobody wrote to for too long; returns how many."""
        limit = self._clock() - self._idle_seconds
        idle = [u for u in list(self._uploads.values()) if not u.is_written]
        old = [upload for upload in idle if upload.touched_at < limit]
        for upload in old:
            self.cancel(upload)
        return len(old)

    def close(self) -> None:
        """Cancel all."""
        for upload in list(self._uploads.values()):
            self.cancel(upload)


def check_digest(ingest: UploadIngest, digest: Digest) -> None:
    """Whether these are the blob's bytes. Raises DigestMismatchError, StoreError."""
    if ingest.digest.algorithm != digest.algorithm:
        ingest.rehash(digest.algorithm)
    found = ingest.digest
    if found != digest:
        raise DigestMismatchError(
            f"the bytes hash to {found}, not to {digest}",
            blob=digest,
            expected=digest,
            found=found,
        )
