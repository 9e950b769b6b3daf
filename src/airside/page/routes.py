"""The routes under `/ui/` on the registry's server. Async.

Who may see the page is decided before (`airside.registry.http.middleware`): it shows all names and
paths, so a client needs the right to pull everything. Reports are read in the `reads` pool.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import Executor
from typing import Any, TypeVar

from aiohttp import hdrs, web

from airside.core.errors import AirsideError, InputError
from airside.diagnostics.space_forecast import forecast
from airside.page.archive_list import archive_detail, archive_list
from airside.page.assets import load_assets
from airside.page.forms import FormKey
from airside.page.image_detail import image_detail
from airside.page.image_list import image_list
from airside.page.layout import ROOT, View, page, section
from airside.page.log import PER_PAGE, log
from airside.page.overview import overview, running
from airside.page.queries import archive_search, image_page, number_in, text_in
from airside.page.refusals import Refusals, failure
from airside.page.reports import Live, Reports
from airside.page.responses import FOR_EVER, HEADERS, html
from airside.page.runtimes import runtimes
from airside.page.storage import SHOWN, storage
from airside.page.stream import ChangeStream
from airside.page.trial_result import ADDRESS, trial_form
from airside.page.trial_route import TrialRoute
from airside.page.upload_section import upload_section
from airside.page.words import Words, choose_language

COOKIE = "airside-language"
_YEAR_SECONDS = 365 * 86400
_ARRIVALS = 10
_LOG = logging.getLogger("airside.page")

Result = TypeVar("Result")
Shown = Callable[[web.Request, View], Awaitable[web.StreamResponse]]


class Page:
    """The page of one agent. Belongs to the event loop's thread."""

    def __init__(
        self,
        reports: Reports,
        live: Live,
        state: Callable[[], Hashable],
        *,
        reads: Executor,
        upload_refusal: Callable[[], str],
    ) -> None:
        """`live`: the agent's part of the status. `state`: changes with what the page shows.

        `upload_refusal`: blocking; says why no archive can be uploaded, "" if it can.
        Raises OSError if an asset cannot be read.
        """
        self._reports, self._live, self._reads = reports, live, reads
        self._upload_refusal = upload_refusal
        self._assets = load_assets()
        self._addresses = self._assets.addresses
        self._form_key = FormKey()

        async def compared() -> tuple[Hashable, Hashable]:
            return _compared(state(), await live())

        self._stream = ChangeStream(compared)
        self._trial = TrialRoute(self._form_key, reports, live, reads)

    def add_routes(self, app: web.Application) -> None:
        """Adds the routes to the registry's application, before it runs."""
        app.middlewares.insert(0, Refusals(self.view).middleware)
        router = app.router
        router.add_get("/ui", self._to_root)
        router.add_get("/ui/assets/{file}", self._asset)
        router.add_get("/ui/events", self._stream.respond, allow_head=False)
        router.add_post(ADDRESS, self._shown(self._trial.respond))
        shown: dict[str, Shown] = {
            ROOT: self._overview,
            "/ui/images": self._images,
            "/ui/image": self._image,
            "/ui/archives": self._archives,
            "/ui/archive": self._archive,
            "/ui/storage": self._storage,
            "/ui/runtimes": self._runtimes,
            "/ui/log": self._events,
            "/ui/running": self._running,
            "/ui/{unknown:.*}": self._unknown,
        }
        for path, show in shown.items():
            router.add_get(path, self._shown(show))
        app.on_shutdown.append(self._stream.stop)

    def _shown(self, show: Shown) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Answers in the reader's language; an error is a page too."""

        async def respond(request: web.Request) -> web.StreamResponse:
            view = self.view(request)
            try:
                response = await show(request, view)
            except AirsideError as exc:
                _LOG.debug("%s: %s", request.path, exc.message)
                response = _failure(view, 400 if isinstance(exc, InputError) else 503, exc.message)
            if request.query.get("lang", "") == view.words.language:
                _keep_language(response, view.words.language)
            return response

        return respond

    def view(self, request: web.Request) -> View:
        """Returns what a document is made for: the language of a request, its path and query."""
        language = choose_language(
            request.query.get("lang", ""),
            request.cookies.get(COOKIE, ""),
            request.headers.get(hdrs.ACCEPT_LANGUAGE, ""),
        )
        query = {key: value for key, value in request.query.items() if key != "lang"}
        return View(Words(language), request.path, query, self._addresses, self._form_key.token)

    async def _read(self, work: Callable[..., Result], *values: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._reads, work, *values)

    async def _to_root(self, _request: web.Request) -> web.Response:
        return web.Response(status=308, headers={**HEADERS, "Location": ROOT})

    async def _asset(self, request: web.Request) -> web.Response:
        asset = self._assets.find(request.match_info["file"])
        if asset is None:
            return web.Response(status=404, headers=HEADERS, text="no such file\n")
        headers = {**HEADERS, "Cache-Control": FOR_EVER, "ETag": f'"{asset.digest}"'}
        if request.headers.get(hdrs.IF_NONE_MATCH, "") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        return web.Response(
            body=asset.body, content_type=asset.media_type, charset="utf-8", headers=headers
        )

    async def _overview(self, _request: web.Request, view: View) -> web.Response:
        status, verdict = await self._read(self._reports.status, await self._live())
        last = await self._read(self._reports.archives, archive_search({}, _ARRIVALS))
        upload = upload_section(view, await self._read(self._upload_refusal))
        return html(overview(view, status, verdict, last["items"], upload))

    async def _running(self, _request: web.Request, view: View) -> web.Response:
        """Answers with what is imported now, from memory alone: it is asked for every second."""
        shown = section(
            "running", view.words("running"), running(view, await self._live()), live=True
        )
        return html(page(view, "overview", view.words("running"), shown))

    async def _images(self, _request: web.Request, view: View) -> web.Response:
        found = await self._read(self._reports.images, image_page(view.query), await self._live())
        return html(image_list(view, found, number_in(view.query, "page", 1)))

    async def _image(self, _request: web.Request, view: View) -> web.Response:
        name = text_in(view.query, "name")
        answer = await self._read(self._reports.explain, name, await self._live())
        is_here = answer["kind"] in {"image", "artifact"}
        if answer["kind"] == "archive":
            return html(archive_detail(view, answer))
        tried = trial_form(view, answer["reference"]) if is_here and answer["served"] else None
        return html(image_detail(view, answer, tried), status=_status_of(answer))

    async def _archives(self, _request: web.Request, view: View) -> web.Response:
        found = await self._read(self._reports.archives, archive_search(view.query))
        return html(archive_list(view, found, number_in(view.query, "page", 1)))

    async def _archive(self, _request: web.Request, view: View) -> web.Response:
        path = text_in(view.query, "path")
        answer = await self._read(self._reports.explain, path, await self._live())
        return html(archive_detail(view, answer), status=_status_of(answer))

    async def _storage(self, _request: web.Request, view: View) -> web.Response:
        status, _ = await self._read(self._reports.status, await self._live())
        use, samples = await self._read(self._reports.storage, SHOWN)
        least = status["space"]["min_free_bytes"] if status["space"] else 0
        return html(storage(view, status, use, samples, forecast(samples, least)))

    async def _runtimes(self, _request: web.Request, view: View) -> web.Response:
        status, _ = await self._read(self._reports.status, await self._live())
        return html(runtimes(view, status))

    async def _events(self, _request: web.Request, view: View) -> web.Response:
        before = number_in(view.query, "before", 0)
        items = await self._read(self._reports.events, before, PER_PAGE)
        return html(log(view, items, is_newest=not before))

    async def _unknown(self, _request: web.Request, view: View) -> web.Response:
        return _failure(view, 404, "")


def _compared(state: Hashable, live: dict[str, Any]) -> tuple[Hashable, Hashable]:
    """Returns what changes with what a page shows of the agent, and the imports' progress."""
    space, imports = live["space"], live["imports"]
    part = space and (space["free_bytes"] * 500 // max(space["total_bytes"], 1), space["low"])
    shown = live | {"uptime_seconds": 0, "space": part}
    shown["imports"] = [each["path"] for each in imports]
    progress = tuple((each["path"], each["done_bytes"]) for each in imports)
    return (state, json.dumps(shown, default=str)), progress


def _status_of(answer: dict[str, object]) -> int:
    return 404 if answer["kind"] == "absent" else 200


def _failure(view: View, status: int, reason: str) -> web.Response:
    return html(failure(view, status, reason), status=status)


def _keep_language(response: web.StreamResponse, language: str) -> None:
    response.set_cookie(
        COOKIE, language, path="/ui/", max_age=_YEAR_SECONDS, httponly=True, samesite="Strict"
    )
