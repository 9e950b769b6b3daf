"""What OCI's conformance suite asks about blobs: every way to send one, in order and not."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.agent import Agent
from support.distribution import OCTETS, Registry, Reply, digest_of, some_bytes

ALGORITHMS = ("sha256", "sha512")
HERE, THERE = "/v2/conformance/here", "/v2/conformance/there"
UPLOADS = "/blobs/uploads/"
CHUNK = 1024
BINARY = ("Content-Type", OCTETS)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    root: Path = tmp_path_factory.mktemp("blobs")
    (root / "images").mkdir()
    with Agent(root / "images", root / "data") as agent:
        yield Registry(agent.registry)
        assert agent.logged("error", "critical") == []


def begin(registry: Registry, repository: str = HERE) -> str:
    """Start an upload; gives where it is."""
    reply = registry.ask("POST", repository + UPLOADS, b"")
    assert reply.status == 202
    assert reply.header("Docker-Upload-UUID") in reply.location
    return reply.location


def chunk(
    registry: Registry, method: str, where: str, data: bytes, start: int, digest: str = ""
) -> Reply:
    """Send the chunk of `data` that begins at `start`."""
    part = data[start : start + CHUNK]
    span = ("Content-Range", f"{start}-{start + len(part) - 1}")
    query = [("digest", digest)] if digest else []
    return registry.ask(method, where, part, BINARY, span, query=query)


def finish(registry: Registry, where: str, digest: str, data: bytes = b"") -> Reply:
    return registry.ask("PUT", where, data, BINARY, query=[("digest", digest)])


# --- the ways to send a blob: each gives the last answer


def post_alone(registry: Registry, data: bytes, digest: str) -> Reply:
    query = [("digest", digest)]
    return registry.ask("POST", HERE + UPLOADS, data, BINARY, query=query)


def post_then_put(registry: Registry, data: bytes, digest: str) -> Reply:
    return finish(registry, begin(registry), digest, data)


def put_of_untold_length(registry: Registry, data: bytes, digest: str) -> Reply:
    query = [("digest", digest)]
    return registry.ask("PUT", begin(registry), data, BINARY, query=query, streamed=True)


def stream(registry: Registry, data: bytes, digest: str) -> Reply:
    reply = registry.ask("PATCH", begin(registry), data, BINARY, streamed=True)
    assert reply.status == 202
    return finish(registry, reply.location, digest)


def chunks(registry: Registry, data: bytes, digest: str) -> Reply:
    where = begin(registry)
    for start in range(0, len(data), CHUNK):
        reply = chunk(registry, "PATCH", where, data, start)
        end = min(start + CHUNK, len(data)) - 1
        assert (reply.status, reply.header("Range")) == (202, f"0-{end}")
        where = reply.location
    return finish(registry, where, digest)


def chunks_and_a_last_one(registry: Registry, data: bytes, digest: str) -> Reply:
    where, last = begin(registry), (len(data) - 1) // CHUNK * CHUNK
    for start in range(0, last, CHUNK):
        where = chunk(registry, "PATCH", where, data, start).location
    return chunk(registry, "PUT", where, data, last, digest)


Send = Callable[[Registry, bytes, str], Reply]
WAYS: dict[Send, int] = {
    post_alone: 512,
    post_then_put: 512,
    put_of_untold_length: 512,
    stream: 512,
    chunks: 3 * CHUNK - 5,
    chunks_and_a_last_one: 3 * CHUNK - 5,
}
"""Each way, and how much to send by it."""


def assert_held(registry: Registry, digest: str, data: bytes, repository: str = HERE) -> None:
    target = f"{repository}/blobs/{digest}"
    for method, body in (("HEAD", b""), ("GET", data)):
        reply = registry.ask(method, target)
        assert (reply.status, reply.body) == (200, body)
        assert reply.header("Content-Length") == str(len(data))
        assert reply.header("Docker-Content-Digest") == digest


def assert_created(registry: Registry, reply: Reply, digest: str, data: bytes) -> None:
    """The blob was taken, and is where the answer says."""
    assert (reply.status, reply.header("Docker-Content-Digest")) == (201, digest), reply
    assert reply.location == f"{HERE}/blobs/{digest}"
    assert_held(registry, digest, data)


def assert_deleted(registry: Registry, digest: str, repository: str = HERE) -> None:
    target = f"{repository}/blobs/{digest}"
    assert registry.ask("DELETE", target).status == 202
    assert registry.ask("HEAD", target).status == 404
    again = registry.ask("DELETE", target)
    assert (again.status, again.code) == (404, "BLOB_UNKNOWN")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("send", WAYS, ids=lambda way: way.__name__)
def test_a_blob_is_sent_read_and_deleted(registry: Registry, send: Send, algorithm: str) -> None:
    for data in (some_bytes(WAYS[send]), b"{}", b""):
        if not data and send is chunks_and_a_last_one:
            continue  # there is no last chunk
        digest = digest_of(data, algorithm)
        for _ in range(2):  # what was deleted may be sent again
            assert registry.ask("GET", f"{HERE}/blobs/{digest}").status == 404
            assert_created(registry, send(registry, data, digest), digest, data)
            assert_created(registry, send(registry, data, digest), digest, data)
            assert_deleted(registry, digest)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("send", WAYS, ids=lambda way: way.__name__)
def test_bytes_of_another_digest_are_refused(
    registry: Registry, send: Send, algorithm: str
) -> None:
    data = some_bytes(WAYS[send])
    wrong, right = digest_of(data[:-1], algorithm), digest_of(data, algorithm)
    reply = send(registry, data, wrong)
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
    for digest in (wrong, right):
        assert registry.ask("HEAD", f"{HERE}/blobs/{digest}").status == 404


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:baddigeststring",
        "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709",
        f"md5:{'0' * 32}",
        "sha256",
        "",
    ],
)
def test_a_digest_that_is_none_is_refused(registry: Registry, digest: str) -> None:
    where = begin(registry)
    reply = registry.ask("PUT", where, b"x", BINARY, query=[("digest", digest)])
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
    if digest:
        assert post_alone(registry, b"x", digest).status == 400


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("last_by", ["PATCH", "PUT"])
def test_chunks_out_of_order_are_refused_and_the_upload_goes_on(
    registry: Registry, algorithm: str, last_by: str
) -> None:
    data, where = some_bytes(3 * CHUNK - 5), begin(registry)
    digest = digest_of(data, algorithm)

    def send(start: int) -> Reply:
        last = last_by == "PUT" and start == 2 * CHUNK
        return chunk(registry, "PUT" if last else "PATCH", where, data, start, digest * last)

    # before each right chunk a wrong one: too early, the last one too early, one that was sent
    for right, wrong in ((0, CHUNK), (CHUNK, 2 * CHUNK), (2 * CHUNK, 0)):
        refused = send(wrong)
        assert (refused.status, refused.code) == (416, "BLOB_UPLOAD_INVALID")
        assert refused.header("Range") == f"0-{max(0, right - 1)}"
        assert refused.location.partition("?")[0] == where
        known = registry.ask("GET", where, query=[("digest", digest)])
        assert (known.status, known.body) == (204, b"")
        assert known.header("Range") == f"0-{max(0, right - 1)}"
        where = known.location
        reply = send(right)
        where = reply.location
    if last_by == "PATCH":
        assert (reply.status, reply.header("Range")) == (202, f"0-{len(data) - 1}")
        reply = finish(registry, reply.location, digest)
    assert_created(registry, reply, digest, data)
    assert_deleted(registry, digest)


@pytest.mark.parametrize("span", ["x", "0", "5-1", "-3", "0-1,2-3", "0-99999999999"])
def test_a_chunk_that_is_not_what_it_says_is_refused(registry: Registry, span: str) -> None:
    where = begin(registry)
    reply = registry.ask("PATCH", where, b"abcd", BINARY, ("Content-Range", span))
    assert reply.status in {400, 416}, reply
    assert finish(registry, where, digest_of(b"abcd"), b"abcd").status == 201


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_blob_is_mounted_from_another_repository(registry: Registry, algorithm: str) -> None:
    for source in ([("from", "conformance/there")], []):
        data = some_bytes(512)
        digest = digest_of(data, algorithm)
        sent = registry.ask("POST", THERE + UPLOADS, data, BINARY, query=[("digest", digest)])
        assert sent.status == 201
        query = [("mount", digest), *source]
        reply = registry.ask("POST", HERE + UPLOADS, query=query)
        assert_created(registry, reply, digest, data)
        assert_deleted(registry, digest)
        assert_held(registry, digest, data, THERE)
        assert_deleted(registry, digest, THERE)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("source", ["conformance/there", "conformance/nowhere", ""])
def test_what_cannot_be_mounted_is_sent(registry: Registry, source: str, algorithm: str) -> None:
    data = some_bytes(512)
    digest = digest_of(data, algorithm)
    query = [("mount", digest), *([("from", source)] if source else [])]
    reply = registry.ask("POST", HERE + UPLOADS, b"", query=query)
    assert reply.status == 202
    assert_created(registry, finish(registry, reply.location, digest, data), digest, data)
    assert_deleted(registry, digest)


def test_an_upload_is_cancelled(registry: Registry) -> None:
    where = begin(registry)
    assert registry.ask("PATCH", where, b"some", BINARY, streamed=True).status == 202
    assert registry.ask("DELETE", where).status == 204
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        query = [("digest", digest_of(b"some"))]
        gone = registry.ask(method, where, b"some" if method[0] == "P" else None, query=query)
        assert (gone.status, gone.code) == (404, "BLOB_UPLOAD_UNKNOWN"), method


def test_an_upload_belongs_to_its_repository(registry: Registry) -> None:
    where = begin(registry).replace(HERE, THERE)
    assert registry.ask("GET", where).status == 404
    assert finish(registry, where, digest_of(b"x"), b"x").status == 404


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_algorithm_may_be_told_before(registry: Registry, algorithm: str) -> None:
    data = some_bytes(512)
    query = [("digest-algorithm", algorithm)]
    reply = registry.ask("POST", HERE + UPLOADS, b"", query=query)
    assert reply.status == 202
    digest = digest_of(data, algorithm)
    assert_created(registry, finish(registry, reply.location, digest, data), digest, data)
    unknown = registry.ask("POST", HERE + UPLOADS, b"", query=[("digest-algorithm", "md5")])
    assert (unknown.status, unknown.code) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_parts_of_a_sent_blob(registry: Registry, algorithm: str) -> None:
    data = some_bytes(2048)
    digest = digest_of(data, algorithm)
    assert post_alone(registry, data, digest).status == 201
    for asked, start, stop in (
        ("500-1499", 500, 1500),
        ("500-", 500, 2048),
        ("-500", 1548, 2048),
        ("2000-5000", 2000, 2048),
    ):
        reply = registry.ask("GET", f"{HERE}/blobs/{digest}", None, ("Range", f"bytes={asked}"))
        assert (reply.status, reply.body) == (206, data[start:stop])
        assert reply.header("Content-Length") == str(stop - start)
        assert reply.header("Content-Range") == f"bytes {start}-{stop - 1}/2048"
    for asked in ("500-0", "5000-10000"):
        line = ("Range", f"bytes={asked}")
        assert registry.ask("GET", f"{HERE}/blobs/{digest}", None, line).status == 416
    assert_deleted(registry, digest)


def test_names_and_methods_that_are_none(registry: Registry) -> None:
    bad_name = registry.ask("POST", "/v2/Upper/case/blobs/uploads/", b"")
    assert (bad_name.status, bad_name.code) == (400, "NAME_INVALID")
    for method, target in (
        ("PATCH", f"{HERE}/blobs/{digest_of(b'')}"),
        ("PUT", f"{HERE}/tags/list"),
    ):
        reply = registry.ask(method, target, b"")
        assert (reply.status, reply.code) == (405, "UNSUPPORTED"), (method, target)
        assert reply.header("Allow")
    assert json.loads(registry.ask("GET", "/v2/").body) == {}
