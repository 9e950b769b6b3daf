"""The control socket's service: HTTP/1.1 with JSON under `/v1/`, for the command line.

Reads use the catalog in the `reads` pool; `live` adds the facts that only the running agent knows.
`POST /v1/import` and `/v1/verify` answer with NDJSON: progress, then the result or an error.
"""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from aiohttp import web

from airside.agent.control_peer import asker_of
from airside.agent.control_requests import (
    parse_body,
    parse_flag,
    parse_number,
    parse_path,
    parse_text,
)
from airside.agent.node import Node
from airside.agent.outcome_log import log_outcome
from airside.core.errors import AirsideError, NotFoundError, StoreError, UnavailableError
from airside.diagnostics.absence import place_of
from airside.diagnostics.archive_pages import archives_page_report
from airside.diagnostics.explain import explain
from airside.diagnostics.external_state import Contents
from airside.diagnostics.reports import (
    acknowledgement_report,
    collection_report,
    event_report,
    events_report,
    history_report,
    images_report,
    move_report,
    outcome_report,
    status_report,
    verify_report,
)
from airside.importer.importer import Outcome
from airside.oci.digest import parse_digest
from airside.oci.reference import parse_reference
from airside.store.scrub import ScrubReport

_PROGRESS_SECONDS = 0.2
_FOLLOW_SECONDS = 0.5
_EVENTS_AT_ONCE = 1000
_ARCHIVES_AT_ONCE = 1000

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Result = TypeVar("Result")
Live = Callable[[], Awaitable[dict[str, Any]]]
"""Returns the part of the status that only the running agent knows."""
Verify = Callable[..., Awaitable[ScrubReport]]
"""`airside.agent.scrub_scheduler.ScrubScheduler.verify`."""
Published = Callable[[], Awaitable[object]]
"""Waits until the connected runtimes have the images of the catalog."""


def create_control(
    node: Node,
    live: Live,
    *,
    reads: Executor,
    imports: Executor,
    published: Published,
    verify: Verify,
    contents: Contents,
    release: Handler,
) -> web.Application:
    """Returns the control socket's application. `published` waits for the container runtimes."""
    control = _Control(node, live, reads, imports, published, verify, contents)
    app = web.Application(middlewares=[answer_errors])
    app.add_routes(
        [
            web.get("/v1/status", control.status),
            web.get("/v1/images", control.images),
            web.get("/v1/archives", control.archives),
            web.get("/v1/events", control.events),
            web.get("/v1/explain", control.explain),
            web.post("/v1/import", control.import_file),
            web.post("/v1/rollback", control.roll_back),
            web.post("/v1/gc", control.collect),
            web.post("/v1/verify", control.verify),
            web.post("/v1/acknowledge", control.acknowledge),
            web.post("/v1/release", release),
        ]
    )
    app.on_shutdown.append(control.stop)
    return app


