"""The registry over HTTP: an aiohttp application (OCI distribution spec).

What a request means is decided in `registry.routes` and `registry.ranges`; those that write go to
`registry.receiving`. Here are waiting, sending and logging:

- The catalog, the store and container runtimes are read in the `reads` pool, never on the event
  loop.
- Answers that fit into memory (manifests, lists, and their 404s) are cached by their target until
  the view's generation changes, so that a hit never leaves the loop. What is read through from a
  container runtime (`registry.through`) is not cached.
- What these lack is asked for upstream (`upstream.proxy`): tags before the catalog answers, the
  rest after it. What comes is kept by then, or in the case of a large blob sent while it comes.
- Blobs go out by `sendfile` in slices; between two slices the client's going and our shutdown
  are noticed. Under TLS, and for files that have no descriptor, chunks are read in the pool.

Always holds: a client that goes away is no error, and no file stays open after its response.
Left to the agent: the runner (address, TLS, time-outs, `access_log=None`) and the pool's size.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import BinaryIO

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from airside import __version__
from airside.core.errors import AirsideError, OverdueError, StoreError
from airside.core.settings import CHUNK_BYTES, MIB
from airside.oci.digest import Digest
from airside.oci.model import Descriptor
from airside.ports.content import Connection, ContentStore, RegistryView
from airside.registry.http.answer_cache import AnswerCache
from airside.registry.http.deadline import DeadlinePool
from airside.registry.http.middleware import ACCESS, AccessGuard, cache_key, target_of
from airside.registry.http.receive import Receiver
from airside.registry.http.throttle import OUT
from airside.registry.proxy.fetch import Fetch
from airside.registry.proxy.pull_through import PullThrough
from airside.registry.rules.answers import Answer, Part, failure, problem, with_reason
from airside.registry.rules.lookup import absent_blob, answer, answer_referrers, find_blob
from airside.registry.rules.ranges import Conditions, conditional, plan_blob
from airside.registry.rules.read_through import ReadThrough, RuntimeLookup
from airside.registry.rules.requests import (
    GetBlob,
    GetManifest,
    Intent,
    ListReferrers,
    parse_request,
)
from airside.registry.rules.upstream import asked_repository
from airside.registry.rules.writes import is_write

SLICE_BYTES = 2 * MIB
"""What one `sendfile` moves before we look around."""
STALL_SECONDS = 300.0
"""A client that doesn't take a slice in this time is cut off; this allows 7 kB/s."""
SLOW_SECONDS = 1.0
"""An answer that takes longer, its body not counted, is logged."""

_SERVER = f"airside/{__version__}"
_LOG = logging.getLogger("airside.registry")


def create_app(
    view: RegistryView,
    store: ContentStore,
    *,
    default_registry: str,
    reads: Executor,
    read_through: ReadThrough | None = None,
    receiver: Receiver | None = None,
    guard: AccessGuard | None = None,
    pull_through: PullThrough | None = None,
    answer_seconds: float = 0.0,
) -> web.Application:
    """Make the application. The caller owns the view, the store and the pool, and runs it.

    More routes (a page, metrics) may be added before it runs: this one takes what is left.
    `read_through` gives the container runtimes that are asked for what the view has not, `receiver`
    takes pushes and deletions; without one they are refused. `guard` lets through who may, and says
    what they see; without it everybody sees everything. `pull_through` asks the registries upstream
    for what is absent. What catalog and store don't answer within `answer_seconds` (0: it may take
    longer) is a 404 for a container runtime that asks its mirror, else a 503.
    """
    through = read_through or ReadThrough(policy="false")
    registry = _Registry(
        view,
        store,
        default_registry,
        DeadlinePool(reads, answer_seconds),
        through,
        receiver,
        pull_through,
    )
    app = web.Application(middlewares=[guard.middleware] if guard else [])
    app.router.add_get("/", _say_hello, expect_handler=_expect)
    app.router.add_get("/healthz", _say_ok, expect_handler=_expect)
    everything = _Everything("/{target}")
    everything.add_route("*", registry.respond, expect_handler=_expect)
    app.router.register_resource(everything)
    app.on_shutdown.append(registry.stop)
    return app


class _Everything(web.DynamicResource):
    """What no other route takes, `OPTIONS *` and `CONNECT` too."""

    def _match(self, path: str) -> dict[str, str]:
        return {"target": path}


async def _expect(request: web.Request) -> None:
    """As aiohttp does, whose refusal quotes what may be no text."""
    if request.version != HttpVersion11:
        return
    if request.headers.get(hdrs.EXPECT, "").lower() != "100-continue":
        raise web.HTTPExpectationFailed(text="only 100-continue can be expected\n")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer has not begun


async def _say_hello(_request: web.Request) -> web.Response:
    return web.Response(text=f"Airside registry {__version__}, see /v2/_catalog\n")


