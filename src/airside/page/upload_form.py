"""Answers a form without scripts. Async."""

from collections.abc import Callable

from aiohttp import web

from airside.page.layout import View
from airside.page.responses import html, see_other
from airside.page.upload_section import failed_form
from airside.page.uploads.form_result import FormResult


class FormAnswers:
    """Sends the browser back to the page, or says why nothing was stored."""

    def __init__(self, view: Callable[[web.Request], View]) -> None:
        self._view = view

    async def answer(self, request: web.Request, result: FormResult) -> web.StreamResponse:
        if not result.problem:
            return see_other("/ui/")
        return html(failed_form(self._view(request), result), status=result.status)
