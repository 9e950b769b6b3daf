"""Events reach a real HTTP server that fails, hangs, resets and redirects."""

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import pytest

from airside.core.webhook_config import parse_webhook
from airside.telemetry.webhooks import sender as senders
from airside.telemetry.webhooks.follower import CURSOR, WebhookFollower
from support.guarded import Authority
from support.waiting import LIMIT_SECONDS, wait_until, wait_until_async

KEY = b"a key that nobody can guess"


@dataclass
class Receiver:
    """Answers as `script` says, then 204. `got` are the bodies whose signature is right."""

    script: list[Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=list)
    got: list[dict] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    free: threading.Event = field(default_factory=threading.Event)
    tls: ssl.SSLContext | None = None

    def __enter__(self) -> Self:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.asked.append(self.headers["webhook-id"])
                if receiver.script:
                    receiver.script.pop(0)(self)
                    return
                assert is_signed(self.headers, body)
                receiver.got.append(json.loads(body))
                answer(204)(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = False
        if self.tls is not None:
            self.server.socket = self.tls.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.free.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(LIMIT_SECONDS)

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.server.server_port}/hook"

    def hangs(self, request: BaseHTTPRequestHandler) -> None:
        self.free.wait(LIMIT_SECONDS)
        request.close_connection = True


def answer(status: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def send(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("content-length", "0")
        request.end_headers()

    return send


def resets(request: BaseHTTPRequestHandler) -> None:
    linger = struct.pack("ii", 1, 0)
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    request.connection.close()
    request.close_connection = True
    request.wfile = open("/dev/null", "wb")  # noqa: SIM115, PTH123 - closed by the server


def is_signed(headers, body: bytes) -> bool:
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.new(KEY, text, hashlib.sha256).digest()).decode()
    return headers["webhook-signature"] == f"v1,{wanted}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as found:
        yield found


@pytest.fixture
def webhook(receiver, tmp_path):
    (tmp_path / "key").write_bytes(KEY)
    return parse_webhook({"url": receiver.url, "secret": tmp_path / "key", "name": "site"}, "test")


@contextmanager
def following(webhook, node, meters=None) -> Iterator[list[float]]:
    """Follow in a thread; nobody waits for a retry. Gives the times that it would have slept."""
    slept: list[float] = []
    stopped, loop = asyncio.Event(), asyncio.new_event_loop()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(0.002)

    async def run() -> None:
        with ThreadPoolExecutor(2) as reads:
            follower = WebhookFollower(
                webhook, node.catalog, node.identity, meters or node.meters, reads, sleep=sleep
            )
            task = asyncio.create_task(follower.run())
            await wait_until_async(lambda: follower._cursor >= 0)
            begun.set()
            waiting = asyncio.create_task(stopped.wait())
            await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
            task.cancel()
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await task

    begun = threading.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    try:
        assert begun.wait(LIMIT_SECONDS)
        yield slept
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(LIMIT_SECONDS)
        loop.close()
        assert not thread.is_alive()


def happen(node, *kinds: str) -> None:
    for kind in kinds:
        node.catalog.event_log.record(kind, node.clock(), f"of {kind}")


def kinds_of(receiver: Receiver) -> list[str]:
    return [body["data"]["kind"] for body in receiver.got]


def test_new_events_that_are_wanted_arrive_signed_and_in_order(
    node, receiver, webhook, monkeypatch
):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # not used: no setting names it
    happen(node, "imported")  # before it was set up
    with following(webhook, node):
        happen(node, "rejected", "pushed", "low-space", "settled", "runtime-away")
        wait_until(lambda: len(receiver.got) == 3)
    assert kinds_of(receiver) == ["rejected", "low-space", "runtime-away"]
    assert receiver.got[0]["source"] == f"urn:airside:{node.identity}"
    events = node.meters.read()["airside_webhook_events_total"]
    assert events == {("site", "delivered"): 3, ("site", "dropped"): 0}


def test_an_event_is_sent_again_until_it_is_taken(node, receiver, webhook, monkeypatch):
    monkeypatch.setattr(senders, "ANSWER_SECONDS", 2.0)
    elsewhere = answer(307, location="http://127.0.0.1:9/elsewhere")
    receiver.script = [
        answer(500),
        resets,
        receiver.hangs,
        elsewhere,
        answer(404),
        answer(429, retry_after="77"),
    ]
    with following(webhook, node) as slept:
        happen(node, "rejected", "imported")
        wait_until(lambda: len(receiver.got) == 2)
    assert kinds_of(receiver) == ["rejected", "imported"]
    assert len(set(receiver.asked[:7])) == 1  # the same id each time
    assert [seconds for seconds in slept if seconds >= 77] == [77.0]
    assert node.meters.read()["airside_webhook_failed_attempts_total"] == {("site",): 6}


def test_while_a_receiver_is_away_the_events_that_wait_are_counted(node, receiver, webhook):
    receiver.script = [answer(503)] * 1000
    numbers = node.meters.read
    with following(webhook, node):
        happen(node, "rejected")
        wait_until(lambda: numbers()["airside_webhook_failed_attempts_total"]["site",] >= 1)
        happen(node, "imported", "settled")
        wait_until(lambda: numbers()["airside_webhook_pending_events"]["site",] == 3)
        receiver.script.clear()
        wait_until(lambda: numbers()["airside_webhook_pending_events"]["site",] == 0)
    assert numbers()["airside_webhook_events_total"]["site", "delivered"] == 2


def drips(request: BaseHTTPRequestHandler) -> None:
    """Answers byte by byte, without end."""
    with suppress(OSError):
        for byte in b"HTTP/1.1 204 " + b"x" * 4000:
            request.wfile.write(bytes([byte]))
            threading.Event().wait(0.02)


def chatters(request: BaseHTTPRequestHandler) -> None:
    """Answers 200 at once, with a body that never ends."""
    with suppress(OSError):
        request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n")
        while True:
            request.wfile.write(b"x" * 65536)


def test_an_answer_that_drips_is_given_up_and_one_that_never_ends_is_an_answer(
    node, receiver, webhook, monkeypatch
):
    monkeypatch.setattr(senders, "ANSWER_SECONDS", 2.0)
    receiver.script = [drips, chatters]
    with following(webhook, node):
        happen(node, "rejected", "imported")
        wait_until(lambda: len(receiver.got) == 1)
    assert kinds_of(receiver) == ["imported"]
    assert len(receiver.asked) == 3
    assert node.meters.read()["airside_webhook_failed_attempts_total"] == {("site",): 1}


def test_what_the_receiver_refuses_for_what_it_is_does_not_hold_up_the_rest(
    node, receiver, webhook, caplog
):
    receiver.script = [answer(400)] * 5
    with following(webhook, node):
        happen(node, "rejected", "imported")
        wait_until(lambda: kinds_of(receiver) == ["imported"])
    events = node.meters.read()["airside_webhook_events_total"]
    assert events["site", "dropped"] == 1
    assert "is dropped: HTTP 400" in caplog.text


def test_nothing_is_sent_to_one_that_is_gone(node, receiver, webhook, caplog):
    receiver.script = [answer(410)]
    with following(webhook, node):
        happen(node, "rejected", "imported")
        wait_until(lambda: "is gone (410)" in caplog.text)
    assert len(receiver.asked) == 1
    assert node.meters.read()["airside_webhook_gone"]["site",] == 1


def test_a_restart_loses_nothing_and_repeats_nothing(node, receiver, webhook):
    with following(webhook, node):
        happen(node, "rejected")
        wait_until(lambda: len(receiver.got) == 1)
    happen(node, "imported", "partial")
    with following(webhook, node):
        wait_until(lambda: len(receiver.got) == 3)
    assert kinds_of(receiver) == ["rejected", "imported", "partial"]


def test_events_that_were_deleted_before_they_could_be_sent_are_counted_and_told(
    node, receiver, webhook, caplog
):
    happen(node, "imported")
    node.catalog.set_meta({CURSOR + "site": str(node.catalog.event_log.newest())})
    happen(node, "rejected", "rejected", "partial")
    with node.catalog._writer.transaction("prune") as db:
        db.execute("DELETE FROM event WHERE id < (SELECT max(id) FROM event)")
    with following(webhook, node):
        wait_until(lambda: kinds_of(receiver) == ["partial"])
    assert node.meters.read()["airside_webhook_events_total"]["site", "dropped"] == 2
    assert "2 events were deleted" in caplog.text


def test_a_secret_that_cannot_be_read_is_told_and_waited_for(node, receiver, webhook, caplog):
    webhook.secret.rename(webhook.secret.with_name("away"))
    with following(webhook, node):
        happen(node, "imported")
        wait_until(lambda: "cannot be used" in caplog.text)
        webhook.secret.with_name("away").rename(webhook.secret)
        wait_until(lambda: kinds_of(receiver) == ["imported"])


def test_only_a_certificate_of_a_trusted_authority_is_taken(node, tmp_path):
    authority, secret = Authority(tmp_path / "ca"), tmp_path / "key"
    secret.write_bytes(KEY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.server())
    with Receiver(tls=context) as receiver:
        table = {"url": receiver.url, "secret": secret, "name": "site"}
        with following(parse_webhook(table, "test"), node):
            happen(node, "imported")
            failed = "airside_webhook_failed_attempts_total"
            wait_until(lambda: node.meters.read()[failed])
        assert receiver.got == []
        with following(parse_webhook({**table, "ca": authority.cert}, "test"), node):
            wait_until(lambda: kinds_of(receiver) == ["imported"])


def test_a_stop_does_not_wait_for_a_receiver_that_hangs(node, receiver, webhook):
    receiver.script = [receiver.hangs]
    with following(webhook, node):
        happen(node, "imported")
        wait_until(lambda: receiver.asked)
    assert not receiver.free.is_set()  # nobody freed it, and the follower has ended
