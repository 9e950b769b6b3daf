"""Reports to the fallback server that the event loop runs.

The fallback server (`airside.agent.fallback_server`) is a small process with the agent's listening
sockets, which answers when the agent hangs. It is restarted if it ends. systemd gets reports of its
own (`airside.agent.service_manager`).
"""

import asyncio
import socket
from collections.abc import Sequence

from airside.agent.fallback_process import FallbackProcess

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
        try:
            while True:
                self.fallback.beat()
                await asyncio.sleep(self._seconds / _BEATS)
        finally:
            self.fallback.close()
            await asyncio.to_thread(self.fallback.end)