async def _say_ok(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


class _Registry:
    """The route of everything under `/v2/`."""

    def __init__(
        self,
        view: RegistryView,
        store: ContentStore,
        default_registry: str,
        reads: DeadlinePool,
        read_through: ReadThrough,
        receiver: Receiver | None,
        pull_through: PullThrough | None,
    ) -> None:
        self._view = view
        self._store = store
        self._default_registry = default_registry
        self._reads = reads
        self._read_through = read_through
        self._receiver = receiver
        self._pull_through = pull_through
        self._cache = AnswerCache()
        self._transfers = _Transfers()

    async def stop(self, _app: web.Application) -> None:
        self._transfers.stop()

    async def respond(self, request: web.Request) -> web.StreamResponse:
        started = time.monotonic()
        try:
            response = await self._respond(request)
        except AirsideError as exc:
            response = _response(_failed(request, exc))
            level = logging.WARNING if response.status >= 500 else logging.DEBUG
            _LOG.log(level, "%s %s: %s", request.method, request.path, exc.message)
        except Exception as exc:  # noqa: BLE001 a bug; the client gets an answer, the log all of it
            _LOG.exception("%s %s failed", request.method, request.path)
            response = _response(failure(exc))
        _log(request, response, time.monotonic() - started)
        return response

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        target = target_of(request)
        if self._receiver is not None and is_write(request.method, target):
            return _response(await self._receive(self._receiver, request, target))
        upstream, why = self._upstream(request, target), ""
        if upstream is not None and isinstance(upstream[1], GetManifest):
            why = await upstream[0].look_for_tag(upstream[1])
        generation, key = self._view.generation, cache_key(request, target)
        found = self._cache.get(key, generation) if request.method in {"GET", "HEAD"} else None
        if found is None:
            intent = parse_request(request.method, target)
            if isinstance(intent, GetBlob):
                return await self._respond_blob(request, intent)
            if isinstance(intent, Answer):
                return _response(intent)
            if upstream is not None and isinstance(intent, ListReferrers):
                view, also = _seen(request, self._view), await upstream[0].referrers(intent)
                return _response(await self._reads.run(self._answer_referrers, view, intent, also))
            found = await self._reads.run(self._answer, _seen(request, self._view), intent)
            self._cache.put(key, generation, found)
        if found.status == 404 and self._read_through.policy != "false":
            found = await self._look_through(request, target, found)
        if found.status == 404 and upstream is not None:
            view = _seen(request, self._view)
            found = await self._look_upstream(*upstream, view, found, why)
        if found.etag and (
            hdrs.IF_NONE_MATCH in request.headers or hdrs.IF_MATCH in request.headers
        ):
            found = conditional(found, _conditions(request))
        return _response(found)

    async def _receive(self, receiver: Receiver, request: web.Request, target: str) -> Answer:
        intent = receiver.parse(request, target)
        return intent if isinstance(intent, Answer) else await receiver.respond(request, intent)

    def _answer(self, view: RegistryView, intent: Intent) -> Answer:
        return answer(view, intent, self._default_registry)

    def _answer_referrers(
        self, view: RegistryView, intent: ListReferrers, also: Sequence[Descriptor]
    ) -> Answer:
        return answer_referrers(view, intent, self._default_registry, also)

    def _through(self, request: web.Request) -> RuntimeLookup:
        access = request.get(ACCESS)
        read = self._read_through if access is None else access.through(self._read_through)
        return RuntimeLookup(_seen(request, self._view), read, self._default_registry)

    async def _look_through(self, request: web.Request, target: str, absent: Answer) -> Answer:
        """What a container runtime has of what the catalog has not."""
        intent = parse_request(request.method, target)
        if not isinstance(intent, GetManifest):
            return absent
        through, connection = self._through(request), _connection(request)
        return await self._reads.run(through.manifest, intent, connection, absent)

    def _upstream(self, request: web.Request, target: str) -> tuple[PullThrough, Intent] | None:
        """What a registry upstream may have a part in, if the client may read that repository."""
        if self._pull_through is None or request.method not in {"GET", "HEAD"}:
            return None
        intent = parse_request(request.method, target)
        if isinstance(intent, Answer) or not self._pull_through.concerns(intent):
            return None
        assert isinstance(intent, GetManifest | GetBlob | ListReferrers)
        access = request.get(ACCESS)
        repository = asked_repository(intent.name, self._default_registry)
        if access is not None and not access.rights.may("pull", repository):
            return None
        return self._pull_through, intent

    async def _look_upstream(
        self,
        pull_through: PullThrough,
        intent: Intent,
        view: RegistryView,
        absent: Answer,
        why: str,
    ) -> Answer:
        """What a registry upstream has of a manifest that is nowhere here."""
        if not isinstance(intent, GetManifest):
            return absent
        if isinstance(intent.reference, Digest):
            why = await pull_through.look_for_digest(intent)
            if not why:
                return await self._reads.run(self._answer, view, intent)
        return with_reason(absent, why)

    async def _respond_blob(self, request: web.Request, intent: GetBlob) -> web.StreamResponse:
        method, conditions = request.method, _conditions(request)
        through, view = self._through(request), _seen(request, self._view)

        def read() -> Answer | tuple[Part, BinaryIO | None]:
            if method == "HEAD" and self._receiver and not self._receiver.asked(intent.digest):
                return absent_blob(view, intent, self._default_registry)
            size, open_blob = self._find_blob(view, intent, through)
            if isinstance(size, Answer):
                return size
            planned = plan_blob(method, intent.digest, size, conditions)
            if isinstance(planned, Answer):
                return planned
            wanted = method == "GET" and planned.count > 0
            return planned, open_blob() if wanted else None

        found = await self._reads.run(read, close=_close_opened)
        upstream = self._upstream(request, target_of(request))
        if upstream is not None and isinstance(found, Answer) and found.status == 404:
            came = await upstream[0].find_blob(intent, whole=method == "GET")
            if isinstance(came, str):
                return _response(with_reason(found, came))
            planned = await self._plan_fetched(came, intent, method, conditions)
            if planned is not None:
                return planned
            found = await self._reads.run(read, close=_close_opened)
        if isinstance(found, Answer):
            return _response(found)
        part, file = found
        return _BlobResponse(part, file, self._reads.pool, self._transfers)

    async def _plan_fetched(
        self, came: Fetch | int, intent: GetBlob, method: str, conditions: Conditions
    ) -> web.StreamResponse | None:
        """The response with what comes from upstream; None if it is ours by now."""
        is_here = came.is_kept if isinstance(came, Fetch) else method == "GET"
        size = came.size_bytes if isinstance(came, Fetch) else came
        if is_here or size is None:
            return None
        part = plan_blob(method, intent.digest, size, conditions)
        if isinstance(part, Answer):
            return _response(part)
        if not isinstance(came, Fetch) or method == "HEAD" or not part.count:
            return _BlobResponse(part, None, self._reads.pool, self._transfers)
        try:
            file = await self._reads.run(came.open, close=_close)
        except StoreError:  # it was kept in the meantime, or it failed
            await came.until_kept()
            return None
        return _BlobResponse(part, file, self._reads.pool, self._transfers, came)

    def _find_blob(
        self, view: RegistryView, intent: GetBlob, through: RuntimeLookup
    ) -> tuple[int | Answer, Callable[[], BinaryIO]]:
        """The size of a blob or the 404, and how to open it: ours or a container runtime's."""
        size = find_blob(view, self._store.stat, intent, self._default_registry)
        if isinstance(size, Answer):
            found = through.blob(intent)
            if found is not None:
                return found.size_bytes, found.open
        return size, lambda: self._store.open(intent.digest)


def _seen(request: web.Request, view: RegistryView) -> RegistryView:
    """The view as the client may see it."""
    access = request.get(ACCESS)
    return view if access is None else access.view(view)


def _failed(request: web.Request, exc: AirsideError) -> Answer:
    """What is late is a 404 for a container runtime: then it asks the next host."""
    if isinstance(exc, OverdueError):
        intent = parse_request(request.method, target_of(request))
        if isinstance(intent, GetManifest | GetBlob) and intent.name.host:
            return problem(404, "UNKNOWN", exc.message)
    return failure(exc)


def _close_opened(found: Answer | tuple[Part, BinaryIO | None]) -> None:
    if not isinstance(found, Answer) and found[1] is not None:
        found[1].close()


def _close(file: BinaryIO) -> None:
    file.close()


def _connection(request: web.Request) -> Connection | None:
    """None for a client that is gone, or on no TCP socket."""
    transport = request.transport
    ends = [transport.get_extra_info(end) for end in ("peername", "sockname")] if transport else []
    if not ends or not all(isinstance(end, tuple) for end in ends):
        return None
    return Connection(*((str(end[0]), int(end[1])) for end in ends))


def _conditions(request: web.Request) -> Conditions:
    def joined(name: str) -> str | None:
        return ", ".join(request.headers.getall(name, ())) or None

    return Conditions(
        joined(hdrs.IF_MATCH),
        joined(hdrs.IF_NONE_MATCH),
        joined(hdrs.RANGE),
        joined(hdrs.IF_RANGE),
    )


def _headers(pairs: tuple[tuple[str, str], ...]) -> CIMultiDict[str]:
    headers = CIMultiDict(pairs)
    headers["Server"] = _SERVER
    return headers


def _response(found: Answer) -> web.Response:
    """Make the response; to a HEAD, aiohttp sends the length without the body."""
    return web.Response(body=found.body, status=found.status, headers=_headers(found.headers))


def _log(request: web.Request, response: web.StreamResponse, seconds: float) -> None:
    level = logging.DEBUG
    if response.status >= 500 or seconds > SLOW_SECONDS:
        level = logging.WARNING
    if _LOG.isEnabledFor(level):
        _LOG.log(
            level,
            "%s %s from %s: %d in %.3f s",
            request.method,
            request.raw_path,
            request.remote,
            response.status,
            seconds,
        )


class _Transfers:
    """Bounds the slices of all running transfers, and cuts them off when we stop.

    A client that is cut off goes on with a range, here or elsewhere.
    """

    def __init__(self) -> None:
        self._stopping = False
        self._limits: set[asyncio.Timeout] = set()

    def stop(self) -> None:
        self._stopping = True
        for limit in self._limits:
            limit.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def slice(self) -> AsyncIterator[None]:
        """Bound one slice. Raises ConnectionResetError if we stop, OSError if it stalls."""
        if self._stopping:
            raise ConnectionResetError("the registry stops")
        limit = asyncio.timeout(STALL_SECONDS)
        self._limits.add(limit)
        try:
            async with limit:
                yield
        except TimeoutError as exc:
            if self._stopping:
                raise ConnectionResetError("the registry stops") from exc
            raise OSError(f"the client takes less than a slice in {STALL_SECONDS:g} s") from exc
        finally:
            self._limits.discard(limit)


class _BlobResponse(web.StreamResponse):
    """Sends a part of a blob and closes its file; without a file, the headers alone.

    `coming`: the file is still being written.

    Like aiohttp's own file response it sends from `prepare`, where a ConnectionError means that
    the client is gone and the connection is dropped without a word.
    """

    def __init__(
        self,
        part: Part,
        file: BinaryIO | None,
        reads: Executor,
        transfers: _Transfers,
        coming: Fetch | None = None,
    ) -> None:
        super().__init__(status=part.status, headers=_headers(part.headers))
        self.content_length = part.count
        self._part = part
        self._file = file
        self._reads = reads
        self._transfers = transfers
        self._coming = coming

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        file, self._file = self._file, None
        if file is None:
            return await super().prepare(request)
        started = time.monotonic()
        try:
            writer = await super().prepare(request)
            await self._send(request, file)
        except ConnectionError as exc:
            _LOG.debug("%s to %s was given up: %s", request.path, request.remote, exc)
            _abort(request)
            raise
        except OSError as exc:  # of the disk, or of a stalled client
            _LOG.warning("%s to %s was cut off: %r", request.path, request.remote, exc)
            _abort(request)
            raise ConnectionResetError("the transfer was cut off") from exc
        finally:
            file.close()
        seconds = time.monotonic() - started
        _LOG.debug("%s: sent %d bytes in %.3f s", request.path, self._part.count, seconds)
        return writer

    async def _send(self, request: web.BaseRequest, file: BinaryIO) -> None:
        offset, end = self._part.start, self._part.start + self._part.count
        transport = request.transport
        native = transport is not None and transport.get_extra_info("sslcontext") is None
        pace = request.get(OUT)
        slice_bytes = SLICE_BYTES if pace is None else pace.slice_bytes
        while offset < end:
            transport = request.transport
            if transport is None or transport.is_closing():
                raise ConnectionResetError("the client went away")
            count = min(slice_bytes, end - offset)
            if self._coming is not None:
                count = min(count, await self._coming.reach(offset) - offset)
            async with self._transfers.slice():
                if pace is not None:
                    await pace.take(request.remote, count)
                try:
                    if native:
                        sent = await _sendfile(transport, file, offset, count)
                    else:
                        sent = await self._write_chunk(file, offset, count)
                except asyncio.SendfileNotAvailableError:
                    native = False
                    continue
            if not sent:
                raise OSError(f"the file of the blob ends at byte {offset} of {end}")
            offset += sent

    async def _write_chunk(self, file: BinaryIO, offset: int, count: int) -> int:
        def read() -> bytes:
            file.seek(offset)
            return file.read(min(count, CHUNK_BYTES))

        chunk = await asyncio.wrap_future(self._reads.submit(read))
        if chunk:
            await self.write(chunk)
        return len(chunk)


async def _sendfile(transport: asyncio.Transport, file: BinaryIO, offset: int, count: int) -> int:
    loop = asyncio.get_running_loop()
    return await loop.sendfile(transport, file, offset, count, fallback=False)


def _abort(request: web.BaseRequest) -> None:
    """Drop the connection at once: a close would wait for a stalled client to take the rest."""
    if request.transport is not None:
        request.transport.abort()
