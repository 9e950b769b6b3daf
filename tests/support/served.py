"""The registry's application on a loopback port, in a thread of its own."""

import asyncio
import http.client
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass

from aiohttp import web

from airside.content import ContentStore, RegistryView
from airside.registry.app import create_app
from airside.registry.through import ReadThrough

ASK_SECONDS = 30.0


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Served:
    """A running registry. `address` is `127.0.0.1:port`."""

    address: str

    def ask(self, target: str, method: str = "GET", **headers: str) -> Reply:
        """One request on a connection of its own; `If_None_Match` is the header of that name."""
        with closing(http.client.HTTPConnection(self.address, timeout=ASK_SECONDS)) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, target, headers=named)
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())


@contextmanager
def served(
    view: RegistryView,
    store: ContentStore,
    read_through: ReadThrough,
    *,
    threads: int = 4,
    answer_seconds: float = 0.0,
) -> Iterator[Served]:
    loop, address, stop = asyncio.new_event_loop(), "", asyncio.Event()
    ready = threading.Event()

    async def main() -> None:
        nonlocal address
        with ThreadPoolExecutor(threads, "reads") as reads:
            app = create_app(
                view,
                store,
                default_registry="docker.io",
                reads=reads,
                read_through=read_through,
                answer_seconds=answer_seconds,
            )
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0]
            address = f"{host}:{port}"
            ready.set()
            await stop.wait()
            await runner.cleanup()

    def run() -> None:
        with closing(loop):
            loop.run_until_complete(main())

    thread = threading.Thread(target=run, name="served")
    thread.start()
    try:
        assert ready.wait(10)
        yield Served(address)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
