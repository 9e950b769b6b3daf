"""Executes pushes and deletions: from a verified upload or a manifest to store and catalog.

The order is that of an import: bytes verified and durable in the store, then one catalog
transaction, and only then visible. A manifest is accepted only if all content that it lists exists:
in its repository, or readable by the client under the same name, or in a container runtime (then it
is copied). Blocking; thread-safe.

Left to others: access rules (`registry.rules.access`), HTTP (`registry.http.receive`), and
`index.json`, whose writer is notified.
"""

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from airside.catalog.pushes import Push, PushedBlob
from airside.core.errors import (
    AirsideError,
    DeniedError,
    InputError,
    NotFoundError,
    ReferenceInvalidError,
    StoreError,
    SwitchedOffError,
    UnavailableError,
)
from airside.core.settings import MIB, Settings
from airside.oci.digest import Digest
from airside.oci.model import Descriptor, Document, Index, parse_config, parse_named_document
from airside.oci.platform import Platform
from airside.oci.reference import MAX_REPOSITORY_LENGTH, Repository, is_tag
from airside.ports.content import RuntimeBlob
from airside.registry.push.backend import Backend
from airside.registry.push.document_extent import check_extent
from airside.registry.push.uploads import PushedManifest, Upload, check_digest
from airside.registry.rules.names import (
    Name,
    any_repository,
    candidates,
    push_target,
    repository_at,
)
from airside.registry.rules.read_through import ReadThrough, RuntimeLookup
from airside.registry.rules.requests import GetBlob
from airside.store.leases import BlobLeases

log = logging.getLogger("airside.push")


