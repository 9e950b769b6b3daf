"""The registry over HTTP: an aiohttp application (OCI distribution spec).

The meaning of a request is decided in `registry.rules.requests` and `ranges`; requests that write
are answered by `registry.http.receive`, blobs by `registry.http.blobs`. Here are routes, waiting
and logging:

- The catalog, the store and container runtimes are read in the `reads` pool, never on the event
  loop.
- Answers that fit into memory (manifests, lists, and their 404s) are cached by their target until
  the view's generation changes, so that a hit never leaves the loop. Content of a container runtime
  (`registry.rules.read_through`) is not cached.
- Upstreams (`registry.proxy.pull_through`) are asked for tags and referrers before the catalog
  answers, and for other content after catalog and runtimes had no answer.

Left to the agent: the runner (address, TLS, time-outs, `access_log=None`) and the pool's size.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from aiohttp import HttpVersion11, hdrs, web

from airside import __version__
from airside.core.errors import AirsideError, OverdueError, StoreCorruptError
from airside.core.settings import KIB
from airside.oci.digest import Digest, is_digest, parse_digest
from airside.oci.model import Descriptor
from airside.ports.content import RegistryView
from airside.registry.documents.recent_misses import RecentMisses
from airside.registry.http.answer_cache import AnswerCache
from airside.registry.http.blobs import BlobRoute
from airside.registry.http.deadline import DeadlinePool
from airside.registry.http.metering import RequestCounter
from airside.registry.http.middleware import AccessGuard
from airside.registry.http.miss_recorder import MissRecorder
from airside.registry.http.page_guard import PageGuard
from airside.registry.http.receive import Receiver
from airside.registry.http.request_access import cache_key
from airside.registry.http.requests import conditions_of, connection_of, target_of
from airside.registry.http.responses import response_of
from airside.registry.http.served_content import ServedContent
from airside.registry.proxy.pull_through import PullThrough
from airside.registry.rules.answers import Answer, failure, problem, with_reason
from airside.registry.rules.lookup import answer, answer_referrers
from airside.registry.rules.ranges import conditional
from airside.registry.rules.requests import (
    GetBlob,
    GetManifest,
    Intent,
    ListReferrers,
    parse_request,
)
from airside.registry.rules.writes import is_write

SLOW_SECONDS = 1.0
"""A request is logged if the answer takes longer, without sending a blob's body."""

LARGE_BYTES = 64 * KIB
"""A larger answer is sent from a file: a slow client must not hold its bytes in memory."""
PLACES = 8
"""Answers that are read at once, and large ones that are not yet in their file: 32 MiB at most."""
_LOG = logging.getLogger("airside.registry")


def create_app(
    content: ServedContent,
    reads: DeadlinePool,
    *,
    receiver: Receiver | None = None,
    guard: AccessGuard | None = None,
    pages: PageGuard | None = None,
    counter: RequestCounter | None = None,
    misses: RecentMisses | None = None,
    answers_health: bool = True,
) -> web.Application:
    """Makes the application. The caller owns and closes the arguments, and runs the application.

    The caller may add routes (a page, metrics) before it runs the application, whose own route
    matches every other path. Catalog and store are read in `reads`; a read past its deadline is a
    404 for a container runtime that uses this registry as a mirror, else a 503. `receiver` answers
    pushes and deletions; without one they are refused. `guard` checks the rights of clients;
    without one everybody sees everything. `pages` refuses what web pages may not ask, before that.
    `counter` counts all requests, `misses` notes what containerd asked for in vain.
    `answers_health`: `/healthz` says ok; else the caller adds it.
    """
    registry = _Registry(content, reads, receiver)
    recorder = MissRecorder(misses) if misses else None
    app = web.Application(
        middlewares=[each.middleware for each in (counter, pages, guard, recorder) if each]
    )
    app.router.add_get("/", _say_hello, expect_handler=_expect)
    if answers_health:
        app.router.add_get("/healthz", _say_ok, expect_handler=_expect)
    everything = _CatchAll("/{target}")
    everything.add_route("*", registry.respond, expect_handler=_expect)
    app.router.register_resource(everything)
    app.on_shutdown.append(registry.stop)
    return app


class _CatchAll(web.DynamicResource):
    """Matches every request that no other route matches, also `OPTIONS *` and `CONNECT`."""

    def _match(self, path: str) -> dict[str, str]:
        return {"target": path}


async def _expect(request: web.Request) -> None:
    """Handles `Expect` as aiohttp does, but does not echo the header, which may be no text."""
    if request.version != HttpVersion11:
        return
    if request.headers.get(hdrs.EXPECT, "").lower() != "100-continue":
        raise web.HTTPExpectationFailed(text="only 100-continue can be expected\n")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # only the final response counts


async def _say_hello(_request: web.Request) -> web.Response:
    return web.Response(text=f"Airside registry {__version__}, see /v2/_catalog\n")


