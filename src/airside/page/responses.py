"""Responses of the page, with the headers that keep it shut. Async side, no waiting.

`Content-Security-Policy` allows nothing but files of this server: no inline script or style runs,
whatever a name contains, and no other page may show this one in a frame.
"""

from collections.abc import Mapping

from aiohttp import web

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
FOR_EVER = "public, max-age=31536000, immutable"


def html(text: str, *, status: int = 200) -> web.Response:
    """Returns a document that nobody stores: it tells the state of now."""
    return web.Response(
        body=text.encode("utf-8", "replace"),
        status=status,
        content_type="text/html",
        charset="utf-8",
        headers={**HEADERS, "Cache-Control": "no-store", "Vary": "Accept-Language, Cookie"},
    )


def see_other(where: str) -> web.Response:
    """Returns a redirect after a form was sent, so that a reload does not send it again."""
    return web.Response(status=303, headers={**HEADERS, "Location": where})
