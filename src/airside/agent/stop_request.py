"""SIGTERM and SIGINT ask the agent to stop; a stop that takes too long is forced. Async."""

import asyncio
import logging
import os
import signal
import threading

from airside.core.listeners import Listeners

log = logging.getLogger("airside.agent")


class StopRequest:
    """Waits for a signal. Belongs to the event loop's thread.

    `seconds`: the time after which the process is ended in any case. That is safe: blobs are
    durable before the catalog refers to them.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._event = seconds, asyncio.Event()
        self.listeners = Listeners()
        """Notified when a stop is asked for: work in threads ends after its current chunk."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._requested, signal.Signals(number).name)

    async def wait(self) -> None:
        """Wait until a stop is asked for."""
        await self._event.wait()

    def _requested(self, name: str) -> None:
        if self._event.is_set():
            return
        log.info("%s: stopping", name)
        self._event.set()
        self.listeners.notify()
        watchdog = threading.Timer(self._seconds, _force_stop)
        watchdog.daemon = True
        watchdog.start()


def _force_stop() -> None:
    log.warning("the stop takes too long: forced; the next start checks what was written last")
    logging.shutdown()
    os._exit(1)
