import asyncio
import io
import json
import logging
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from aiohttp import web

from airside.core.errors import StoreError
from airside.oci.digest import Digest, digest_of
from airside.oci.model import OCI_CONFIG, OCI_MANIFEST, Document, parse_document
from airside.oci.reference import Repository
from airside.ports.content import StoredDocument
from airside.registry.http import app as registry_app
from airside.registry.http import blob_response
from airside.registry.http.answer_cache import AnswerCache
from airside.registry.http.app import create_app
from airside.registry.http.deadline import DeadlinePool
from airside.registry.http.served_content import ServedContent
from airside.registry.rules.answers import Answer
from support.memory import MemoryStore, MemoryView
from support.waiting import LIMIT_SECONDS

HOME = Repository("docker.io", "library/busybox")
LAYER = bytes(range(256)) * 4096  # 1 MiB
LARGE_BYTES = 48 * 1024 * 1024  # more than the buffers of both sockets
BLOBS = "/v2/busybox/blobs"


@dataclass
class Site:
    """A registry with one image in it."""

    store: MemoryStore = field(default_factory=MemoryStore)
    view: MemoryView = field(default_factory=MemoryView)

    def __post_init__(self) -> None:
        self.layer = self.store.add(LAYER)
        self.image = self.image_of(LAYER, "1")

    def image_of(self, layer: bytes, *tags: str) -> Document:
        def describe(media_type: str, data: bytes) -> dict[str, Any]:
            return {"mediaType": media_type, "digest": str(self.store.add(data)), "size": len(data)}

        value = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": describe(OCI_CONFIG, b"{}"),
            "layers": [describe("application/vnd.oci.image.layer.v1.tar", layer)],
        }
        document = parse_document(json.dumps(value).encode(), OCI_MANIFEST, "test")
        self.store.add(document.raw)
        return self.view.put(HOME, document, *tags)


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["errors"][0]["code"])


