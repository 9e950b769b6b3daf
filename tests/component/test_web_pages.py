"""What web pages may ask of a registry on loopback: the answers on the wire.

`tests/system/test_browser.py` has a real browser send such requests; here are those that a page
cannot make it send, too. Each fails on the code of before, which looked at no Host, Origin or
Sec-Fetch-Site.
"""

import pytest

from airside.registry.http.page_guard import MOST_TOLD
from support.images import sha256
from support.nodes import node_at
from support.served import served_node
from support.wire import Wire

BLOB = b"from a page"
POST = f"POST /v2/a/blobs/uploads/?digest={sha256(BLOB)} HTTP/1.1"
LENGTH = f"Content-Length: {len(BLOB)}"
EVIL = "Origin: http://evil.example"

REFUSED = [
    (400, "GET /v2/ HTTP/1.0"),
    (400, "POST / HTTP/1.0", "Content-Length: 0"),
    (400, "GET /healthz HTTP/1.1"),
    (421, "GET http://evil.example/healthz HTTP/1.0"),
    (400, "GET /v2/ HTTP/1.1"),
    (400, "GET /v2/ HTTP/1.1", "Host: @", "Host: @"),
    (400, "GET /v2/ HTTP/1.1", "Host: @", "Host: evil.example"),
    (421, "GET /v2/ HTTP/1.1", "Host: evil.example"),
    (421, "GET / HTTP/1.1", "Host: evil.example:5050"),
    (421, "GET /healthz HTTP/1.1", "Host: evil.example"),
    (421, "GET /metrics HTTP/1.1", "Host: evil.example"),
    (421, "GET /token HTTP/1.1", "Host: evil.example"),
    (421, "OPTIONS /v2/ HTTP/1.1", "Host: evil.example"),
    (421, "OPTIONS * HTTP/1.1", "Host: evil.example"),
    (421, "GET /v2/ HTTP/1.1", "Host:"),
    (421, "GET /v2/ HTTP/1.0", "Host: evil.example", "Connection: keep-alive"),
    (421, "GET http://evil.example/v2/ HTTP/1.1", "Host: @"),
    (421, "GET http://127.0.0.1/v2/ HTTP/1.1", "Host: evil.example"),
    (421, POST, "Host: evil.example", "Origin: http://evil.example", LENGTH),
    (403, POST, "Host: @", EVIL, LENGTH),
    (403, POST, "Host: @", EVIL, LENGTH, "Content-Type: text/plain"),
    (403, POST, "Host: @", "Origin: null", LENGTH),
    (403, POST, "Host: @", "Origin: http://@", EVIL, LENGTH),
    (403, POST, "Host: @", "Sec-Fetch-Site: cross-site", LENGTH),
    (403, POST, "Host: @", "Sec-Fetch-Site: same-site", "Origin: http://@", LENGTH),
    (403, POST, "Host: @", EVIL, "Transfer-Encoding: chunked"),
    (403, POST, "Host: @", EVIL, LENGTH, "Expect: 100-continue"),
    (403, "DELETE /v2/a/manifests/1 HTTP/1.1", "Host: @", EVIL),
    (403, "POST /token HTTP/1.1", "Host: @", EVIL, "Content-Length: 0"),
    (403, "GET /v2/a/manifests/1 HTTP/1.1", "Host: @", "Sec-Fetch-Site: cross-site"),
]


@pytest.fixture
def registry(tmp_path):
    with (
        node_at(tmp_path / "data", public_url="http://known.site") as node,
        served_node(node) as found,
    ):
        yield node, found.address


def ask(address, *lines):
    """Sends a head, with the body where one is announced; returns the reply."""
    host, port = address.split(":")
    head = "\r\n".join(lines).replace("@", address)
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BLOB), BLOB) if "chunked" in head else BLOB
    body = body if lines[0].startswith("POST") and "Length: 0" not in head else b""
    with Wire(f"{host}:{port}") as wire:
        wire.send(f"{head}\r\n\r\n".encode() + body)
        return wire.read(lines[0].partition(" ")[0])


def test_requests_of_other_names_and_pages_are_refused_and_store_nothing(registry):
    node, address = registry
    for status, *lines in REFUSED:
        reply = ask(address, *lines)
        assert reply.status == status, lines
        assert status == 400 or b'"errors"' in reply.body  # aiohttp's own answer is plain text
        assert [name for name in reply.headers if name.startswith("access-control-")] == []
        assert not list((node.settings.data / "oci" / "blobs").glob("*/*")), lines
        assert not len(node.pusher.uploads), lines


def test_clients_are_answered_under_every_name_of_the_registry(registry):
    _, address = registry
    port = address.split(":")[1]
    for host in ("@", "127.0.0.1", f"LOCALHOST.:{port}", "localhost", "[::1]:1", "known.site"):
        assert ask(address, "GET /v2/ HTTP/1.1", f"Host: {host}").status == 200, host
    assert ask(address, "GET http://localhost/v2/ HTTP/1.1", "Host: @").status == 200
    assert ask(address, "GET /v2/a/tags/list?ns=docker.io HTTP/1.1", "Host: @").status == 404
    assert ask(address, "GET / HTTP/1.1", "Host: @", "Sec-Fetch-Site: cross-site").status == 200
    started = "POST /v2/own/blobs/uploads/ HTTP/1.1"
    own = ("Origin: http://known.site", "Sec-Fetch-Site: same-origin", "Content-Length: 0")
    assert ask(address, started, "Host: known.site", *own).status == 202


def test_an_unknown_name_is_told_once_and_a_number_of_them(registry, caplog):
    _, address = registry
    for n in range(2 * MOST_TOLD):
        ask(address, "GET /v2/ HTTP/1.1", f"Host: site{n // 2 * 2}.example:5050")
    for n in range(2 * MOST_TOLD):
        ask(address, "GET /v2/ HTTP/1.1", f"Host: more{n}.example:5050")
    told = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(told) == MOST_TOLD
    assert "'site0.example:5050'" in told[0]
    assert "allowed_hosts" in told[0]


def test_probes_without_a_host_are_answered_as_http_1_0_has_none(registry):
    _, address = registry
    assert ask(address, "OPTIONS / HTTP/1.0").status == 204
    assert ask(address, "GET /healthz HTTP/1.0").status == 200
    assert ask(address, "HEAD / HTTP/1.0").status == 200


def test_options_tell_the_methods_and_grant_no_page_anything(registry):
    _, address = registry
    asked = (
        EVIL,
        "Access-Control-Request-Method: PUT",
        "Access-Control-Request-Private-Network: true",
    )
    reply = ask(address, "OPTIONS /v2/a/manifests/1 HTTP/1.1", "Host: @", *asked)
    assert (reply.status, reply.headers["allow"]) == (204, "GET, HEAD, PUT, DELETE, OPTIONS")
    assert [name for name in reply.headers if name.startswith("access-control-")] == []
    assert ask(address, "OPTIONS * HTTP/1.1", "Host: @").status == 204
