"""The routes under `/ui/` on the registry's server. Async.

Who may see the page is decided before (`airside.registry.http.middleware`): it shows all names and
paths, so a client needs the right to pull everything. Reports are read in the `reads` pool.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from http import HTTPStatus
from typing import TypeVar

from aiohttp import hdrs, web

from airside.catalog.view import CatalogView
from airside.core.errors import AirsideError
from airside.page.assets import load_assets
from airside.page.element import h
from airside.page.layout import View, english, page
from airside.page.overview import overview
from airside.page.reports import Live, Reports
from airside.page.responses import FOR_EVER, HEADERS, html
from airside.page.upload_section import upload_section
from airside.page.words import Words, choose_language

COOKIE = "airside-language"
_YEAR_SECONDS = 365 * 86400
_LOG = logging.getLogger("airside.page")

Result = TypeVar("Result")
Shown = Callable[[web.Request, View], Awaitable[web.StreamResponse]]


class Page:
    """The page of one agent. Belongs to the event loop's thread."""

    def __init__(
        self,
        catalog: CatalogView,
        live: Live,
        *,
        reads: Executor,
        upload_refusal: Callable[[], str],
    ) -> None:
        """`live`: the agent's part of the status. Raises OSError if an asset cannot be read.

        `upload_refusal`: blocking; says why no archive can be uploaded, "" if it can.
        """
        self._reports, self._live, self._reads = Reports(catalog), live, reads
        self._upload_refusal = upload_refusal
        self._assets = load_assets()
        self._addresses = self._assets.addresses

    def add_routes(self, app: web.Application) -> None:
        """Adds the routes to the registry's application, before it runs."""
        router = app.router
        router.add_get("/ui", self._to_root)
        router.add_get("/ui/assets/{file}", self._asset)
        for path, show in (("/ui/", self._overview),):
            router.add_get(path, self._shown(show))

    def _shown(self, show: Shown) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Answers in the reader's language; an error is a page too."""

        async def respond(request: web.Request) -> web.StreamResponse:
            view = self.view(request)
            try:
                response = await show(request, view)
            except AirsideError as exc:
                _LOG.warning("%s: %s", request.path, exc.message)
                response = _failure(view, 503, exc.message)
            chosen = request.query.get("lang", "")
            if chosen == view.words.language:
                response.set_cookie(
                    COOKIE,
                    chosen,
                    path="/ui/",
                    max_age=_YEAR_SECONDS,
                    httponly=True,
                    samesite="Strict",
                )
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
        return View(Words(language), request.path, query, self._addresses)

    async def _read(self, work: Callable[..., Result], *values: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._reads, work, *values)

    async def _to_root(self, _request: web.Request) -> web.Response:
        return web.Response(status=308, headers={**HEADERS, "Location": "/ui/"})

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
        _, verdict = await self._read(self._reports.status, self._live())
        upload = upload_section(view, await self._read(self._upload_refusal))
        return html(overview(view, verdict, upload))


def _failure(view: View, status: int, reason: str) -> web.Response:
    title = f"{status} {HTTPStatus(status).phrase}"
    text = page(view, "", title, h("p", english(reason), role="alert"))
    return html(text, status=status)
