"""Checks that the registry of a running agent responds. Blocking."""

import http.client
import ssl
from contextlib import closing

from airside.diagnostics.doctor.gather.bounded import LOOK_SECONDS
from airside.diagnostics.pull_commands import reachable


def ask_registry(listen: str, *, has_tls: bool = False) -> tuple[int | None, str]:
    """Returns (HTTP status of `/v2/`, the error if None). Does not verify the certificate."""
    host, _, port = reachable(listen).rpartition(":")
    try:
        connection = _connection(host.strip("[]"), int(port), has_tls=has_tls)
        with closing(connection):
            connection.request("GET", "/v2/")
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
