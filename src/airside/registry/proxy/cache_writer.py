"""What came from an upstream registry: verified, into store and catalog. Blocking; thread-safe.

The order is that of a push (design 4.4): bytes verified and durable in the store, then one catalog
transaction, and only then visible. Only what clients asked for is kept, so that an image may lack
layers for good. It is a cache: no container runtime is told of it, an archive or a push of the
name takes its place, and what nobody asks for any more goes (`upstream_keep_seconds`).
"""

from collections.abc import Iterable

from airside.catalog.pushes import Push, PushedBlob
from airside.oci.digest import Digest
from airside.oci.model import Document
from airside.oci.reference import Repository
from airside.ports.content import KeptTag
from airside.registry.push.backend import Backend
from airside.registry.push.uploads import UploadIngest, check_digest
from airside.store.local import LocalIngest


class CacheWriter:
    """Keeps what was fetched, of one data directory."""

    def __init__(self, backend: Backend) -> None:
        self._store, self._catalog, self._guard = backend.store, backend.catalog, backend.guard
        self._group_commit, self._clock = backend.group_commit, backend.clock
        self._make_room, self._index_outdated = backend.make_room, backend.index_outdated

    def is_pushed(self, path: str) -> bool:
        """Whether a repository without a registry has this path here."""
        return Repository("", path) in self._catalog.repositories_at(path)

    def tag(self, repository: Repository, tag: str) -> KeptTag | None:
        return self._catalog.upstream_cache.tag(repository, tag)

    def stat(self, digest: Digest) -> int | None:
        """The size of a blob that the store has, whoever brought it."""
        return self._store.stat(digest)

    def begin(self, digest: Digest) -> LocalIngest:
        """Begin to write a blob. Raises StoreError."""
        self._make_room()
        return self._store.ingest(digest.algorithm)

    def store_blob(self, repository: Repository, ingest: UploadIngest, digest: Digest) -> None:
        """The bytes are all written: they are the repository's blob, if they are right.

        Raises DigestMismatchError, StoreError; the ingest is then for the caller to discard.
        """
        ingest.finish()
        check_digest(ingest, digest)
        self._group_commit.commit(PushedBlob(repository, digest, ingest.size_bytes), ingest)

    def link_blob(self, repository: Repository, digest: Digest) -> bool:
        """Give the repository a blob that the store has; False if it went meanwhile."""
        with self._guard.shared():
            size = self._store.stat(digest)
            if size is not None:
                blob = PushedBlob(repository, digest, size)
                self._catalog.pushes.record([blob], self._clock())
        return size is not None

    def store_document(
        self, repository: Repository, document: Document, tag: str, origin: str
    ) -> None:
        """Record a manifest or index under a tag, or with "" by its digest. Raises StoreError."""
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
        self._index_outdated.notify()

    def touch(self, references: Iterable[str]) -> None:
        """Clients asked for these names. Raises StoreError."""
        self._catalog.upstream_cache.touch(references, self._clock())
