"""Requests as no client should send them, and a registry that must bear them.

`mutated` changes well-formed requests; `Victim.bear` sends bytes and says what must hold whatever
they were. Placeholders in the bytes stand for what the registry has (`Victim.filled`).
"""

import contextlib
import itertools
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from airside.agent.node import Node
from airside.oci.reference import Repository

from .images import compact, random_image, sha256
from .nodes import node_at, wrong_blobs
from .pushing import PUSHED, push_image
from .served import served_node
from .wire import Reply, Wire, parse_replies

_BASE = f"/v2/{PUSHED.text}"
_HELD = random_image("victim", layers=1, layer_bytes=3000)
_MANIFEST, _BLOB = str(_HELD.digest), str(_HELD.layers[0].digest)
_HELLO = str(sha256(b"hello"))
_ABSENT = "sha256:" + "e" * 64


def _request(method: str, target: str, *lines: str, body: str | bytes = b"") -> bytes:
    raw = body.encode() if isinstance(body, str) else body
    told = [f"Content-Length: {len(raw)}"] if raw or method in {"POST", "PUT", "PATCH"} else []
    if any(line.startswith("Transfer-Encoding") for line in lines):
        told = []
    head = "\r\n".join([f"{method} {target} HTTP/1.1", "Host: r", *lines, *told, "", ""])
    return head.encode() + raw


_INDEX = "application/vnd.oci.image.index.v1+json"
_DOCUMENT = compact(
    {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [_HELD.manifest.descriptor]}
)
_CHUNKED, _EXPECT = "Transfer-Encoding: chunked", "Expect: 100-continue"
_OF_JSON = f"Content-Type: {_INDEX}"

SEEDS: tuple[bytes, ...] = (
    _request("GET", "/v2/"),
    _request("GET", "/"),
    _request("HEAD", f"{_BASE}/manifests/v1", "Accept: */*"),
    _request("GET", f"{_BASE}/manifests/{_MANIFEST}", f'If-None-Match: "{_MANIFEST}"'),
    _request("GET", f"{_BASE}/blobs/{_BLOB}", "Range: bytes=0-99"),
    _request("HEAD", f"{_BASE}/blobs/{_BLOB}"),
    _request("GET", f"{_BASE}/blobs/{_BLOB}?ns=docker.io"),
    _request("GET", f"{_BASE}/tags/list?n=1&last=a"),
    _request("GET", "/v2/_catalog?n=2"),
    _request("GET", f"{_BASE}/referrers/{_MANIFEST}?artifactType=a/b"),
    _request("POST", f"{_BASE}/blobs/uploads/"),
    _request("POST", f"{_BASE}/blobs/uploads/?digest={_HELLO}", body="hello"),
    _request("POST", f"{_BASE}/blobs/uploads/?mount={_BLOB}&from=team/app"),
    _request("PATCH", f"{_BASE}/blobs/uploads/@UP@", "Content-Range: 0-4", body="hello"),
    _request("PATCH", f"{_BASE}/blobs/uploads/@UP@", _CHUNKED, body="5\r\nhello\r\n0\r\n\r\n"),
    _request("PUT", f"{_BASE}/blobs/uploads/@UP@?digest={_HELLO}", body="hello"),
    _request("PUT", f"{_BASE}/blobs/uploads/@UP@?digest={_HELLO}", _EXPECT, body="hello"),
    _request("GET", f"{_BASE}/blobs/uploads/@UP@"),
    _request("DELETE", f"{_BASE}/blobs/uploads/@UP@"),
    _request("PUT", f"{_BASE}/manifests/v2?tag=a&tag=b", _OF_JSON, body=_DOCUMENT),
    _request("PUT", f"{_BASE}/manifests/v3", "Content-Encoding: gzip", _OF_JSON, body=_DOCUMENT),
    _request("DELETE", "/v2/team/gone/manifests/v1"),
    _request("DELETE", f"{_BASE}/blobs/{_ABSENT}"),
    _request("OPTIONS", "*"),
    _request("CONNECT", "r:80"),
    b"CONNECT \r\n\r\n",
    _request("GET", "/token?service=r&scope=repository:team/app:pull", "Authorization: Basic YTpi"),
    _request("GET", f"{_BASE}/manifests/v1", "Authorization: Bearer a.b.c"),
    _request("GET", f"http://r{_BASE}/manifests/v1", "Connection: Upgrade", "Upgrade: websocket"),
    _request("GET", "/v2/a%2f..%2F..%2fetc/blobs/uploads/..%2f..%5c"),
    b"GET /v2/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
)