class Client:
    """One connection, written and read by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, target: str, method: str = "GET", *lines: str) -> None:
        request = "\r\n".join([f"{method} {target} HTTP/1.1", "Host: x", *lines, "", ""])
        self.writer.write(request.encode())
        await self.writer.drain()

    async def head(self) -> Reply:
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = text.strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return Reply(int(status.split()[1]), headers, b"")

    async def ask(self, target: str, method: str = "GET", *lines: str) -> Reply:
        await self.send(target, method, *lines)
        reply = await self.head()
        if method != "HEAD" and reply.status != 304:
            reply.body = await self.reader.readexactly(int(reply.headers["Content-Length"]))
        return reply


@dataclass
class Running:
    address: tuple[str, int]
    runner: web.AppRunner
    tls: ssl.SSLContext | None = None
    clients: list[Client] = field(default_factory=list)

    async def connect(self, *, receive_bytes: int | None = None) -> Client:
        sock = socket.socket()
        if receive_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, self.address)
        name = "localhost" if self.tls else None
        streams = await asyncio.open_connection(sock=sock, ssl=self.tls, server_hostname=name)
        client = Client(*streams)
        self.clients.append(client)
        return client

    async def ask(self, target: str, method: str = "GET", *lines: str) -> Reply:
        client = await self.connect()
        return await client.ask(target, method, *lines)


@asynccontextmanager
async def serving(
    site: Site,
    *,
    server_tls: ssl.SSLContext | None = None,
    client_tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Running]:
    with ThreadPoolExecutor(2, thread_name_prefix="reads") as reads:
        app = create_app(ServedContent(site.view, site.store, "docker.io"), DeadlinePool(reads))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=LIMIT_SECONDS)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls).start()
        running = Running(runner.addresses[0], runner, client_tls)
        try:
            yield running
        finally:
            await runner.cleanup()
            for client in running.clients:
                client.writer.transport.abort()
            await asyncio.sleep(0.01)  # a closed transport is gone one turn of the loop later
    assert site.store.open_files == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


def run(scenario: Callable[[Running], Awaitable[None]], site: Site, **tls: ssl.SSLContext) -> None:
    async def main() -> None:
        async with asyncio.timeout(LIMIT_SECONDS), serving(site, **tls) as running:
            await scenario(running)

    before = threading.active_count()
    asyncio.run(main())
    assert threading.active_count() == before


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        while not condition():  # noqa: ASYNC110 what is waited for has no event
            await asyncio.sleep(0.005)


# --- what is served


@pytest.mark.parametrize("path", ["/v2", "/v2/", "/v2/?ns=docker.io"])
def test_the_root_says_that_this_is_a_registry(path: str) -> None:
    async def scenario(running: Running) -> None:
        reply = await running.ask(path)
        assert (reply.status, reply.body) == (200, b"{}")
        assert reply.headers["Docker-Distribution-API-Version"] == "registry/2.0"
        assert reply.headers["Server"].startswith("airside/")

    run(scenario, Site())


def test_people_and_probes_get_a_plain_answer() -> None:
    async def scenario(running: Running) -> None:
        assert b"/v2/_catalog" in (await running.ask("/")).body
        assert (await running.ask("/healthz")).body == b"ok\n"
        assert (await running.ask("/nothing")).status == 404

    run(scenario, Site())


def test_a_manifest_by_tag_and_by_digest() -> None:
    site = Site()

    async def scenario(running: Running) -> None:
        client = await running.connect()
        for reference in ("1", str(site.image.digest)):
            for _ in range(2):  # the second from the cache
                target = f"/v2/busybox/manifests/{reference}"
                got = await client.ask(target, "GET", "Accept: application/x")
                head = await client.ask(target, "HEAD")
                assert got.body == site.image.raw
                assert head.status == got.status == 200
                for reply in (got, head):
                    assert reply.headers["Content-Type"] == OCI_MANIFEST
                    assert reply.headers["Content-Length"] == str(len(site.image.raw))
                    assert reply.headers["Docker-Content-Digest"] == str(site.image.digest)
                    assert reply.headers["ETag"] == f'"{site.image.digest}"'

    run(scenario, site)


def test_a_manifest_that_the_client_has_is_not_sent_again() -> None:
    site = Site()

    async def scenario(running: Running) -> None:
        client = await running.connect()
        target, tag = "/v2/busybox/manifests/1", f'"{site.image.digest}"'
        for method in ("GET", "HEAD", "GET"):
            reply = await client.ask(target, method, f'If-None-Match: "x", {tag}')
            assert (reply.status, reply.body) == (304, b"")
            assert reply.headers["ETag"] == tag
        two_lines = await client.ask(target, "GET", 'If-None-Match: "x"', f"If-None-Match: {tag}")
        assert two_lines.status == 304
        assert (await client.ask(target, "GET", 'If-Match: "x"')).status == 412
        assert (await client.ask(target)).body == site.image.raw

    run(scenario, site)


def test_a_new_generation_is_seen_at_once() -> None:
    site = Site()

    async def scenario(running: Running) -> None:
        client = await running.connect()
        assert (await client.ask("/v2/busybox/manifests/2")).code == "MANIFEST_UNKNOWN"
        assert (await client.ask("/v2/busybox/manifests/2")).status == 404
        newer = site.image_of(b"newer", "1", "2")
        assert (await client.ask("/v2/busybox/manifests/2")).body == newer.raw
        assert (await client.ask("/v2/busybox/manifests/1")).body == newer.raw
        assert json.loads((await client.ask("/v2/busybox/tags/list")).body)["tags"] == ["1", "2"]
        site.view.remove_tag(HOME, "2")
        assert (await client.ask("/v2/busybox/manifests/2")).status == 404

    run(scenario, site)


def test_a_hit_never_asks_the_view_again() -> None:
    class Counting(MemoryView):
        calls = 0

        def document_by_tag(self, repository: Repository, tag: str) -> StoredDocument | None:
            self.calls += 1
            return super().document_by_tag(repository, tag)

    site = Site(view=(view := Counting()))

    async def scenario(running: Running) -> None:
        client = await running.connect()
        for target in ("/v2/busybox/manifests/1", "/v2/busybox/manifests/none"):
            await client.ask(target)
            asked = view.calls
            for method in ("GET", "HEAD"):
                await client.ask(target, method)
            assert view.calls == asked

    run(scenario, site)


@pytest.mark.parametrize(
    ("method", "target", "status", "code"),
    [
        ("GET", "/v2/busybox/manifests/.INVALID_MANIFEST_NAME", 404, "MANIFEST_UNKNOWN"),
        ("GET", "/v2/other/manifests/1", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/Busybox/manifests/1", 400, "NAME_INVALID"),
        ("GET", "/v2/busybox/blobs/sha256:0", 400, "DIGEST_INVALID"),
        ("GET", f"{BLOBS}/{digest_of(b'no')}", 404, "BLOB_UNKNOWN"),
        ("GET", "/v2/busybox/tags/list?n=x", 400, "PAGINATION_NUMBER_INVALID"),
        ("POST", "/v2/busybox/blobs/uploads/", 405, "UNSUPPORTED"),
        ("PUT", "/v2/busybox/manifests/1", 405, "UNSUPPORTED"),
        ("DELETE", "/v2/busybox/manifests/1", 405, "UNSUPPORTED"),
    ],
)
def test_errors_have_the_form_of_the_spec(method: str, target: str, status: int, code: str) -> None:
    async def scenario(running: Running) -> None:
        client = await running.connect()
        reply = await client.ask(target, method)
        assert (reply.status, reply.code) == (status, code)
        assert reply.headers["Content-Type"] == "application/json"
        assert ("Allow" in reply.headers) == (status == 405)
        assert (await client.ask("/v2/")).status == 200  # the connection goes on

    run(scenario, Site())


def test_a_target_in_absolute_form_is_the_same_request() -> None:
    async def scenario(running: Running) -> None:
        assert (await running.ask("http://x/v2/busybox/tags/list?n=1")).status == 200

    run(scenario, Site())


# --- blobs


def test_a_blob_is_served_with_its_headers() -> None:
    site = Site()

    async def scenario(running: Running) -> None:
        client = await running.connect()
        got = await client.ask(f"{BLOBS}/{site.layer}")
        head = await client.ask(f"{BLOBS}/{site.layer}", "HEAD", "Range: bytes=1-2")
        assert got.body == LAYER
        for reply in (got, head):
            assert reply.status == 200
            assert reply.headers["Content-Type"] == "application/octet-stream"
            assert reply.headers["Content-Length"] == str(len(LAYER))
            assert reply.headers["Docker-Content-Digest"] == str(site.layer)
            assert reply.headers["ETag"] == f'"{site.layer}"'
            assert reply.headers["Accept-Ranges"] == "bytes"
            assert "immutable" in reply.headers["Cache-Control"]
        assert len(site.store.files) == 1  # a HEAD opens nothing

    run(scenario, site)


def test_a_document_is_also_a_blob() -> None:
    site = Site()

    async def scenario(running: Running) -> None:
        reply = await running.ask(f"{BLOBS}/{site.image.digest}")
        assert reply.body == site.image.raw
        assert reply.headers["Content-Type"] == "application/octet-stream"

    run(scenario, site)


def test_a_blob_of_another_repository_is_not_visible() -> None:
    site = Site()
    foreign = site.store.add(b"foreign")

    async def scenario(running: Running) -> None:
        for method in ("GET", "HEAD"):
            assert (await running.ask(f"{BLOBS}/{foreign}", method)).status == 404
        site.view.put_blob(HOME, foreign)
        assert (await running.ask(f"{BLOBS}/{foreign}")).body == b"foreign"
        site.store.delete(foreign)
        assert (await running.ask(f"{BLOBS}/{foreign}")).code == "BLOB_UNKNOWN"

    run(scenario, site)


@pytest.mark.parametrize(
    ("header", "status", "body", "content_range"),
    [
        ("bytes=0-9", 206, LAYER[:10], f"bytes 0-9/{len(LAYER)}"),
        ("bytes=1000000-", 206, LAYER[1000000:], f"bytes 1000000-{len(LAYER) - 1}/{len(LAYER)}"),
        ("bytes=-7", 206, LAYER[-7:], f"bytes {len(LAYER) - 7}-{len(LAYER) - 1}/{len(LAYER)}"),
        ("bytes=0-1,4-5", 200, LAYER, None),
        ("items=0-1", 200, LAYER, None),
    ],
)
def test_ranges_over_one_connection(
    header: str, status: int, body: bytes, content_range: str | None
) -> None:
    site = Site()

    async def scenario(running: Running) -> None:
        client = await running.connect()
        for _ in range(3):  # the connection is kept alive, and nothing is sent twice or too much
            reply = await client.ask(f"{BLOBS}/{site.layer}", "GET", f"Range: {header}")
            assert (reply.status, reply.headers.get("Content-Range")) == (status, content_range)
            assert reply.body == body
        assert (await client.ask("/v2/")).body == b"{}"

    run(scenario, site)


def test_a_range_past_the_end_is_416_and_two_range_lines_are_ignored() -> None:
    site = Site()

    async def scenario(running: Running) -> None:
        client = await running.connect()
        past = await client.ask(f"{BLOBS}/{site.layer}", "GET", f"Range: bytes={len(LAYER)}-")
        assert past.status == 416
        assert past.headers["Content-Range"] == f"bytes */{len(LAYER)}"
        backwards = await client.ask(f"{BLOBS}/{site.layer}", "GET", "Range: bytes=9-1")
        assert backwards.status == 416
        two = await client.ask(
            f"{BLOBS}/{site.layer}", "GET", "Range: bytes=0-1", "Range: bytes=2-3"
        )
        assert (two.status, two.body) == (200, LAYER)
        stale = await client.ask(
            f"{BLOBS}/{site.layer}", "GET", "Range: bytes=0-1", 'If-Range: "stale"'
        )
        assert (stale.status, stale.body) == (200, LAYER)

    run(scenario, site)


def test_requests_sent_together_are_answered_in_order() -> None:
    site = Site()

    async def scenario(running: Running) -> None:
        client = await running.connect()
        for n in range(20):
            await client.send(f"{BLOBS}/{site.layer}", "GET", f"Range: bytes={n}-{n + 99}")
            await client.send("/v2/busybox/manifests/1", "HEAD")
        for n in range(20):
            reply = await client.head()
            assert reply.status == 206
            assert await client.reader.readexactly(100) == LAYER[n : n + 100]
            assert (await client.head()).status == 200

    run(scenario, site)


def test_an_empty_blob_is_served() -> None:
    site = Site()
    empty = site.store.add(b"")
    site.view.put_blob(HOME, empty)

    async def scenario(running: Running) -> None:
        client = await running.connect()
        assert (await client.ask(f"{BLOBS}/{empty}")).body == b""
        assert (await client.ask(f"{BLOBS}/{empty}", "GET", "Range: bytes=0-")).status == 416
        assert (await client.ask("/v2/")).status == 200

    run(scenario, site)


def test_many_clients_get_the_same_blob_side_by_side() -> None:
    site = Site()

    async def scenario(running: Running) -> None:
        replies = await asyncio.gather(*(running.ask(f"{BLOBS}/{site.layer}") for _ in range(20)))
        assert all(reply.body == LAYER for reply in replies)

    run(scenario, site)


def test_a_blob_is_sent_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_response, "SLICE_BYTES", 10_007)
    site = Site()

    async def scenario(running: Running) -> None:
        assert (await running.ask(f"{BLOBS}/{site.layer}")).body == LAYER

    run(scenario, site)


class Unmapped(MemoryStore):
    """Its files have no descriptor, so that they can't go by sendfile."""

    def open(self, digest: Digest) -> BinaryIO:
        with super().open(digest) as file:
            data = io.BytesIO(file.read())
        self.files.append(data)
        return data


