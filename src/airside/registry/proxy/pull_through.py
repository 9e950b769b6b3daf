"""Pull-through: what the catalog lacks and an upstream registry has is fetched, kept and served.

What holds:

- One fetch of a thing however many clients wait for it; a client that goes away ends none.
- A tag that an archive, a push or an import speaks of is never looked for upstream. Another is
  asked for again after `tag_seconds`, by its digest; while the upstream is away, the kept one is
  served.
- An answer takes `upstream_seconds` at most. After a failure of the upstream none is tried for
  `PAUSE_SECONDS`, but for one then; what it lacks or refuses is not asked for `NEGATIVE_SECONDS`.

Lists (tags, catalog) are of our own; referrers are joined with those of the upstream.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, Protocol, Self, TypeVar

from airside.core.circuit_breaker import Breaker
from airside.core.errors import (
    AirsideError,
    DigestMismatchError,
    InputError,
    NotFoundError,
    StoreError,
    UpstreamAwayError,
    UpstreamError,
)
from airside.core.settings import Settings
from airside.oci.digest import Digest, parse_digest
from airside.oci.model import Descriptor, Document, Index, parse_bare_document
from airside.oci.reference import Repository, is_tag
from airside.ports.content import KeptTag
from airside.registry.proxy.client import UpstreamClient
from airside.registry.proxy.fetch import BlobWriter, Fetch
from airside.registry.rules.names import Name
from airside.registry.rules.requests import GetBlob, GetManifest, Intent, ListReferrers
from airside.registry.rules.upstream import asked_repository, checked_document, is_short

Result = TypeVar("Result")

NEGATIVE_SECONDS = 5.0
WRONG_SECONDS = 60.0
"""What came with wrong bytes is not fetched again for so long."""
PAUSE_SECONDS = 5.0
TOUCH_SECONDS = 600.0
"""What was asked for is recorded so often."""

_REMEMBERED = 10_000
_LOG = logging.getLogger("airside.upstream")


class UpstreamCache(BlobWriter, Protocol):
    """Takes what is fetched: `registry.proxy.cache_writer.CacheWriter`, whose methods say more."""

    def is_pushed(self, path: str) -> bool: ...
    def tag(self, repository: Repository, tag: str) -> KeptTag | None: ...
    def stat(self, digest: Digest) -> int | None: ...
    def link_blob(self, repository: Repository, digest: Digest) -> bool: ...
    def keep_document(
        self, repository: Repository, document: Document, tag: str, origin: str
    ) -> None: ...
    def touch(self, references: Iterable[str]) -> None: ...


class _Remembered:
    """What was found out lately, by key; bounded, the oldest goes first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: OrderedDict[object, tuple[float, Any]] = OrderedDict()

    def get(self, key: object) -> Any:
        """None: nothing is known any more."""
        until, value = self._known.get(key, (0.0, None))
        return value if self._clock() < until else None

    def put(self, key: object, value: object, seconds: float) -> None:
        self._known.pop(key, None)
        self._known[key] = (self._clock() + seconds, value)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def forget(self, key: object) -> None:
        self._known.pop(key, None)