TOKENS: tuple[bytes, ...] = tuple(
    text.encode("utf-8", "surrogateescape")
    for text in (
        *("%2f", "..%2f", "%5c", "%00", "%", "%zz", "%ff%fe", "+", "?", "#", "//", "/./", "/../"),
        *("&", "=", "&ns=", "?ns=[::1]:5", "?ns=a.b", "&n=-1", "&n=" + "9" * 30, "&digest=", ";"),
        *("@UP@", _BLOB, _MANIFEST, _HELLO, "sha512:", "sha256:", "md5:ab", "A" * 300),
        *("\r\n", "\n", "\r", "\0", " ", "\t", "\r\n\r\n", "\x7f", "\udcff", "\u00e9"),
        *("\r\nContent-Length: 5", "\r\nContent-Length: -1", "\r\nContent-Length: 0"),
        *("\r\nContent-Length: 99999999999999999999", "\r\nTransfer-Encoding: chunked"),
        *("\r\nTransfer-Encoding: gzip, chunked", "\r\nTransfer-Encoding: identity"),
        *("\r\nContent-Encoding: gzip", "\r\nContent-Encoding: br", "\r\nContent-Encoding: zstd"),
        *("\r\nContent-Encoding: deflate", "\r\nExpect: 100-continue", "\r\nExpect: 7"),
        *("\r\nContent-Range: 5-4", "\r\nContent-Range: bytes 0-4/5", "\r\nContent-Range: x"),
        *("\r\nRange: bytes=-5", "\r\nRange: bytes=9-", "\r\nRange: bytes=5-4,1-2"),
        *("\r\nConnection: close", "\r\nConnection: upgrade\r\nUpgrade: h2c", "\r\nHost: b"),
        *("\r\nIf-Match: *", '\r\nIf-None-Match: W/"x"', "\r\nX: " + "y" * 9000, "\r\n folded"),
        *("0\r\n\r\n", "5\r\nhello\r\n", "ffffffffffffffffff\r\n", "5;x=y\r\nhello\r\n", "-1\r\n"),
        *("\r\nAuthorization: Basic YTpi", "\r\nAuthorization: Basic \u00e9", "scope=", "/token"),
        *("\r\nAuthorization: Bearer x.y", "\r\nAuthorization: ", "repository:*:*"),
        *("HEAD", "DELETE", "PUT", "PATCH", "BREW", " HTTP/1.0", " HTTP/2.0", " HTTP/9", "HTTP"),
        *("/blobs/uploads/", "/manifests/", "/tags/list", "/referrers/", "/v2/", "_catalog"),
        *("null", "[", "{", '{"', "NaN", "1e999", "-1", "18446744073709551616", '"\\ud800"'),
        *('"subject":{},', '"manifests":', "[" * 500, '"annotations":{"a":1},', "true", "2.0"),
    )
)


_PLAIN = tuple(token for token in TOKENS if not any(byte < 33 for byte in token))


def mutated(data: bytes, rng: Random) -> bytes:
    """The bytes with one thing wrong."""
    first = data.find(b"\r\n") + 1 or len(data)  # its end is where most is decided
    at = rng.randint(0, first if rng.randint(0, 1) else len(data))
    end = min(len(data), at + rng.choice((1, 1, 2, 8, 40)))
    kind = rng.randint(0, 7)
    if kind <= 3:
        token = rng.choice(TOKENS if kind == 1 else _PLAIN)
        return data[:at] + token + (data[at:] if kind else data[end:])
    if kind == 4:
        return data[:at] + data[end:]
    if kind == 5:
        return data[:at] + data[at:end] * 2 + data[end:]
    if kind == 6:
        return data[:at] + bytes([rng.randint(0, 255)]) + data[at + 1 :]
    lines = data.split(b"\r\n")
    line = lines.pop(rng.randint(0, len(lines) - 1))
    lines.insert(rng.randint(0, len(lines)), line if rng.randint(0, 1) else rng.choice(TOKENS))
    return b"\r\n".join(lines)


