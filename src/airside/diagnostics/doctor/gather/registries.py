"""Checks that the registry of a running agent responds. Blocking."""

import http.client
import ssl
import time
from contextlib import closing
from http import HTTPStatus

from airside.diagnostics.doctor.gather.bounded import LOOK_SECONDS
from airside.diagnostics.pull_commands import reachable

_ABSENT = "/v2/airside/doctor/manifests/absent?ns=registry.invalid"
"""No image has this name: that domain does not exist (RFC 2606)."""


def ask_registry(listen: str, *, has_tls: bool = False) -> tuple[int | None, str]:
    """Returns (HTTP status of `/v2/`, the error if None). Does not verify the certificate."""
    return _get(listen, "/v2/", has_tls=has_tls)


def time_a_miss(listen: str, *, has_tls: bool = False) -> float | None:
    """Returns the seconds until the registry says that it lacks an image; None if it does not."""
    started_at = time.monotonic()
    status, _ = _get(listen, _ABSENT, has_tls=has_tls)
    return time.monotonic() - started_at if status == HTTPStatus.NOT_FOUND else None


def _get(listen: str, path: str, *, has_tls: bool) -> tuple[int | None, str]:
    host, _, port = reachable(listen).rpartition(":")
    try:
        connection = _connection(host.strip("[]"), int(port), has_tls=has_tls)
        with closing(connection):
            connection.request("GET", path)
            return connection.getresponse().status, ""
    except TimeoutError:
        return None, "timed out"
    except (OSError, ValueError, http.client.HTTPException) as exc:
        return None, str(exc) or type(exc).__name__


def _connection(host: str, port: int, *, has_tls: bool) -> http.client.HTTPConnection:
    seconds = LOOK_SECONDS / 2
    if not has_tls:
        return http.client.HTTPConnection(host, port, timeout=seconds)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=seconds, context=context)
