"""Values that are read from an aiohttp request."""

from aiohttp import hdrs, web

from airside.ports.content import Connection
from airside.registry.rules.ranges import Conditions


def target_of(request: web.BaseRequest) -> str:
    """The path and query as the client sent them."""
    target = request.raw_path
    return target if target.startswith("/") else request.path_qs  # http://host/v2/...


def client_of(request: web.BaseRequest) -> str:
    """The address of the client; empty if the connection is gone."""
    return request.remote or ""


def connection_of(request: web.Request) -> Connection | None:
    """Both ends of the connection; None if the client is gone or uses no TCP socket."""
    transport = request.transport
    ends = [transport.get_extra_info(end) for end in ("peername", "sockname")] if transport else []
    if not ends or not all(isinstance(end, tuple) for end in ends):
        return None
    return Connection(*((str(end[0]), int(end[1])) for end in ends))


def conditions_of(request: web.BaseRequest) -> Conditions:
    """The conditional and range headers."""

    def joined(name: str) -> str | None:
        return ", ".join(request.headers.getall(name, ())) or None

    return Conditions(
        joined(hdrs.IF_MATCH),
        joined(hdrs.IF_NONE_MATCH),
        joined(hdrs.RANGE),
        joined(hdrs.IF_RANGE),
    )
