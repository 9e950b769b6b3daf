"""Writes content of an upstream registry to store and catalog. Blocking; thread-safe.

The order is that of a push: bytes verified and durable in the store, then one catalog transaction,
and only then visible. Only requested content is stored, so that an image may lack layers
permanently. The content is a cache: it is not published to container runtimes, an archive or a push
of the same name replaces it, and it expires when unused for `upstream_keep_seconds`.
"""

from collections.abc import Iterable

from airside.catalog.pushes import Push, PushedBlob
from airside.core.errors import AirsideError, NotFoundError
from airside.oci.digest import Digest
from airside.oci.model import Document
from airside.oci.reference import Repository
from airside.ports.content import KeptTag
from airside.registry.push.backend import Backend
from airside.registry.push.uploads import UploadIngest, check_digest
from airside.store.local import LocalIngest


class CacheWriter:
    """Stores fetched content in one data directory."""

    def __init__(self, backend: Backend) -> None:
        self._store, self._catalog, self._lock = backend.store, backend.catalog, backend.lock
        self._group_commit, self._clock = backend.group_commit, backend.clock
        self._make_room, self._index_outdated = backend.make_room, backend.index_outdated
        self._meter = backend.meter

    def is_pushed(self, path: str) -> bool:
        """Returns True if the catalog has a repository of this path without a registry host."""
        return Repository("", path) in self._catalog.repositories_at(path)

    def is_dropped(self, repository: Repository, tag: str) -> bool:
        """Returns True if an archive has the tag of this path at another host, and none here."""
        return self._catalog.upstream_cache.is_dropped(repository, tag)

    def tag(self, repository: Repository, tag: str) -> KeptTag | None:
        return self._catalog.upstream_cache.tag(repository, tag)

    def stat(self, digest: Digest) -> int | None:
        """The size in bytes of a stored blob of any origin; None if it is not stored."""
        return self._store.stat(digest)

    def begin(self, digest: Digest, size_bytes: int) -> LocalIngest:
        """Starts writing a blob, after collecting garbage on a full disk.

        `size_bytes` is 0 if it is not known. Raises StorageFullError, StoreError.
        """
        self._make_room(size_bytes)
        self._store.check_space(size_bytes)
        return self._store.ingest(digest.algorithm)

    def store_blob(self, repository: Repository, ingest: UploadIngest, digest: Digest) -> None:
        """Verifies a completely written ingest, and stores it as a blob of the repository.

        Raises DigestMismatchError, StoreError; then the caller discards the ingest.
        """
        ingest.finish()
        check_digest(ingest, digest)
        self._group_commit.commit(PushedBlob(repository, digest, ingest.size_bytes), ingest)
        self._meter.pulled_through("blob", ingest.size_bytes)

    def link_blob(self, repository: Repository, digest: Digest) -> bool:
        """Adds a stored blob to the repository; False if the blob has been deleted meanwhile."""
        with self._lock.shared():
            size = self._store.stat(digest)
            if size is not None:
                blob = PushedBlob(repository, digest, size)
                self._catalog.pushes.record([blob], self._clock())
        return size is not None

    def store_document(
        self, repository: Repository, document: Document, tag: str, origin: str
    ) -> None:
        """Stores a manifest or index under a tag; "": by digest only. Raises StoreError."""
        push = Push(
            repository,
            document,
            None,
            (tag,) if tag else (),
            (),
            origin=origin,
            kind="peer",
        )
        self._group_commit.commit(push)
        self._meter.pulled_through("manifest", len(document.raw))
        self._index_outdated.notify()

    def failed(self, error: AirsideError) -> None:
        """Counts a fetch that failed; content that the upstream lacks is no failure."""
        if not isinstance(error, NotFoundError):
            self._meter.pull_through_failed(error.code)

    def touch(self, references: Iterable[str]) -> None:
        """Records that clients requested these references now. Raises StoreError."""
        self._catalog.upstream_cache.touch(references, self._clock())