async def _say_ok(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


class _Registry:
    """The route of everything under `/v2/`."""

    def __init__(
        self, content: ServedContent, reads: DeadlinePool, receiver: Receiver | None
    ) -> None:
        self._content, self._reads, self._receiver = content, reads, receiver
        self._blobs = BlobRoute(content, reads, receiver)
        self._cache = AnswerCache()
        self._places = asyncio.Semaphore(PLACES)

    async def stop(self, _app: web.Application) -> None:
        self._blobs.stop()

    async def respond(self, request: web.Request) -> web.StreamResponse:
        started = time.monotonic()
        try:
            response = await self._respond(request)
        except AirsideError as exc:
            self._report_damage(exc)
            response = response_of(_error_answer(request, exc))
            level = logging.WARNING if response.status >= 500 else logging.DEBUG
            _LOG.log(level, "%s %s: %s", request.method, request.path, exc.message)
        except Exception as exc:  # noqa: BLE001 a bug: the client gets a 500, the log a traceback
            _LOG.exception("%s %s failed", request.method, request.path)
            response = response_of(failure(exc))
        _log(request, response, time.monotonic() - started)
        return response

    def _report_damage(self, exc: AirsideError) -> None:
        """Has the catalog's damaged copy of a document repaired."""
        text, guard = exc.context.get("blob", ""), self._content.guard
        if isinstance(exc, StoreCorruptError) and is_digest(text) and guard is not None:
            guard.report(parse_digest(text))

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        with ExitStack() as places:
            return await self._respond_within(places, request)

    async def _respond_within(self, places: ExitStack, request: web.Request) -> web.StreamResponse:
        target = target_of(request)
        if self._receiver is not None and is_write(request.method, target):
            return response_of(await self._receive(self._receiver, request, target))
        upstream, why = self._content.upstream_for(request, target), ""
        if upstream is not None and isinstance(upstream[1], GetManifest):
            why = await upstream[0].refresh_tag(upstream[1])
        generation, key = self._content.view.generation, cache_key(request, target)
        found = self._cache.get(key, generation) if request.method in {"GET", "HEAD"} else None
        if found is None:
            intent = parse_request(request.method, target)
            if isinstance(intent, GetBlob):
                return await self._blobs.respond(request, intent)
            if isinstance(intent, Answer):
                return response_of(intent)
            if upstream is not None and isinstance(intent, ListReferrers):
                view, also = self._content.view_for(request), await upstream[0].referrers(intent)
                found = await self._read(places, self._answer_referrers, view, intent, also)
                return await self._respond_with(request, found)
            view = self._content.view_for(request)
            found = await self._read(places, self._answer, view, intent)
            self._cache.put(key, generation, found)
        if found.status == 404 and self._content.read_through.policy != "false":
            found = await self._ask_runtimes(places, request, target, found)
        if found.status == 404 and upstream is not None:
            view = self._content.view_for(request)
            found = await self._ask_upstream(places, *upstream, view, found, why)
        return await self._respond_with(request, found)

    async def _read(self, places: ExitStack, job: Callable[..., Answer], *args: object) -> Answer:
        """Reads an answer in turn. A large one keeps its place, as its memory, until it is sent."""
        await self._places.acquire()
        with ExitStack() as place:
            place.callback(self._places.release)
            found = await self._reads.run(job, *args)
            if len(found.body) > LARGE_BYTES:
                places.callback(place.pop_all().close)
        return found

    async def _respond_with(self, request: web.Request, found: Answer) -> web.StreamResponse:
        if found.etag and (
            hdrs.IF_NONE_MATCH in request.headers or hdrs.IF_MATCH in request.headers
        ):
            found = conditional(found, conditions_of(request))
        if request.method == "GET" and len(found.body) > LARGE_BYTES:
            return await self._blobs.send_large(found)
        return response_of(found)

    async def _receive(self, receiver: Receiver, request: web.Request, target: str) -> Answer:
        intent = receiver.parse(request, target)
        return intent if isinstance(intent, Answer) else await receiver.respond(request, intent)

    def _answer(self, view: RegistryView, intent: Intent) -> Answer:
        return answer(view, intent, self._content.default_registry)

    def _answer_referrers(
        self, view: RegistryView, intent: ListReferrers, also: Sequence[Descriptor]
    ) -> Answer:
        return answer_referrers(view, intent, self._content.default_registry, also)

    async def _ask_runtimes(
        self, places: ExitStack, request: web.Request, target: str, absent: Answer
    ) -> Answer:
        """The manifest from a container runtime, where the catalog's answer is `absent`."""
        intent = parse_request(request.method, target)
        if not isinstance(intent, GetManifest):
            return absent
        runtimes, connection = self._content.runtimes_for(request), connection_of(request)
        return await self._read(places, runtimes.manifest, intent, connection, absent)

    async def _ask_upstream(
        self,
        places: ExitStack,
        pull_through: PullThrough,
        intent: Intent,
        view: RegistryView,
        absent: Answer,
        why: str,
    ) -> Answer:
        """The manifest from an upstream, where catalog and runtimes have none."""
        if not isinstance(intent, GetManifest):
            return absent
        if isinstance(intent.reference, Digest):
            why = await pull_through.fetch_manifest(intent)
            if not why:
                return await self._read(places, self._answer, view, intent)
        return with_reason(absent, why)


def _error_answer(request: web.Request, exc: AirsideError) -> Answer:
    """The answer for an exception.

    A missed deadline is a 404 for a container runtime, which then asks the next host.
    """
    if isinstance(exc, OverdueError):
        intent = parse_request(request.method, target_of(request))
        if isinstance(intent, GetManifest | GetBlob) and intent.name.host:
            return problem(404, "UNKNOWN", exc.message)
    return failure(exc)


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
