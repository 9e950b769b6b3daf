"""Corrects how aiohttp treats malformed requests.

- aiohttp logs each malformed request as an error of the server, with a traceback, so that anybody
  who reaches the port could fill the log. Here it is one line at debug level.
- For `CONNECT` without a target aiohttp makes a request without a URL and then fails on it: the
  connection would hang. Here the target is `*`.
"""

import logging
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

_MAX_MESSAGE = 200


def http_log() -> logging.Logger:
    """The `logger` argument for aiohttp's runner."""
    log = logging.getLogger("airside.registry.http")
    if not any(isinstance(each, _ClientErrors) for each in log.filters):
        log.addFilter(_ClientErrors())
    return log


def give_targets(server: web.Server | None) -> None:
    """Gives every future request of this server a target."""
    assert server is not None, "the runner is not set up"
    make = server.request_factory

    def made(message: Any, *others: Any) -> web.BaseRequest:
        if not message.path:
            message = message._replace(path="*", url=URL("*"))
        return make(message, *others)

    server.request_factory = made


class _ClientErrors(logging.Filter):
    """Turns errors that a client caused into one line at debug level."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError | web.RequestPayloadError):
            return True
        message = " ".join(str(error).split())[:_MAX_MESSAGE]
        record.msg, record.args, record.exc_info = f"{record.getMessage()}: {message}", (), None
        record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)
