"""Answers a form without scripts. Async."""

from aiohttp import hdrs, web

from airside.page.uploads.http import FormResult

PAGE = "/ui/"


async def answer_form(_request: web.Request, result: FormResult) -> web.StreamResponse:
    """Sends the browser back to the page, or says in plain text why nothing was stored."""
    headers = {hdrs.CACHE_CONTROL: "no-store"}
    if not result.problem:
        return web.Response(status=303, headers={**headers, hdrs.LOCATION: PAGE})
    stored = f"Stored before: {', '.join(map(repr, result.stored))}.\n" if result.stored else ""
    text = f"{result.problem}\n{stored}Go back and try again.\n"
    return web.Response(status=result.status, text=text, headers=headers)