def test_a_blob_without_a_descriptor_is_read_in_chunks() -> None:
    site = Site(store=Unmapped())
    large = site.store.add(LAYER * 5 + b"end")
    site.view.put_blob(HOME, large)

    async def scenario(running: Running) -> None:
        client = await running.connect()
        assert (await client.ask(f"{BLOBS}/{large}")).body == LAYER * 5 + b"end"
        part = await client.ask(f"{BLOBS}/{large}", "GET", "Range: bytes=-4")
        assert part.body == LAYER[-1:] + b"end"

    run(scenario, site)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", key, "-out", cert, "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


@pytest.mark.needs("openssl")
def test_blobs_go_over_tls_too(certificate: tuple[Path, Path]) -> None:
    site = Site()
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain(*certificate)
    client_tls = ssl.create_default_context(cafile=str(certificate[0]))

    async def scenario(running: Running) -> None:
        client = await running.connect()
        assert (await client.ask(f"{BLOBS}/{site.layer}")).body == LAYER
        part = await client.ask(f"{BLOBS}/{site.layer}", "GET", "Range: bytes=5-6")
        assert part.body == LAYER[5:7]

    run(scenario, site, server_tls=server_tls, client_tls=client_tls)


# --- what goes wrong


def large_site(store: MemoryStore | None = None) -> tuple[Site, Digest]:
    site = Site(store=store or MemoryStore())
    large = site.store.add(bytes(LARGE_BYTES))
    site.view.put_blob(HOME, large)
    return site, large


