"""Fetches blobs from upstreams: one fetch of a blob, however many clients wait for it."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Protocol, TypeVar

from airside.core.errors import (
    AirsideError,
    DigestMismatchError,
    StoreError,
    UpstreamAwayError,
    UpstreamError,
)
from airside.core.settings import Settings
from airside.oci.digest import Digest
from airside.oci.reference import Repository
from airside.registry.proxy.expiring_cache import ExpiringCache
from airside.registry.proxy.fetch import BlobWriter, Fetch
from airside.registry.proxy.single_flight import SingleFlight
from airside.registry.proxy.upstreams import (
    NEGATIVE_SECONDS,
    WRONG_SECONDS,
    Upstreams,
    logged_reason,
)

Result = TypeVar("Result")


class BlobCache(BlobWriter, Protocol):
    """The store of fetched blobs: `registry.proxy.cache_writer.CacheWriter`, documented there."""

    def stat(self, digest: Digest) -> int | None: ...
    def link_blob(self, repository: Repository, digest: Digest) -> bool: ...
    def failed(self, error: AirsideError) -> None: ...


class BlobFetches:
    """All running fetches of blobs. For one event loop."""

    def __init__(
        self,
        settings: Settings,
        upstreams: Upstreams,
        cache: BlobCache,
        pool: Executor,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._upstreams, self._cache = settings, upstreams, cache
        self._pool = pool
        self._absent = ExpiringCache(clock)
        self._fetches: dict[Digest, Fetch] = {}
        self._flights = SingleFlight()

    async def cancel(self) -> None:
        """Cancels all fetches, and waits until they have ended."""
        await self._flights.cancel()

    def known_reason(self, repository: Repository, digest: Digest) -> str | None:
        """The reason of a recent failure to find this blob; None if there was none."""
        reason: str | None = self._absent.get((repository, digest))
        return reason

    async def find(
        self, repository: Repository, digest: Digest, *, whole: bool
    ) -> Fetch | int | str:
        """Looks for a blob that the catalog lacks. Returns its fetch, its size or a reason.

        With `whole` the fetch is started; without, the size in bytes is enough if the upstream
        declares one. A size with `whole`, and a fetch with `is_stored`, mean that the catalog has
        the blob now. The reason says why the blob cannot be fetched.
        """
        try:
            return await self._find(repository, digest, whole=whole)
        except AirsideError as exc:
            return self._record_failure(repository, digest, exc)
        except TimeoutError:  # a small blob, or one fetched for another name: the fetch continues
            upstream = self._upstreams.client(repository.host).upstream
            return f"{upstream} takes longer than upstream_seconds; retry later"

    async def _find(self, repository: Repository, digest: Digest, *, whole: bool) -> Fetch | int:
        fetch = self._fetches.get(digest)
        if fetch is not None and fetch.repository != repository:
            async with asyncio.timeout(self._settings.upstream_seconds):
                with suppress(AirsideError):
                    await fetch.until_stored()
            fetch = None
        if fetch is None:
            held = await self._run_in_pool(self._cache.stat, digest)
            if held is not None or not whole:
                size = await self._size(repository, digest)
                if held is not None:
                    await self._run_in_pool(self._cache.link_blob, repository, digest)
                    return held
                if size is not None:
                    return size
            fetch = self._start(repository, digest)
        async with asyncio.timeout(self._settings.upstream_seconds):
            await fetch.until_answered()
            if fetch.size_bytes is None or fetch.is_stored:
                await fetch.until_stored()
        return fetch

    async def _size(self, repository: Repository, digest: Digest) -> int | None:
        try:
            async with self._upstreams.asking(repository.host) as client:
                return await client.blob_size(repository.path, digest)
        except AirsideError as exc:
            self._cache.failed(exc)
            raise

    def _start(self, repository: Repository, digest: Digest) -> Fetch:
        """Starts a fetch, unless the blob is being fetched already. Raises UpstreamError."""
        under_way = self._fetches.get(digest)
        if under_way is not None:
            return under_way
        limits = self._settings.limits
        if len(self._fetches) >= limits.fetches:
            raise UpstreamError(
                f"{limits.fetches} blobs are being fetched (limits.fetches): retry later"
            )
        client = self._upstreams.available(repository.host)
        fetch = self._fetches[digest] = Fetch(
            client, repository, digest, self._cache, self._pool, limits.blob_bytes
        )
        self._flights.start(fetch, self._run(fetch))
        return fetch

    async def _run(self, fetch: Fetch) -> None:
        host = fetch.repository.host
        try:
            failure = await fetch.run()
            if isinstance(failure, UpstreamAwayError):
                self._upstreams.failed(host)
            elif not isinstance(failure, StoreError):
                self._upstreams.succeeded(host)
            if failure is not None:
                self._cache.failed(failure)
                self._record_failure(fetch.repository, fetch.digest, failure)
        finally:
            self._fetches.pop(fetch.digest, None)

    def _record_failure(self, repository: Repository, digest: Digest, exc: AirsideError) -> str:
        reason = logged_reason(repository, exc)
        wrong = isinstance(exc, DigestMismatchError)
        self._absent.put((repository, digest), reason, WRONG_SECONDS if wrong else NEGATIVE_SECONDS)
        return reason

    async def _run_in_pool(self, job: Callable[..., Result], *args: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, job, *args)
