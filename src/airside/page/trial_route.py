"""The route that runs a test pull: one at a time, for a form of this page only. Async."""

import asyncio
from concurrent.futures import Executor

from aiohttp import hdrs, web

from airside.diagnostics.pull_commands import reachable
from airside.oci.reference import parse_reference
from airside.page.element import h
from airside.page.forms import FormKey
from airside.page.layout import View, page
from airside.page.pull_trial import PullTrial
from airside.page.queries import text_in
from airside.page.reports import Live, Reports
from airside.page.responses import html
from airside.page.trial_result import trial_result


class TrialRoute:
    """Answers the form with the times of each step."""

    def __init__(self, key: FormKey, reports: Reports, live: Live, reads: Executor) -> None:
        self._key, self._reports, self._live, self._reads = key, reports, live, reads
        self._busy = asyncio.Lock()

    async def respond(self, request: web.Request, view: View) -> web.Response:
        """Pulls the image of the form. Raises RequestInvalidError, ReferenceInvalidError."""
        form = {key: str(value) for key, value in (await request.post()).items()}
        if not self._key.accepts(form.get(FormKey.FIELD)):
            return _told(view, "test.expired", 403)
        if self._busy.locked():
            return _told(view, "test.busy", 429)
        async with self._busy:
            return await self._run(request, view, text_in(form, "name"))

    async def _run(self, request: web.Request, view: View, name: str) -> web.Response:
        live = await self._live()
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self._reads, self._reports.explain, name, live)
        if answer["kind"] not in {"image", "artifact"} or not live["listen"]:
            return _told(view, "image.absent", 404)
        found = parse_reference(answer["reference"])
        scheme = "https" if (live["access"] or {}).get("tls") else "http"
        credentials = request.headers.get(hdrs.AUTHORIZATION)
        trial = await PullTrial(
            f"{scheme}://{reachable(live['listen'])}",
            {hdrs.AUTHORIZATION: credentials} if credentials else {},
        ).run(
            found.repository.path,
            found.repository.host,
            str(found.digest or found.tag),
            str(answer["node"]["digest"] or answer["digest"]),
        )
        return html(trial_result(view, answer["reference"], trial))


def _told(view: View, key: str, status: int) -> web.Response:
    words = view.words
    text = page(view, "images", words("test"), h("p", words(key), role="alert"))
    return html(text, status=status)