@pytest.mark.parametrize("store", [MemoryStore, Unmapped])
@pytest.mark.parametrize("politely", [True, False])
def test_a_client_that_leaves_in_the_middle_of_a_blob_leaves_nothing_behind(
    store: type[MemoryStore],
    *,
    politely: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry_app, "SLOW_SECONDS", LIMIT_SECONDS)
    site, large = large_site(store())

    async def scenario(running: Running) -> None:
        for _ in range(5):
            client = await running.connect(receive_bytes=65536)
            await client.send(f"{BLOBS}/{large}")
            assert (await client.head()).status == 200
            await client.reader.readexactly(100_000)
            assert site.store.open_files == 1
            if politely:
                client.writer.close()
            else:
                client.writer.transport.abort()
            await until(lambda: site.store.open_files == 0)
        assert (await running.ask(f"{BLOBS}/{site.layer}")).body == LAYER

    run(scenario, site)
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []


def test_a_stalled_client_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_response, "STALL_SECONDS", 0.2)
    site, large = large_site()

    async def scenario(running: Running) -> None:
        client = await running.connect(receive_bytes=65536)
        client.writer.transport.pause_reading()
        await client.send(f"{BLOBS}/{large}")
        await until(lambda: len(site.store.files) == 1)
        await until(lambda: site.store.open_files == 0)
        client.writer.transport.resume_reading()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await client.reader.readexactly(LARGE_BYTES)

    run(scenario, site)