class Pusher:
    """Pushes and deletions of one data directory."""

    def __init__(
        self,
        backend: Backend,
        settings: Settings,
        leases: BlobLeases,
        read_through: ReadThrough,
    ) -> None:
        self._store, self._catalog, self._lock = backend.store, backend.catalog, backend.lock
        self._group_commit, self._clock = backend.group_commit, backend.clock
        self._settings, self._meter = settings, backend.meter
        self._make_room, self._index_outdated = backend.make_room, backend.index_outdated
        self.uploads = backend.uploads
        self._read_through = read_through
        self._leases = leases

    def failed(self, error: AirsideError) -> None:
        """Counts a write of a client that ended with this error."""
        self._meter.push_failed(error.code)

    # blobs

    def begin(self, name: Name, algorithm: str = "sha256", client: str = "") -> Upload:
        """Starts an upload of a client. Raises DeniedError, TooManyError, StoreError."""
        target = self._target(name)
        self._make_room(0)
        return self.uploads.start(target, algorithm, client)

    def expect(self, upload: Upload, count: int) -> None:
        """Collects garbage if an upload of `count` bytes more needs it; ends one without room.

        Raises TooLargeError, StorageFullError.
        """
        self._make_room(count)
        self.uploads.expect(upload, count)

    def upload(self, name: Name, upload_id: str) -> Upload:
        """The running upload of a repository. Raises UploadUnknownError."""
        return self.uploads.get(upload_id, push_target(name))

    def finish(self, upload: Upload, digest: Digest) -> None:
        """Ends an upload: verifies its bytes and stores them as a blob of the repository.

        Raises DigestMismatchError (the upload is discarded), UploadUnknownError, StoreError.
        """
        ingest = self.uploads.take(upload)
        try:
            ingest.finish()
            check_digest(ingest, digest)
        except BaseException:
            ingest.discard()
            raise
        self._group_commit.commit(PushedBlob(upload.repository, digest, ingest.size_bytes), ingest)
        self._meter.pushed("blob", ingest.size_bytes)

    def mount(
        self, name: Name, digest: Digest, source: Name | None, may: Callable[[Repository], bool]
    ) -> bool:
        """Adds a stored blob to the repository; False if no readable repository has the blob.

        `source` names the repository to mount from, else any counts; `may` returns True for
        repositories that the client can read.
        """
        target, default = self._target(name), self._settings.default_registry
        named = list(candidates(self._catalog, source, default)) if source is not None else None

        def is_readable(repository: Repository) -> bool:
            return (named is None or repository in named) and may(repository)

        with self._lock.shared():
            found = self._catalog.pushes.mount(target, digest, is_readable, self._clock())
        if found:
            self._meter.pushed("mount", 0)
        if found or source is None or not all(map(may, named or ())):
            return found
        return self._copy_through(source, target, digest)

    def lease_blob(self, digest: Digest) -> bool:
        """Protects a blob from collection, as a client that sees it does not send it.

        Returns False if the blob is being collected already: answer that it is absent.
        """
        return self._leases.lease(digest)

    # manifests

    def push(
        self,
        name: Name,
        manifest: PushedManifest,
        origin: str,
        may: Callable[[Repository], bool] = any_repository,
    ) -> Document:
        """Stores a manifest or index under its digest and tags.

        `may` returns True for repositories that the client can read. Raises DeniedError,
        ReferenceInvalidError, ManifestInvalidError, DigestMismatchError, MissingBlobError,
        SizeMismatchError, StoreError.
        """
        target = self._target(name)
        tags = manifest.all_tags
        wrong = next((tag for tag in tags if not is_tag(tag)), None)
        if wrong is not None:
            raise ReferenceInvalidError(f"{wrong[:200]!r} is not a valid tag", found=wrong[:200])
        expected = manifest.reference if isinstance(manifest.reference, Digest) else None
        document = parse_named_document(manifest.raw, manifest.media_type, "the manifest", expected)
        check_extent(document, self._catalog.extent, self._settings.limits)
        needed = self._needed(document)
        named = tuple(candidates(self._catalog, name, self._settings.default_registry))
        if all(map(may, named)):
            self._copy_missing(name, target, needed)
        push = Push(
            target,
            document,
            self._platform(document),
            tags,
            needed,
            tuple(each for each in named if each == target or may(each)),
            origin,
            short_for=self._short_for(name),
        )
        self._group_commit.commit(push)
        self._meter.pushed("manifest", len(document.raw))
        self._index_outdated.notify()
        return document

    def _short_for(self, name: Name) -> Repository | None:
        """The repository whose short name a push may not take over; None if all may be pushed."""
        if self._settings.push == "all":
            return None
        return repository_at(self._settings.default_registry, name.text)

    def _needed(self, document: Document) -> tuple[Descriptor, ...]:
        """The content that must exist; none if sparse images are allowed (`push_sparse`)."""
        if self._settings.push_sparse:
            return ()
        if isinstance(document.content, Index):
            return document.children
        return tuple(blob for blob in document.children if blob.is_distributable)

    def _platform(self, document: Document) -> Platform | None:
        """The platform in the image's config; None if the config cannot be read."""
        if not document.is_image:
            return None
        config = document.children[0]
        if config.size_bytes > self._settings.limits.document_bytes:
            return None
        with suppress(NotFoundError, InputError), self._store.open(config.digest) as file:
            return parse_config(file.read(), str(config.digest)).platform
        return None

    def _copy_missing(self, name: Name, target: Repository, needed: Iterable[Descriptor]) -> None:
        """Copies blobs that only a container runtime has: a HEAD said that they exist."""
        for blob in needed:
            if self._store.stat(blob.digest) is None:
                self._copy_through(name, target, blob.digest)

    def _copy_through(self, name: Name, target: Repository, digest: Digest) -> bool:
        with suppress(NotFoundError, UnavailableError):
            through = RuntimeLookup(
                self._catalog, self._read_through, self._settings.default_registry
            )
            found = through.pushed_blob(GetBlob(name, digest))
            if found is not None:
                self._copy(found, target, digest)
                return True
        return False

    def _copy(self, found: RuntimeBlob, target: Repository, digest: Digest) -> None:
        try:
            with found.open() as file:
                chunks = iter(partial(file.read, MIB), b"")
                ingest = self._store.put_all(chunks, digest.algorithm)
        except OSError as exc:
            raise StoreError(
                f"cannot read blob {digest} from the container runtime: {exc}"
            ) from exc
        try:
            check_digest(ingest, digest)
        except BaseException:
            ingest.discard()
            raise
        self._group_commit.commit(PushedBlob(target, digest, ingest.size_bytes), ingest)

    # deletions

    def delete_tag(self, name: Name, tag: str, origin: str) -> None:
        """Deletes a tag. Raises DeniedError, NotFoundError."""
        where = self._where(name, lambda r: self._catalog.document_by_tag(r, tag))
        self._catalog.deletions.delete_tag(where, tag, self._clock(), origin)
        self._index_outdated.notify()

    def delete_manifest(self, name: Name, digest: Digest, origin: str) -> None:
        """Deletes a manifest and its tags. Raises DeniedError, NotFoundError."""
        where = self._where(name, lambda r: self._catalog.document_by_digest(r, digest))
        self._catalog.deletions.delete_manifest(where, digest, self._clock(), origin)
        self._index_outdated.notify()

    def delete_blob(self, name: Name, digest: Digest, origin: str) -> None:
        """Deletes a blob. Raises DeniedError, NotFoundError, ConflictError if it is in use."""
        where = self._where(name, lambda r: self._catalog.holds_blob(r, digest))
        self._catalog.deletions.delete_blob(where, digest, self._clock(), origin)
        self._index_outdated.notify()

    def _where(self, name: Name, has: Callable[[Repository], object]) -> Repository:
        """The first repository under the name for which `has` is true.

        Raises NotFoundError if there is none, DeniedError if deletions from it are not allowed.
        """
        _check_switch(self._settings.delete, "delete")
        named = candidates(self._catalog, name, self._settings.default_registry)
        found = next((repository for repository in named if has(repository)), None)
        if found is None:
            raise NotFoundError(f"{name} does not have the content to delete")
        _check(self._settings.delete, found, "delete")
        return found

    def _target(self, name: Name) -> Repository:
        """The target repository of a push. Raises DeniedError, ReferenceInvalidError."""
        target = push_target(name)
        if len(str(target)) > MAX_REPOSITORY_LENGTH:
            raise ReferenceInvalidError(
                f"the repository name is longer than {MAX_REPOSITORY_LENGTH} characters"
            )
        _check_switch(self._settings.push, "push")
        _check(self._settings.push, target, "push")
        return target


def _check_switch(policy: str, setting: str) -> None:
    if policy == "none":
        raise SwitchedOffError(f'{setting} is disabled by the setting `{setting} = "none"`')


def _check(policy: str, repository: Repository, setting: str) -> None:
    if policy == "own" and repository.host:
        raise DeniedError(
            f"{repository} is a name of the registry {repository.host}, and the setting "
            f'`{setting} = "own"` allows names without a registry only; use `{setting} = "all"`'
        )
