"""Whether the registry of a running agent answers as one. Blocking."""

import http.client
from contextlib import closing

from airside.clients import reachable
from airside.doctor.gather.bounded import LOOK_SECONDS


def ask_registry(listen: str) -> tuple[int | None, str]:
    """(HTTP status of `/v2/`, why there is none)."""
    host, _, port = reachable(listen).rpartition(":")
    try:
        connection = http.client.HTTPConnection(
            host.strip("[]"), int(port), timeout=LOOK_SECONDS / 2
        )
        with closing(connection):
            connection.request("GET", "/v2/")
            return connection.getresponse().status, ""
    except TimeoutError:
        return None, "it takes too long"
    except (OSError, ValueError, http.client.HTTPException) as exc:
        return None, str(exc) or type(exc).__name__