def test_a_stop_does_not_wait_for_a_stalled_client() -> None:
    site, large = large_site()

    async def scenario(running: Running) -> None:
        client = await running.connect(receive_bytes=65536)
        client.writer.transport.pause_reading()
        await client.send(f"{BLOBS}/{large}")
        await until(lambda: site.store.open_files == 1)
        async with asyncio.timeout(LIMIT_SECONDS / 2):
            await running.runner.cleanup()
        assert site.store.open_files == 0

    run(scenario, site)


def test_a_stop_cuts_a_running_transfer_at_the_next_slice() -> None:
    site, large = large_site()

    async def scenario(running: Running) -> None:
        client = await running.connect(receive_bytes=65536)
        await client.send(f"{BLOBS}/{large}")
        await client.head()
        stop = asyncio.create_task(running.runner.cleanup())
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await client.reader.readexactly(LARGE_BYTES)
        await stop

    run(scenario, site)


def test_a_stop_while_a_blob_is_being_opened_closes_it() -> None:
    class Slow(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.entered, self.go_on = threading.Event(), threading.Event()

        def open(self, digest: Digest) -> BinaryIO:
            self.entered.set()
            self.go_on.wait(LIMIT_SECONDS)
            return super().open(digest)

    site = Site(store=(store := Slow()))

    async def scenario(running: Running) -> None:
        client = await running.connect()
        await client.send(f"{BLOBS}/{site.layer}")
        await until(store.entered.is_set)
        handler = next(t for t in asyncio.all_tasks() if "_handle_request" in repr(t))
        handler.cancel()
        assert await client.reader.read() == b""
        store.go_on.set()
        await until(lambda: len(store.files) == 1 and store.open_files == 0)

    run(scenario, site)


def test_a_file_that_is_too_short_cuts_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    class Short(MemoryStore):
        def stat(self, digest: Digest) -> int | None:
            size = super().stat(digest)
            return None if size is None else size + 10

    site = Site(store=Short())

    async def scenario(running: Running) -> None:
        client = await running.connect()
        await client.send(f"{BLOBS}/{site.layer}")
        reply = await client.head()
        assert reply.headers["Content-Length"] == str(len(LAYER) + 10)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await client.reader.readexactly(len(LAYER) + 10)

    run(scenario, site)
    assert "ends at byte" in caplog.text


def test_a_store_that_fails_is_503_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(MemoryStore):
        def stat(self, _digest: Digest) -> int | None:
            raise StoreError("cannot read /disk", path="/disk")

    site = Site(store=Failing())

    async def scenario(running: Running) -> None:
        reply = await running.ask(f"{BLOBS}/{site.layer}")
        assert (reply.status, reply.code) == (503, "UNKNOWN")
        assert b"/disk" not in reply.body

    run(scenario, site)
    assert "cannot read /disk" in caplog.text


def test_a_bug_is_500_for_the_client_and_whole_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(MemoryView):
        def tags(self, _repository: Repository) -> list[str]:
            raise RuntimeError("the bug")

    async def scenario(running: Running) -> None:
        client = await running.connect()
        reply = await client.ask("/v2/busybox/tags/list")
        assert (reply.status, reply.code) == (500, "UNKNOWN")
        assert b"bug" not in reply.body
        assert (await client.ask("/v2/")).status == 200

    run(scenario, Site(view=Broken()))
    assert "RuntimeError: the bug" in caplog.text


def test_each_request_is_a_line_at_debug_and_slow_ones_at_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(running: Running) -> None:
        with caplog.at_level(logging.DEBUG, logger="airside.registry"):
            await running.ask("/v2/busybox/tags/list")
        monkeypatch.setattr(registry_app, "SLOW_SECONDS", -1.0)
        await running.ask("/v2/busybox/manifests/1")

    run(scenario, Site())
    lines = [(r.levelname, r.message) for r in caplog.records if r.name == "airside.registry"]
    assert lines[0][0] == "DEBUG"
    assert lines[0][1].startswith("GET /v2/busybox/tags/list from 127.0.0.1: 200 in ")
    assert lines[1][0] == "WARNING"


# --- the cache


def test_the_cache_is_bounded_in_bytes_and_drops_the_least_used() -> None:
    cache = AnswerCache(limit_bytes=10_000)
    found = Answer(200, b"x" * 1000)
    assert cache.get("0", 7) is None
    for n in range(50):
        cache.put(str(n), 7, found)
        assert cache.get("0", 7) is found  # used, so kept
        assert cache.held_bytes <= 10_000
    assert cache.get("49", 7) is found
    assert cache.get("1", 7) is None


def test_the_cache_holds_one_generation() -> None:
    cache = AnswerCache()
    found = Answer(200, b"old")
    cache.get("a", 1)
    cache.put("a", 1, found)
    cache.put("a", 1, found)
    assert cache.get("a", 1) is found
    assert cache.get("a", 2) is None
    assert cache.held_bytes == 0
    cache.put("a", 1, found)  # made before the change
    assert cache.get("a", 2) is None


def test_the_cache_refuses_what_would_empty_it() -> None:
    cache = AnswerCache(limit_bytes=10_000)
    cache.get("a", 1)
    cache.put("a", 1, Answer(200, bytes(9_000)))
    assert cache.get("a", 1) is None
