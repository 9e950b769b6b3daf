"""Pull-through: content that the catalog lacks is fetched from an upstream, stored and served.

Always holds:

- Each manifest or blob is fetched once however many clients wait; a disconnect ends no fetch.
- A tag of an archive, a push or an import is never looked for upstream. Any other is checked again
  after `tag_seconds`, by its digest; while the upstream is away, the stored one is served.
- An upstream has `upstream_seconds` to answer.
- Documents from upstream are in files while they arrive, and reserve the memory of parsing as
  pushed ones do; one that gets none within `upstream_seconds` counts as refused.

Lists (tags, catalog) contain our own content; referrers include those of the upstream.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, Self, TypeVar

from airside.core.disk_space import DiskSpace
from airside.core.errors import AirsideError, InputError, StoreError, UpstreamError
from airside.core.memory_account import MemoryAccount
from airside.core.settings import MIB, Settings
from airside.oci.digest import Digest, parse_digest
from airside.oci.model import Descriptor, Document, Index, parse_bare_document
from airside.oci.reference import Repository, is_tag
from airside.ports.content import KeptTag
from airside.registry.documents.bodies import DocumentBodies, DocumentBody
from airside.registry.documents.budget import DocumentBudget
from airside.registry.proxy.blob_fetches import BlobCache, BlobFetches
from airside.registry.proxy.client import Fetched, UpstreamClient
from airside.registry.proxy.expiring_cache import ExpiringCache
from airside.registry.proxy.fetch import Fetch
from airside.registry.proxy.single_flight import SingleFlight
from airside.registry.proxy.upstreams import (
    NEGATIVE_SECONDS,
    WRONG_SECONDS,
    Upstreams,
    logged_reason,
)
from airside.registry.rules.names import Name
from airside.registry.rules.requests import GetBlob, GetManifest, Intent, ListReferrers
from airside.registry.rules.upstream import checked_document, is_short, upstream_repository

Result = TypeVar("Result")

TOUCH_SECONDS = 600.0
"""Interval between two records of the references that clients used."""

_MAX_USED = 10_000
_MOST_FILES = 16
"""Bodies in files; each is there for `upstream_seconds` at most."""
_REFERRERS_BYTES = 2 * MIB
"""The memory of one list of referrers from upstream: about 500 of them."""
_LOG = logging.getLogger("airside.upstream")


class UpstreamCache(BlobCache, Protocol):
    """Stores fetched content: `registry.proxy.cache_writer.CacheWriter`, documented there."""

    def is_pushed(self, path: str) -> bool: ...

    def is_dropped(self, repository: Repository, tag: str) -> bool: ...
    def tag(self, repository: Repository, tag: str) -> KeptTag | None: ...
    def store_document(
        self, repository: Repository, document: Document, tag: str, origin: str
    ) -> None: ...
    def touch(self, references: Iterable[str]) -> None: ...


class PullThrough:
    """Answers from all upstreams. Used with `async with`. For one event loop."""

    def __init__(
        self,
        settings: Settings,
        cache: UpstreamCache,
        pool: Executor,
        memory: MemoryAccount,
        space: DiskSpace,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._cache, self._pool = settings, cache, pool
        limit_bytes = settings.limits.document_bytes
        directory = settings.data / "ingest"
        self._bodies = DocumentBodies(directory, pool, limit_bytes, space, _MOST_FILES)
        self._budget = DocumentBudget(memory, settings.upstream_seconds)
        self._upstreams = Upstreams(settings, self._bodies, clock)
        self._blobs = BlobFetches(settings, self._upstreams, cache, pool, clock)
        self._answers = ExpiringCache(clock)
        self._flights = SingleFlight()
        self._used: dict[str, None] = {}

    async def __aenter__(self) -> Self:
        await self._upstreams.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(self._flights.cancel(), self._blobs.cancel())
        await self._upstreams.__aexit__()
        await self._record_use()

    async def run(self) -> None:
        """Records every `TOUCH_SECONDS` which references clients used."""
        while True:
            await asyncio.sleep(TOUCH_SECONDS)
            await self._record_use()

    async def _record_use(self) -> None:
        used, self._used = list(self._used), {}
        if used:
            try:
                await self._run_in_pool(self._cache.touch, used)
            except StoreError as exc:
                _LOG.warning(
                    "cannot record the use of %d upstream references: %s; they may expire early",
                    len(used),
                    exc.message,
                )

    # requests of the registry

    def serves(self, intent: Intent | object) -> bool:
        """Returns True if an upstream is configured for the registry of the request."""
        return (
            isinstance(intent, GetManifest | GetBlob | ListReferrers)
            and self._host(intent.name) in self._upstreams
        )

    async def refresh_tag(self, intent: GetManifest) -> str:
        """Updates a tag in the catalog from its upstream, before the catalog answers for it.

        Returns why the upstream could not provide the tag; "" if it did, or if the catalog has it.
        """
        repository, tag = upstream_repository(intent.name, self._default), str(intent.reference)
        if isinstance(intent.reference, Digest):
            self._use(f"{repository}@{tag}")
            return ""
        if not is_tag(tag):
            return ""
        if await self._is_own(intent.name):
            return ""
        if is_short(intent.name) and await self._run_in_pool(
            self._cache.is_dropped, repository, tag
        ):
            return ""
        self._use(f"{repository}:{tag}")
        return await self._cached(("tag", repository, tag), partial(self._refresh, repository, tag))

    async def fetch_manifest(self, intent: GetManifest) -> str:
        """Fetches a manifest that the catalog lacks. Returns "", or why it failed."""
        digest = intent.reference
        assert isinstance(digest, Digest)
        if await self._is_own(intent.name):
            return ""
        repository = upstream_repository(intent.name, self._default)
        return await self._cached(
            ("manifest", repository, digest), partial(self._fetch_digest, repository, digest)
        )

    async def find_blob(self, intent: GetBlob, *, whole: bool) -> Fetch | int | str:
        """Looks for a blob that the catalog lacks; the results are those of `BlobFetches.find`.

        The reason is empty for a short name that was pushed here.
        """
        repository, digest = upstream_repository(intent.name, self._default), intent.digest
        reason = self._blobs.known_reason(repository, digest)
        if reason is None and await self._is_own(intent.name):
            reason = ""
        if reason is not None:
            return reason
        return await self._blobs.find(repository, digest, whole=whole)

    async def referrers(self, intent: ListReferrers) -> Sequence[Descriptor]:
        """The referrers of a manifest at the upstream; empty if it cannot be reached."""
        repository = upstream_repository(intent.name, self._default)
        if await self._is_own(intent.name):
            return ()
        key = ("referrers", repository, intent.digest)
        known = self._answers.get(key)
        if known is None:
            known = await self._flights.run(
                key, partial(self._referrers, key, repository, intent.digest)
            )
        return tuple(known)

    # names

    @property
    def _default(self) -> str:
        return self._settings.default_registry

    def _host(self, name: Name) -> str:
        return upstream_repository(name, self._default).host

    async def _is_own(self, name: Name) -> bool:
        """Returns True for a short name that was pushed here: an upstream must not replace it."""
        return is_short(name) and await self._run_in_pool(self._cache.is_pushed, name.text)

    def _use(self, reference: str) -> None:
        if len(self._used) < _MAX_USED:
            self._used[reference] = None

    # manifests

    async def _refresh(self, repository: Repository, tag: str) -> tuple[str, float]:
        stored = await self._run_in_pool(self._cache.tag, repository, tag)
        if stored is not None and stored.is_ours:
            return "", self._settings.tag_seconds
        try:
            async with self._upstreams.asking(repository.host) as client:
                upstream_digest = (
                    await client.tag_digest(repository.path, tag) if stored is not None else ""
                )
                if stored is not None and upstream_digest == str(stored.digest):
                    return "", self._settings.tag_seconds
                fetched = await self._fetch(client, repository, tag, upstream_digest)
            await self._store(repository, tag, fetched)
        except AirsideError as exc:
            self._cache.failed(exc)
            why = logged_reason(repository, exc)
            seconds = WRONG_SECONDS if isinstance(exc, InputError) else NEGATIVE_SECONDS
            return ("" if stored is not None else why), seconds
        return "", self._settings.tag_seconds

    async def _fetch_digest(self, repository: Repository, digest: Digest) -> tuple[str, float]:
        try:
            async with self._upstreams.asking(repository.host) as client:
                fetched = await self._fetch(client, repository, "", str(digest))
            await self._store(repository, "", fetched)
        except AirsideError as exc:
            self._cache.failed(exc)
            seconds = WRONG_SECONDS if isinstance(exc, InputError) else NEGATIVE_SECONDS
            return logged_reason(repository, exc), seconds
        return "", 0.0

    async def _fetch(
        self, client: UpstreamClient, repository: Repository, tag: str, digest_text: str
    ) -> Fetched:
        """Fetches a manifest: by its digest if that is known, else by its tag."""
        digest = parse_digest(digest_text) if digest_text else None
        fetched = await client.manifest(repository.path, digest or tag)
        return fetched if digest is None else replace(fetched, digest=str(digest))

    async def _store(self, repository: Repository, tag: str, fetched: Fetched) -> None:
        """Verifies and stores a fetched manifest, under a tag if one is given; closes its body."""
        origin = self._upstreams.client(repository.host).upstream.url

        def store() -> Digest:
            digest = parse_digest(fetched.digest) if fetched.digest else None
            document = checked_document(fetched.body.read(), fetched.media_type, digest)
            self._cache.store_document(repository, document, tag, origin)
            return document.digest

        digest = await self._working(fetched.body, store)
        _LOG.info("fetched %s (%s) from %s", f"{repository}:{tag}".rstrip(":"), digest, origin)

    async def _working(self, body: DocumentBody, job: Callable[[], Result]) -> Result:
        """Runs a job that parses a body, with the memory of that reserved; closes the body."""
        try:
            async with self._budget.reserve(body.work_bytes()):
                return await self._run_in_pool(job)
        finally:
            self._bodies.close(body)

    async def _referrers(
        self, key: object, repository: Repository, digest: Digest
    ) -> Sequence[Descriptor]:
        found: tuple[Descriptor, ...] = ()
        seconds, size_bytes = self._settings.tag_seconds, 0
        try:
            async with self._upstreams.asking(repository.host) as client:
                body = await client.referrers(repository.path, digest)
            size_bytes = body.work_bytes()
            found = await self._working(body, partial(_referrers_in, body, repository))
        except AirsideError as exc:
            self._cache.failed(exc)
            logged_reason(repository, exc)
            seconds = NEGATIVE_SECONDS
        self._answers.put(key, found, seconds, size_bytes if found else 0)
        return found

    # results that hold for a while

    async def _cached(
        self, key: object, look: Callable[[], Coroutine[Any, Any, tuple[str, float]]]
    ) -> str:
        known = self._answers.get(key)
        if known is not None:
            return str(known)

        async def remember() -> str:
            why, seconds = await look()
            self._answers.put(key, why, seconds)
            return why

        return await self._flights.run(key, remember)

    async def _run_in_pool(self, job: Callable[..., Result], *args: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, job, *args)


def _referrers_in(body: DocumentBody, repository: Repository) -> tuple[Descriptor, ...]:
    """Parses a list of referrers. Raises UpstreamError for one that is too large to hold."""
    if body.work_bytes() > _REFERRERS_BYTES:
        raise UpstreamError(
            f"the list of referrers in {repository} is too large ({body.size_bytes} bytes)"
        )
    document = parse_bare_document(body.read(), "the list of referrers")
    return document.content.manifests if isinstance(document.content, Index) else ()