class PullThrough:
    """All upstreams. Used with `async with`, on one event loop."""

    def __init__(
        self,
        settings: Settings,
        keeper: UpstreamCache,
        pool: Executor,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._keeper, self._pool = settings, keeper, pool
        online = () if settings.offline else settings.upstream
        document_bytes = settings.limits.document_bytes
        self._clients = {
            table.registry: UpstreamClient(table, settings.upstream_seconds, document_bytes)
            for table in online
            if not table.offline
        }
        self._breakers = {host: Breaker(clock, PAUSE_SECONDS) for host in self._clients}
        self._answers = _Remembered(clock)
        self._flights: dict[object, asyncio.Task[Any]] = {}
        self._fetches: dict[Digest, Fetch] = {}
        self._used: dict[str, None] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for client in self._clients.values():
            await self._stack.enter_async_context(client)
        return self

    async def __aexit__(self, *_: object) -> None:
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        await self._stack.aclose()
        await self._record_use()

    async def run(self) -> None:
        """Record now and then what was asked for."""
        while True:
            await asyncio.sleep(TOUCH_SECONDS)
            await self._record_use()

    async def _record_use(self) -> None:
        used, self._used = list(self._used), {}
        if used:
            try:
                await self._do(self._keeper.touch, used)
            except StoreError as exc:
                _LOG.warning("what is used of upstreams was not recorded: %s", exc.message)

    # what the registry asks

    def concerns(self, intent: Intent | object) -> bool:
        """Whether an upstream may have a part in the answer."""
        return (
            isinstance(intent, GetManifest | GetBlob | ListReferrers)
            and self._host(intent.name) in self._clients
        )

    async def look_for_tag(self, intent: GetManifest) -> str:
        """Before the catalog answers for a tag: have it what the upstream says now.

        Gives why the upstream has no part in the answer; "" if it has, or if that is no news.
        """
        repository, tag = asked_repository(intent.name, self._default), str(intent.reference)
        if isinstance(intent.reference, Digest):
            self._use(f"{repository}@{tag}")
            return ""
        if not is_tag(tag):
            return ""
        if await self._is_own(intent.name):
            return ""
        self._use(f"{repository}:{tag}")
        return await self._remembered(
            ("tag", repository, tag), partial(self._refresh, repository, tag)
        )

    async def look_for_digest(self, intent: GetManifest) -> str:
        """Have the catalog have a manifest that it lacks; gives why that can't be, or ""."""
        digest = intent.reference
        assert isinstance(digest, Digest)
        if await self._is_own(intent.name):
            return ""
        repository = asked_repository(intent.name, self._default)
        return await self._remembered(
            ("manifest", repository, digest), partial(self._fetch_digest, repository, digest)
        )

    async def find_blob(self, intent: GetBlob, *, whole: bool) -> Fetch | int | str:
        """A blob that the catalog lacks: one that comes, the size of one that could (not `whole`).

        Or why not. After a `Fetch` that is kept the catalog has it.
        """
        repository, digest = asked_repository(intent.name, self._default), intent.digest
        key = ("blob", repository, digest)
        why = self._answers.get(key)
        if why is None and await self._is_own(intent.name):
            why = ""
        if why is not None:
            return str(why)
        try:
            return await self._find_blob(repository, digest, whole=whole)
        except AirsideError as exc:
            return self._why_not(key, exc)
        except TimeoutError:  # of a small one, or of one for another name: it goes on
            return f"{self._clients[repository.host].upstream} takes longer than upstream_seconds"

    async def referrers(self, intent: ListReferrers) -> Sequence[Descriptor]:
        """What the upstream knows to refer to a manifest; empty where it can't be asked."""
        repository = asked_repository(intent.name, self._default)
        if await self._is_own(intent.name):
            return ()
        key = ("referrers", repository, intent.digest)
        known = self._answers.get(key)
        if known is None:
            known = await self._once(key, partial(self._referrers, key, repository, intent.digest))
        return tuple(known)

    # names

    @property
    def _default(self) -> str:
        return self._settings.default_registry

    def _host(self, name: Name) -> str:
        return asked_repository(name, self._default).host

    async def _is_own(self, name: Name) -> bool:
        """Whether a short name was pushed here: nobody upstream may stand in for it."""
        return is_short(name) and await self._do(self._keeper.is_pushed, name.text)

    def _use(self, reference: str) -> None:
        if len(self._used) < _REMEMBERED:
            self._used[reference] = None

    # manifests

    async def _refresh(self, repository: Repository, tag: str) -> tuple[str, float]:
        kept = await self._do(self._keeper.tag, repository, tag)
        if kept is not None and kept.is_ours:
            return "", self._settings.tag_seconds
        try:
            async with self._asking(repository.host) as client:
                said = await client.tag_digest(repository.path, tag) if kept is not None else ""
                if kept is None or said != str(kept.digest):
                    await self._fetch(client, repository, tag, said)
        except AirsideError as exc:
            why = self._told(repository, exc)
            seconds = WRONG_SECONDS if isinstance(exc, InputError) else NEGATIVE_SECONDS
            return ("" if kept is not None else why), seconds
        return "", self._settings.tag_seconds

    async def _fetch_digest(self, repository: Repository, digest: Digest) -> tuple[str, float]:
        try:
            async with self._asking(repository.host) as client:
                await self._fetch(client, repository, "", str(digest))
        except AirsideError as exc:
            seconds = WRONG_SECONDS if isinstance(exc, InputError) else NEGATIVE_SECONDS
            return self._told(repository, exc), seconds
        return "", 0.0

    async def _fetch(
        self, client: UpstreamClient, repository: Repository, tag: str, digest_text: str
    ) -> None:
        """Fetch and keep a manifest: of a tag, by the digest that it has if that is known."""
        digest = parse_digest(digest_text) if digest_text else None
        fetched = await client.manifest(repository.path, digest or tag)
        if digest is None and fetched.digest:
            digest = parse_digest(fetched.digest)
        document = checked_document(fetched.raw, fetched.media_type, digest)
        origin = client.upstream.url
        await self._do(self._keeper.keep_document, repository, document, tag, origin)
        _LOG.info("%s: %s from %s", f"{repository}:{tag}" if tag else repository, digest, origin)

    async def _referrers(
        self, key: object, repository: Repository, digest: Digest
    ) -> Sequence[Descriptor]:
        found: tuple[Descriptor, ...] = ()
        seconds = self._settings.tag_seconds
        try:
            async with self._asking(repository.host) as client:
                raw = await client.referrers(repository.path, digest)
            document = parse_bare_document(raw, "the list of referrers")
            if isinstance(document.content, Index):
                found = document.content.manifests
        except AirsideError as exc:
            self._told(repository, exc)
            seconds = NEGATIVE_SECONDS
        self._answers.put(key, found, seconds)
        return found

    # blobs

    async def _find_blob(
        self, repository: Repository, digest: Digest, *, whole: bool
    ) -> Fetch | int | str:
        fetch = self._fetches.get(digest)
        if fetch is not None and fetch.repository != repository:
            async with asyncio.timeout(self._settings.upstream_seconds):
                with suppress(AirsideError):
                    await fetch.until_kept()
            fetch = None
        if fetch is None:
            held = await self._do(self._keeper.stat, digest)
            if held is not None or not whole:
                size = await self._size(repository, digest)
                if held is not None:
                    await self._do(self._keeper.link_blob, repository, digest)
                    return held
                if size is not None:
                    return size
            fetch = self._start(repository, digest)
        async with asyncio.timeout(self._settings.upstream_seconds):
            await fetch.until_answered()
            if fetch.size_bytes is None or fetch.is_kept:
                await fetch.until_kept()
        return fetch

    async def _size(self, repository: Repository, digest: Digest) -> int | None:
        async with self._asking(repository.host) as client:
            return await client.blob_size(repository.path, digest)

    def _start(self, repository: Repository, digest: Digest) -> Fetch:
        """Begin to fetch a blob, unless that is under way. Raises UpstreamError."""
        under_way = self._fetches.get(digest)
        if under_way is not None:
            return under_way
        most = self._settings.limits.fetches
        if len(self._fetches) >= most:
            raise UpstreamError(f"{most} blobs are being fetched (limits.fetches): try again later")
        if not self._breakers[repository.host].allows():
            raise UpstreamError(f"{self._clients[repository.host].upstream} did not answer lately")
        fetch = self._fetches[digest] = Fetch(
            self._clients[repository.host],
            repository,
            digest,
            self._keeper,
            self._pool,
            self._settings.limits.blob_bytes,
        )
        flight = asyncio.create_task(self._run(fetch))
        self._flights[fetch] = flight
        return fetch

    async def _run(self, fetch: Fetch) -> None:
        breaker = self._breakers[fetch.repository.host]
        try:
            failure = await fetch.run()
            if isinstance(failure, UpstreamAwayError):
                breaker.failed()
            elif not isinstance(failure, StoreError):
                breaker.worked()
            if failure is not None:
                self._why_not(("blob", fetch.repository, fetch.digest), failure)
        finally:
            self._fetches.pop(fetch.digest, None)
            self._flights.pop(fetch, None)

    # how it is asked

    @asynccontextmanager
    async def _asking(self, host: str) -> AsyncIterator[UpstreamClient]:
        """One question to an upstream, bounded in time, if its breaker allows one."""
        client, breaker = self._clients[host], self._breakers[host]
        if not breaker.allows():
            raise UpstreamError(f"{client.upstream} did not answer lately")
        try:
            async with asyncio.timeout(self._settings.upstream_seconds):
                yield client
        except (UpstreamAwayError, TimeoutError) as exc:
            message = getattr(exc, "message", f"{client.upstream} does not answer in time")
            if breaker.failed():
                _LOG.warning("%s; what is kept of it is served", message)
            raise UpstreamAwayError(message) from exc
        except (NotFoundError, UpstreamError):
            self._answers_again(host)
            raise
        self._answers_again(host)

    def _answers_again(self, host: str) -> None:
        if self._breakers[host].worked():
            _LOG.info("%s answers again", self._clients[host].upstream)

    def _told(self, repository: Repository, exc: AirsideError) -> str:
        """Why not, as a client is told it; the log has it too, where it is more than absence."""
        if not isinstance(exc, NotFoundError):
            level = logging.WARNING if isinstance(exc, InputError | StoreError) else logging.INFO
            _LOG.log(level, "%s: %s", repository, exc.message)
        return exc.message

    def _why_not(self, key: tuple[str, Repository, Digest], exc: AirsideError) -> str:
        why = self._told(key[1], exc)
        wrong = isinstance(exc, DigestMismatchError)
        self._answers.put(key, why, WRONG_SECONDS if wrong else NEGATIVE_SECONDS)
        return why

    async def _remembered(
        self, key: object, look: Callable[[], Coroutine[Any, Any, tuple[str, float]]]
    ) -> str:
        known = self._answers.get(key)
        if known is not None:
            return str(known)

        async def remember() -> str:
            why, seconds = await look()
            self._answers.put(key, why, seconds)
            return why

        return await self._once(key, remember)

    async def _once(self, key: object, job: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Do it, or wait for who does it already. A client that goes away ends nothing."""
        flight: asyncio.Task[Result] | None = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(job())
            flight.add_done_callback(lambda _done: self._flights.pop(key, None))
        return await asyncio.shield(flight)

    async def _do(self, job: Callable[..., Result], *args: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, job, *args)
