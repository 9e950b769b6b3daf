"""Running blob uploads: their state in memory, each with one ingest of the store.

Bounded in number, size and idle time. What always holds: an upload that nobody writes to gives way
to what needs its place or its bytes. The least recently used goes first, and one without bytes
before the others. An upload for whose bytes there is no space ends at once.

A restart drops all and deletes their bytes in `ingest/`; clients then start again. Blocking;
thread-safe.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from airside.core.errors import (
    ConflictError,
    DigestMismatchError,
    StorageFullError,
    StoreError,
    TooLargeError,
    TooManyError,
    UploadUnknownError,
)
from airside.oci.digest import BytesLike, Digest
from airside.oci.reference import Repository
from airside.ports.content import Ingest

_ID_BYTES = 16
GIVES_WAY_SECONDS = 2.0
"""An upload idle for this time gives way where space or its place is needed."""
STALLED_SECONDS = 30.0
"""So does one whose request brought not even one piece (1 MiB) in this time."""


class UploadIngest(Ingest, Protocol):
    """An ingest whose digest algorithm may become known only at the end."""

    def rehash(self, algorithm: str) -> None:
        """Hashes the written bytes again, so that `digest` uses this algorithm."""


class UploadStore(Protocol):
    """The store of the uploaded bytes."""

    def ingest(self, algorithm: str = "sha256") -> UploadIngest: ...

    def check_space(self, needed_bytes: int) -> None:
        """Raises StorageFullError if `needed_bytes` more do not fit."""


@dataclass(slots=True)
class Upload:
    """One upload. One request at a time writes to it (`Uploads.claim`)."""

    id: str
    repository: Repository
    ingest: UploadIngest
    limit_bytes: int
    touched_at: float
    client: str = ""
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
                self.check_size(len(chunk))
                self.ingest.hash(chunk)
                self.ingest.write(chunk)

    def check_size(self, count: int) -> None:
        """Raises TooLargeError if `count` bytes more are too many for one blob."""
        if self.offset + count > self.limit_bytes:
            raise TooLargeError(
                f"the blob is larger than {self.limit_bytes} bytes (limits.upload_bytes)",
                expected=self.limit_bytes,
            )

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
        max_client_uploads: int,
        max_bytes: int,
        idle_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._clock = store, clock
        self._max_uploads, self._max_bytes = max_uploads, max_bytes
        self._max_client_uploads = max_client_uploads
        self._idle_seconds = idle_seconds
        self._uploads: dict[str, Upload] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._uploads)

    def start(self, repository: Repository, algorithm: str = "sha256", client: str = "") -> Upload:
        """Starts an upload of a client; "" counts with no client. Raises TooManyError, StoreError.

        If all places are taken, or all of the client's, another of these uploads gives way.
        """
        self.sweep()
        with self._lock:
            running = list(self._uploads.values())
            own = [upload for upload in running if client and upload.client == client]
            if len(own) >= self._max_client_uploads:
                limit = f"{self._max_client_uploads} uploads of this client are running already"
                self._give_way(own, f"{limit} (limits.client_uploads): retry later")
            elif len(running) >= self._max_uploads:
                limit = f"{self._max_uploads} uploads are running already"
                self._give_way(running, f"{limit} (limits.uploads): retry later")
            upload = Upload(
                secrets.token_hex(_ID_BYTES),
                repository,
                self._store.ingest(algorithm),
                self._max_bytes,
                self._clock(),
                client,
            )
            self._uploads[upload.id] = upload
        return upload

    def _give_way(self, uploads: Sequence[Upload], refusal: str) -> None:
        """Cancels one of the uploads. Raises TooManyError if all are in use.

        One without bytes loses nothing by that: it goes as soon as nobody writes to it.
        """
        empty = [upload for upload in uploads if not upload.offset]
        found = self._idlest(empty, 0.0) or self._idlest(uploads, GIVES_WAY_SECONDS)
        if not found:
            raise TooManyError(refusal)
        self.cancel(found[0])

    def _idlest(self, uploads: Iterable[Upload], seconds: float) -> list[Upload]:
        """Returns those that nobody has written to for so long, the least recently used first."""
        idle = [upload for upload in uploads if self._is_idle(upload, seconds)]
        return sorted(idle, key=lambda upload: upload.touched_at)

    def _is_idle(self, upload: Upload, seconds: float) -> bool:
        if upload.is_written:
            seconds = max(seconds, STALLED_SECONDS)
        return upload.touched_at <= self._clock() - seconds

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
            upload.touched_at = self._clock()

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
        """Cancels uploads that expired. Returns their number."""
        old = self._idlest(list(self._uploads.values()), self._idle_seconds)
        for upload in old:
            self.cancel(upload)
        return len(old)

    # space

    def idle(self) -> list[Upload]:
        """Returns the uploads that give way, the least recently used first."""
        return self._idlest(list(self._uploads.values()), GIVES_WAY_SECONDS)

    def give_way(self, needed_bytes: int) -> bool:
        """Cancels idle uploads, the least recently used first, until so many bytes fit.

        Returns True if they fit. Raises StoreError.
        """
        if self._fit(needed_bytes):
            return True
        for upload in self.idle():
            with self._lock:  # a request may have claimed it meanwhile
                if self._is_idle(upload, GIVES_WAY_SECONDS):
                    self.cancel(upload)
            if self._fit(needed_bytes):
                return True
        return False

    def _fit(self, needed_bytes: int) -> bool:
        try:
            self._store.check_space(needed_bytes)
        except StorageFullError:
            return False
        return True

    def expect(self, upload: Upload, count: int) -> None:
        """Ends the upload at once if `count` bytes more are too many or do not fit.

        Raises TooLargeError, StorageFullError.
        """
        try:
            upload.check_size(count)
            if not self.give_way(count):
                self._store.check_space(count)
        except (TooLargeError, StoreError):
            self.cancel(upload)
            raise

    def write(self, upload: Upload, chunks: Sequence[BytesLike]) -> None:
        """Appends bytes. Raises UploadUnknownError, and TooLargeError, StoreError: then it ended.

        Bytes that can't be stored are of no use to anybody: an upload without room frees its own.
        """
        self.give_way(sum(map(len, chunks)))
        try:
            upload.write(chunks)
            upload.touched_at = self._clock()
        except (TooLargeError, StoreError):
            self.cancel(upload)
            raise

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