class Complaints(logging.Handler):
    """What is logged that a client alone must not be able to bring about."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno >= logging.ERROR:
            self.found.append(logging.Formatter().format(record))

    def take(self) -> str:
        found, self.found = self.found, []
        return "\n".join(found)


@contextlib.contextmanager
def complaints() -> Iterator[Complaints]:
    handler = Complaints()
    logging.getLogger().addHandler(handler)
    try:
        yield handler
    finally:
        logging.getLogger().removeHandler(handler)


class Victim:
    """A registry below `root`, which has nothing else in it."""

    def __init__(self, root: Path, node: Node, address: str, log: Complaints) -> None:
        self.node, self.address, self.log, self._root = node, address, log, root
        self._numbers = itertools.count()

    def bear(self, payload: bytes, answers: int = 0) -> list[Reply]:
        """Send this, and a good request behind it, on one connection; returns the answers.

        So many of them are waited for.
        """
        self._push()
        marker = f"after{next(self._numbers)}"
        last = f"\r\nGET /v2/{marker}/tags/list HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n"
        sent = self.filled(payload)
        with Wire(self.address) as wire:
            wire.send(sent + last.encode().removeprefix(b"\r\n" if sent.endswith(b"\n") else b""))
            replies = parse_replies(wire.read_all(answers), may_be_heads=b"HEAD" in sent)
        self.sent = sent
        for reply in replies:
            check_reply(reply)
        self._check_after(replies, marker)
        return replies

    def filled(self, payload: bytes) -> bytes:
        """With what the placeholders stand for."""
        if b"@UP@" not in payload:
            return payload
        return payload.replace(b"@UP@", self.node.pusher.begin(PUSHED).id.encode())

    def _push(self) -> None:
        if self.node.catalog.document_by_tag(Repository("", PUSHED.text), "v1") is None:
            push_image(self.node, PUSHED, _HELD, "v1")

    def _check_after(self, replies: list[Reply], marker: str) -> None:
        """If the last request was taken for one, its answer is right and the last."""
        answers = [n for n, r in enumerate(replies) if marker.encode() in r.body]
        assert all(replies[n].status in {400, 404, 405} for n in answers), replies
        told = self.log.take()
        assert not told, told
        self.swept()

    def swept(self) -> None:
        """Uploads given up, nothing is left of them; no file is where none belongs."""
        self.node.pusher.uploads.close()
        left = list((self.node.settings.data / "ingest").iterdir())
        assert left == [] or _are_gone(self.node), left
        assert [path.name for path in self._root.iterdir()] == [self.node.settings.data.name]


def _are_gone(node: Node) -> bool:
    for _ in range(500):
        node.pusher.uploads.close()
        if not list((node.settings.data / "ingest").iterdir()):
            return True
        time.sleep(0.01)
    return False


def check_reply(reply: Reply) -> None:
    """What holds of every answer."""
    assert reply.status < 500, reply
    if reply.status >= 400 and reply.body[:1] == b"{":
        [error] = json.loads(reply.body)["errors"]
        assert set(error) == {"code", "message", "detail"}, reply
        assert "Traceback" not in error["message"]


@contextlib.contextmanager
def victim(root: Path, **settings: Any) -> Iterator[Victim]:
    settings |= {"allowed_hosts": ("*",)}  # requests are to reach the code behind that check
    with complaints() as log, node_at(root / "data", **settings) as node, served_node(node) as at:
        found = Victim(root, node, at.address, log)
        yield found
        assert wrong_blobs(node) == []
