"""The registry's application on a loopback port, in a thread of its own."""

import asyncio
import http.client
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass

from aiohttp import web

from airside.agent.node import Node
from airside.core.settings import KIB
from airside.oci.digest import Digest
from airside.ports.content import ContentStore, RegistryView
from airside.registry.auth.files import open_security_files
from airside.registry.documents.recent_misses import RecentMisses
from airside.registry.http.app import create_app
from airside.registry.http.blob_guard import BlobGuard
from airside.registry.http.deadline import DeadlinePool
from airside.registry.http.malformed import give_targets, http_log
from airside.registry.http.middleware import AccessGuard
from airside.registry.http.page_guard import PageGuard
from airside.registry.http.receive import Receiver, receiver_of
from airside.registry.http.served_content import ServedContent
from airside.registry.rules.read_through import ReadThrough
from airside.registry.rules.web_pages import known_names
from support.waiting import LIMIT_SECONDS


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Served:
    """A running registry. `address` is `127.0.0.1:port`."""

    address: str

    def ask(
        self, target: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> Reply:
        """One request on a connection of its own; `If_None_Match` is the header of that name."""
        with closing(http.client.HTTPConnection(self.address, timeout=LIMIT_SECONDS)) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, target, body, headers=named)
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())


@contextmanager
def served(
    view: RegistryView,
    store: ContentStore,
    read_through: ReadThrough,
    *,
    threads: int = 4,
    receiver: Receiver | None = None,
    guard_of: Callable[[Executor], AccessGuard] | None = None,
    answer_seconds: float = 0.0,
    pages: PageGuard | None = None,
    blobs_of: Callable[[Executor], BlobGuard] | None = None,
    misses: RecentMisses | None = None,
) -> Iterator[Served]:
    loop, address, stop = asyncio.new_event_loop(), "", asyncio.Event()
    ready = threading.Event()

    async def main() -> None:
        nonlocal address
        with ThreadPoolExecutor(threads, "reads") as reads:
            guard = guard_of(reads) if guard_of else None
            blobs = blobs_of(reads) if blobs_of else None
            app = create_app(
                ServedContent(view, store, "docker.io", read_through, guard=blobs),
                DeadlinePool(reads, answer_seconds),
                receiver=receiver,
                guard=guard,
                pages=pages,
                misses=misses,
            )
            runner = web.AppRunner(
                app,
                access_log=None,
                logger=http_log(),
                shutdown_timeout=1.0,
                read_bufsize=256 * KIB,
            )
            await runner.setup()
            give_targets(runner.server)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0]
            address = f"{host}:{port}"
            ready.set()
            await stop.wait()
            await runner.cleanup()
            if guard is not None:
                await guard.close()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=run, name="served", daemon=True)  # a test may be killed
    thread.start()
    try:
        assert ready.wait(LIMIT_SECONDS)
        yield Served(address)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(LIMIT_SECONDS)


@contextmanager
def served_node(
    node: Node, suspect: Callable[[Digest], object] = lambda _digest: None
) -> Iterator[Served]:
    """A node with pushes, deletions and access rules, as the agent serves it on loopback.

    `suspect` gets each wrong blob that was to be sent.
    """
    names = known_names(node.settings, is_loopback=True)
    secured = open_security_files(node.settings, "127.0.0.1")

    def guard_of(reads: Executor) -> AccessGuard:
        return AccessGuard(node.catalog, lambda: secured.accounts, node.settings, reads)

    def blobs_of(reads: Executor) -> BlobGuard:
        return BlobGuard(node.store, node.catalog.blob_size, suspect, reads)

    with ThreadPoolExecutor(4, "pushes") as pool:
        receiver = receiver_of(
            node.pusher, pool, node.settings, node.store.space, node.document_memory
        )
        through = ReadThrough(policy="false")
        with served(
            node.catalog,
            node.store,
            through,
            receiver=receiver,
            guard_of=guard_of,
            blobs_of=blobs_of,
            pages=PageGuard(names, is_writable=not node.settings.read_only),
            misses=node.misses,
        ) as found:
            yield found
        node.pusher.uploads.close()