class _Control:
    def __init__(
        self,
        node: Node,
        live: Live,
        reads: Executor,
        imports: Executor,
        published: Published,
        verify: Verify,
        contents: Contents,
    ) -> None:
        self._node, self._live, self._reads, self._imports = node, live, reads, imports
        self._published, self._verify, self._contents = published, verify, contents
        self._stopping = threading.Event()

    async def stop(self, _app: web.Application) -> None:
        self._stopping.set()

    async def _read(self, report: Callable[..., dict[str, Any]], *values: object) -> web.Response:
        """Answer with a report of the catalog. The pool makes its text, which may be long."""

        def text() -> bytes:
            return json.dumps(report(self._node.catalog, *values)).encode()

        body = await asyncio.get_running_loop().run_in_executor(self._reads, text)
        return web.Response(body=body, content_type="application/json", charset="utf-8")

    async def status(self, _request: web.Request) -> web.Response:
        loop, live = asyncio.get_running_loop(), await self._live()
        runtimes = live.pop("runtimes")
        found = await loop.run_in_executor(self._reads, status_report, self._node.catalog, runtimes)
        missing = await loop.run_in_executor(self._reads, self._node.missing.report)
        return web.json_response(found | live | {"missing": missing})

    async def images(self, request: web.Request) -> web.Response:
        report = history_report if request.query.get("history") else images_report
        return await self._read(report, (await self._live())["runtimes"])

    async def archives(self, request: web.Request) -> web.Response:
        """Answer with a page of archives; `next` is the `after` of the next one."""
        after = parse_number(request.query, "after", 0)
        limit = min(parse_number(request.query, "limit", _ARCHIVES_AT_ONCE), _ARCHIVES_AT_ONCE)
        every = bool(parse_number(request.query, "every", 0))
        report = partial(archives_page_report, ignored=every)
        return await self._read(report, after, max(limit, 1))

    async def explain(self, request: web.Request) -> web.Response:
        """Answer with all facts about one name, digest or archive."""
        live = await self._live()
        place = place_of(self._node.settings, live["listen"] or "", self._contents)
        place = replace(place, runtimes=live["runtimes"])
        what = parse_text(request.query, "what")
        found = await asyncio.get_running_loop().run_in_executor(
            self._reads, explain, self._node.catalog, what, place
        )
        return web.json_response(found)

    async def events(self, request: web.Request) -> web.StreamResponse:
        after = parse_number(request.query, "after", 0)
        limit = min(parse_number(request.query, "limit", 100), _EVENTS_AT_ONCE)
        if request.query.get("follow"):
            return await self._follow(request, after)
        return await self._read(events_report, after, limit)

    async def _follow(self, request: web.Request, after: int) -> web.StreamResponse:
        """Send each event as a line until the client disconnects or the agent stops."""
        response = await _ndjson(request)
        loop, catalog = asyncio.get_running_loop(), self._node.catalog
        if "after" not in request.query:
            newest = await loop.run_in_executor(self._reads, lambda: catalog.events(limit=1))
            after = newest[0].id if newest else 0
        while not self._stopping.is_set() and request.transport is not None:
            read = partial(catalog.events, after=after, limit=_EVENTS_AT_ONCE)
            with suppress(ConnectionResetError):  # the transport is gone then
                for row in await loop.run_in_executor(self._reads, read):
                    after = row.id
                    await _send(response, event_report(row))
            await asyncio.sleep(_FOLLOW_SECONDS)
        return response

    async def import_file(self, request: web.Request) -> web.StreamResponse:
        """Import a file by hand and send its progress. A client that disconnects stops it."""
        path = parse_path(parse_body(await request.read(), "path"), "path")
        work = partial(self._node.imports.import_file, path, asker=asker_of(request))
        response = await _ndjson(request)
        stop = threading.Event()
        try:
            outcome = await self._import(work, stop, response)
            log_outcome(outcome)
            await self._published()
            rows = await asyncio.get_running_loop().run_in_executor(
                self._reads, self._node.catalog.published
            )
            live = await self._live()
            found = outcome_report(outcome, rows, live["runtimes"])
            await _send(response, {"result": found})
        except ConnectionResetError:
            stop.set()
        except AirsideError as exc:
            await _send(response, {"error": _error_object(exc)})
        finally:
            stop.set()
        return response

    async def roll_back(self, request: web.Request) -> web.Response:
        """Point a tag at an earlier version."""
        body = parse_body(await request.read(), "reference", "digest")
        name = parse_reference(parse_text(body, "reference"))
        given = body.get("digest") is not None
        digest = parse_digest(parse_text(body, "digest")) if given else None
        return await self._change(
            lambda: move_report(self._node.roll_back(name.repository, name.tag, digest))
        )

    async def collect(self, request: web.Request) -> web.Response:
        """Collect garbage now, or report what would be deleted."""
        body = parse_body(await request.read(), "dry_run", "unknown")
        dry_run, unknown = parse_flag(body, "dry_run"), parse_flag(body, "unknown")
        return await self._change(
            lambda: collection_report(
                self._node.clean(dry_run=dry_run, unknown=unknown), dry_run=dry_run
            )
        )

    async def acknowledge(self, request: web.Request) -> web.Response:
        """End the report of lost records."""
        parse_body(await request.read())
        return await self._change(
            lambda: acknowledgement_report(was_lost=self._node.acknowledge_loss())
        )

    async def _change(self, work: Callable[[], dict[str, Any]]) -> web.Response:
        """Run `work` in a thread."""
        return web.json_response(
            await asyncio.get_running_loop().run_in_executor(self._reads, work)
        )

    async def verify(self, request: web.Request) -> web.StreamResponse:
        """Verify the store and send the progress. A client that disconnects stops it."""
        repair = parse_flag(parse_body(await request.read(), "repair"), "repair")
        response = await _ndjson(request)
        stop, seen = threading.Event(), _Seen()
        work = self._verify(
            repair=repair, stop=lambda: stop.is_set() or self._stopping.is_set(), progress=seen
        )
        try:
            report = await self._follow_work(asyncio.ensure_future(work), stop, seen, response)
            await _send(response, {"result": verify_report(report, repair=repair)})
        except ConnectionResetError:
            stop.set()
        except AirsideError as exc:
            await _send(response, {"error": _error_object(exc)})
        return response

    async def _import(
        self, work: Callable[..., Outcome], stop: threading.Event, response: web.StreamResponse
    ) -> Outcome:
        seen = _Seen()
        run = partial(work, stop=lambda: stop.is_set() or self._stopping.is_set(), progress=seen)
        future = asyncio.get_running_loop().run_in_executor(self._imports, run)
        return await self._follow_work(future, stop, seen, response)

    async def _follow_work(
        self,
        future: asyncio.Future[Result],
        stop: threading.Event,
        seen: "_Seen",
        response: web.StreamResponse,
    ) -> Result:
        """Send the progress until the work is done; a client that disconnects stops the work."""
        try:
            while not future.done():
                await asyncio.wait([future], timeout=_PROGRESS_SECONDS)
                progress = {"done_bytes": seen.done_bytes, "total_bytes": seen.total_bytes}
                await _send(response, progress)
        finally:
            stop.set()
            await asyncio.wait([future])
        return future.result()


@dataclass(slots=True)
class _Seen:
    """The progress of a job; called from the thread that works."""

    done_bytes: int = 0
    total_bytes: int = 0

    def __call__(self, done_bytes: int, total_bytes: int) -> None:
        self.done_bytes, self.total_bytes = done_bytes, total_bytes


async def _ndjson(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    return response


async def _send(response: web.StreamResponse, value: dict[str, Any]) -> None:
    await response.write(json.dumps(value).encode() + b"\n")


def _error_object(error: AirsideError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, **error.context}


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer with the error that a request raises before its answer has begun."""
    try:
        return await handler(request)
    except AirsideError as exc:
        value = {"schema": 1, "error": _error_object(exc)}
        return web.json_response(value, status=_status_of(exc))


def _status_of(error: AirsideError) -> int:
    if isinstance(error, NotFoundError):
        return 404
    return 503 if isinstance(error, StoreError | UnavailableError) else 400
