"""Measures what an image costs that Airside lacks: what containerd asks next. Blocking.

Resolves the name of each further registry and connects to it, as containerd would, and sends it
nothing. A pull cannot end before these do: where no network is, DNS alone takes seconds.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

from airside.diagnostics.doctor.facts import REACH_SECONDS, Reach

_PORTS = {"http": 80, "https": 443}

Connect = Callable[[str, int], None]
"""Connects to (host, port) and disconnects. Raises OSError."""


def connect(host: str, port: int) -> None:
    """Connects by the system's resolver, to the first address that answers."""
    with socket.create_connection((host, port), timeout=REACH_SECONDS):
        pass


def reach_all(
    addresses: Iterable[str], connect: Connect = connect, *, seconds: float = REACH_SECONDS
) -> Mapping[str, Reach]:
    """Returns how each address is reached, all at once, within this time."""
    found: dict[str, Reach] = {}
    ends_at = time.monotonic() + seconds
    threads = []
    for address in dict.fromkeys(addresses):
        found[address] = Reach(None, "no answer")
        threads.append(
            threading.Thread(
                target=_reach,
                args=(address, connect, found),
                name=f"doctor: {address}",
                daemon=True,
            )
        )
        threads[-1].start()
    for thread in threads:
        thread.join(max(0.0, ends_at - time.monotonic()))
    return dict(found)


def _reach(address: str, connect: Connect, found: dict[str, Reach]) -> None:
    started_at = time.monotonic()
    reason = ""
    try:
        parts = urlsplit(address if "://" in address else f"https://{address}")
        connect(parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 443))
    except TimeoutError:
        return
    except socket.gaierror as exc:
        reason = f"no address: {exc.strerror}"
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
    found[address] = Reach(time.monotonic() - started_at, reason)
