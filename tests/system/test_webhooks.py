"""A running agent tells a receiver what happens, and never waits for it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from support.agent import Agent
from support.images import oci_archive, random_image
from support.waiting import LIMIT_SECONDS, wait_until

pytestmark = pytest.mark.system


@pytest.fixture
def receiver():
    """A receiver that takes every message; while `hold` is set it answers nothing."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.server.asked.set()
            if self.server.hold:
                self.server.free.wait(LIMIT_SECONDS)
                self.close_connection = True
                return
            self.server.got.append(json.loads(body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    server.got, server.hold = [], False
    server.asked, server.free = threading.Event(), threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.free.set()
    server.shutdown()
    server.server_close()
    thread.join(LIMIT_SECONDS)


def test_events_reach_the_receiver_over_restarts_and_a_stop_does_not_wait_for_it(
    receiver, tmp_path
):
    (tmp_path / "images").mkdir()
    (tmp_path / "key").write_text("a key that nobody can guess")
    config = f"""
[[webhooks]]
url = "http://127.0.0.1:{receiver.server_port}/"
secret = "{tmp_path / "key"}"
"""
    with Agent(tmp_path / "images", tmp_path / "data", config=config) as agent:
        oci_archive(agent.watched / "one.tar", {"registry.example/app:1": random_image("1")})
        wait_until(lambda: receiver.got)
        assert receiver.got[0]["type"] == "io.airside.imported"
        assert receiver.got[0]["subject"] == str(agent.watched / "one.tar")
        receiver.hold = True
        receiver.asked.clear()
        oci_archive(agent.watched / "two.tar", {"registry.example/app:2": random_image("2")})
        assert receiver.asked.wait(LIMIT_SECONDS)
        agent.stop()
        receiver.hold = False
        receiver.free.set()
        agent.start()
        wait_until(lambda: len(receiver.got) > 1)
        assert receiver.got[1]["subject"] == str(agent.watched / "two.tar")
        status, body = agent.get("/metrics")
        assert status == 200
        assert b'airside_webhook_events_total{result="delivered",webhook="127.0.0.1"}' in body


def test_a_webhook_without_its_secret_ends_the_start_with_the_reason(tmp_path):
    (tmp_path / "images").mkdir()
    config = f"""
[[webhooks]]
url = "http://127.0.0.1:9/"
secret = "{tmp_path / "absent"}"
"""
    agent = Agent(tmp_path / "images", tmp_path / "data", config=config)
    agent.launch()
    assert agent.wait_exit() != 0
    assert "webhook 127.0.0.1: its secret" in agent.log
