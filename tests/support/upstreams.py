"""A registry upstream that can misbehave, and a node's registry that pulls through it."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiohttp import web

from airside.agent.node import Node
from airside.registry.http.app import create_app
from airside.registry.http.deadline import DeadlinePool
from airside.registry.http.request_access import ACCESS, Access
from airside.registry.http.served_content import ServedContent
from airside.registry.proxy.pull_through import PullThrough
from support.images import TestImage, sha256
from support.served import Served
from support.waiting import LIMIT_SECONDS

Act = Callable[["Handler"], bool]
"""Does something with a request; False: the answer is as usual."""


class Handler(BaseHTTPRequestHandler):
    """One request to a stub."""

    protocol_version = "HTTP/1.1"
    stub: "Stub"

    def do_GET(self) -> None:
        self.stub.seen.append((self.command, self.path, self.headers.get("Authorization", "")))
        if self.stub.act is not None and self.stub.act(self):
            return
        kind, last = self.path.rsplit("/", 2)[-2:]
        found = self.stub.held.get(f"{kind}/{last}")
        if found is None:
            self.say(404, b'{"errors":[{"code":"UNKNOWN"}]}')
        else:
            digest = {"Docker_Content_Digest": str(sha256(found[0]))} if self.stub.tells else {}
            self.say(200, *found, **digest)

    do_HEAD = do_GET  # noqa: N815 - the server calls it so

    def say(self, status: int, body: bytes = b"", media_type: str = "", **headers: str) -> None:
        """Answer; `Www_Authenticate` is the header of that name."""
        sent = {"Content-Type": media_type or "application/json", **headers}
        self.send_response(status)
        start = 0
        asked = self.headers.get("Range", "")
        if asked and status == 206:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        for name, value in sent.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[start:])

    def cut(self, body: bytes, after: int) -> None:
        """Promise all of a body, send the beginning, and drop the connection."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:after])
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(2)

    def log_message(self, *_: Any) -> None:
        pass


@dataclass
class Stub:
    """`held`: `manifests/TAG`, `manifests/DIGEST`, `blobs/DIGEST` → (body, media type)."""

    url: str
    held: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    act: Act | None = None
    tells: bool = True
    """Whether it says digests."""

    def put(self, image: TestImage, tag: str) -> None:
        manifest = (image.manifest.raw, image.manifest.media_type)
        self.held |= {f"manifests/{tag}": manifest, f"manifests/{image.digest}": manifest}
        for blob in image.blobs:
            self.held.setdefault(f"blobs/{blob.digest}", (blob.raw, "application/octet-stream"))

    def asked(self, text: str, method: str = "GET") -> int:
        """How many requests had this in their path."""
        return sum(text in path and method == how for how, path, _ in self.seen)


@contextmanager
def stubbed() -> Iterator[Stub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    stub = Stub(f"http://127.0.0.1:{server.server_port}")
    server.RequestHandlerClass = type("Bound", (Handler,), {"stub": stub})
    server.timeout = 30
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join(LIMIT_SECONDS)
        server.server_close()


@contextmanager
def pulling_through(
    node: Node, clock: Callable[[], float] = time.monotonic, access: Access | None = None
) -> Iterator[tuple[Served, PullThrough]]:
    """The registry of a node over HTTP, on an event loop in a thread of its own.

    `access`: what its clients may do.
    """

    @web.middleware
    async def let(request: web.Request, handler: Any) -> Any:
        if access is not None:
            request[ACCESS] = access
        return await handler(request)

    loop, stop, ready = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    found: list[tuple[Served, PullThrough]] = []

    async def main() -> None:
        with ThreadPoolExecutor(4, "reads") as reads, ThreadPoolExecutor(4, "fetches") as fetches:
            async with PullThrough(
                node.settings,
                node.cache_writer,
                fetches,
                node.document_memory,
                node.store.space,
                clock,
            ) as pull_through:
                content = ServedContent(
                    node.catalog, node.store, "docker.io", pull_through=pull_through
                )
                app = create_app(content, DeadlinePool(reads))
                app.middlewares.append(let)
                runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
                await runner.setup()
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                host, port = runner.addresses[0][:2]
                found.append((Served(f"{host}:{port}"), pull_through))
                ready.set()
                await stop.wait()
                await runner.cleanup()

    def run() -> None:
        with closing(loop):
            loop.run_until_complete(main())

    thread = threading.Thread(target=run, name="pulling-through")
    thread.start()
    try:
        assert ready.wait(LIMIT_SECONDS)
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(LIMIT_SECONDS)


def token_server(password: str) -> Act:
    """Answers that ask for a token of the stub itself, which is given for the password alone."""

    def act(handler: Handler) -> bool:
        authorization = handler.headers.get("Authorization", "")
        if handler.path.startswith("/token"):
            if authorization == password:
                handler.say(200, json.dumps({"token": "secret-token", "expires_in": 300}).encode())
            else:
                handler.say(401)
            return True
        if authorization == "Bearer secret-token":
            return False
        realm = f'Bearer realm="{handler.stub.url}/token",service="stub"'
        handler.say(401, Www_Authenticate=realm)
        return True

    return act
