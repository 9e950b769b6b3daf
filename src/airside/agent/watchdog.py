"""Reports that the event loop runs: to the fallback server, and to systemd.

The fallback server (`airside.agent.fallback_server`) is a small process with the agent's listening
sockets, which answers when the agent hangs. It is restarted if it ends. systemd gets reports if it
set `NOTIFY_SOCKET`; it kills an agent that is silent for `SYSTEMD_SECONDS`, and starts another: the
fallback server can't free the connections that a hanging agent had taken before.
"""

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import suppress

from airside.agent.fallback_process import FallbackProcess

SYSTEMD_SECONDS = 60
_BEATS = 5
"""Beats in the time after which the agent counts as hanging."""


class Watchdog:
    """Beats for one set of listening sockets. `seconds`: the silence that counts as hanging."""

    def __init__(
        self, listening: Sequence[socket.socket], seconds: float, *, tls: bool = False
    ) -> None:
        self._seconds = seconds
        self.fallback = FallbackProcess(listening, seconds, tls=tls)

    async def run(self) -> None:
        """Beat until cancelled."""
        tell_systemd(f"WATCHDOG_USEC={SYSTEMD_SECONDS * 1_000_000}")
        try:
            while True:
                self.fallback.beat()
                tell_systemd("WATCHDOG=1")
                await asyncio.sleep(self._seconds / _BEATS)
        finally:
            self.fallback.close()
            await asyncio.to_thread(self.fallback.end)


def tell_systemd(text: str) -> None:
    """Notify the service manager, if one listens (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.sendto(text.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
