"""HTTP responses from the answers of `registry.rules`."""

from aiohttp import web
from multidict import CIMultiDict

from airside import __version__
from airside.registry.rules.answers import Answer

_SERVER = f"airside/{__version__}"


def headers_of(pairs: tuple[tuple[str, str], ...]) -> CIMultiDict[str]:
    headers = CIMultiDict(pairs)
    headers["Server"] = _SERVER
    return headers


def response_of(found: Answer) -> web.Response:
    """Makes the response; to a HEAD, aiohttp sends the length without the body."""
    return web.Response(body=found.body, status=found.status, headers=headers_of(found.headers))
