"""What requests mean, for any text: nothing raises, and reading and writing agree on names."""

import json
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airside.core.errors import ReferenceInvalidError
from airside.oci.digest import Digest
from airside.oci.model import OCI_EMPTY, OCI_MANIFEST, parse_document
from airside.oci.reference import MAX_REPOSITORY_LENGTH, is_path, is_tag, parse_reference
from airside.registry.rules import write_answers, writes
from airside.registry.rules.answers import Answer
from airside.registry.rules.names import Name, normal_host, push_target
from airside.registry.rules.requests import GetBlob, GetManifest, parse_request
from airside.registry.rules.writes import (
    Chunk,
    DeleteBlob,
    DeleteManifest,
    GetUpload,
    MountBlob,
    PutManifest,
    StartUpload,
    is_write,
)

DIGEST = "sha256:" + "ab" * 32
MANY_TAGS = "&".join(f"tag=v{n}" for n in range(101))
METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get", ""])
PIECES = st.sampled_from(
    [
        *("/", "//", "%2f", "%2F", "..", ".", "\\", "%5c", "%00", "%", "%zz", "%ff", "+", "#", "@"),
        *("v2", "blobs", "uploads", "manifests", "tags", "list", "referrers", "_catalog"),
        *("a", "b.c", "d__e", "A", "x_5000", "a__5000", "localhost", "1_2", DIGEST, "sha512:ab"),
        *(
            "?",
            "&",
            "=",
            "ns=",
            "n=",
            "last=",
            "digest=",
            "mount=",
            "from=",
            "tag=",
            "artifactType=",
        ),
        *("[::1]:5000", "docker.io", "index.docker.io", "9" * 30, "-1", "\udcff", "\u00e9", "\0"),
    ]
)
TEXTS = st.lists(PIECES | st.text(max_size=3), max_size=12).map("".join)
TARGETS = st.sampled_from(
    ["", "/v2/", "/v2/a/", "/v2/a/blobs/uploads/", "/v2/a/manifests/"]
).flatmap(lambda start: TEXTS.map(lambda rest: start + rest))
NAMES = st.from_regex(r"[a-z0-9]{1,4}([._/-][a-z0-9]{1,4}){0,4}", fullmatch=True).filter(is_path)
HOSTS = st.sampled_from(["", "docker.io", "a.b:5000", "localhost", "[::1]:5"])
UPLOAD_IDS = st.text("0123456789abcdef", min_size=1, max_size=8)


@given(METHODS, TARGETS, TEXTS, TEXTS)
@example("PUT", "/v2/a/manifests/b", "\udcff/\0", "")
@example("PATCH", "/v2/a/blobs/uploads/x", "", "bytes 9-/")
def test_no_text_makes_parsing_fail(method, target, content_type, content_range):
    for found in (
        parse_request(method, target),
        writes.parse_write(method, target, content_type=content_type, content_range=content_range),
    ):
        if isinstance(found, Answer):
            assert 400 <= found.status < 500
            [error] = json.loads(found.body)["errors"]
            assert error["code"]
            assert all(name.isascii() and value.isascii() for name, value in found.headers)
            continue
        name = getattr(found, "name", None)
        if name is not None:
            assert is_path(name.text)
        assert isinstance(is_write(method, target), bool)


@given(NAMES, HOSTS, st.from_regex(r"[a-zA-Z0-9_][a-z.-]{0,5}", fullmatch=True).filter(is_tag))
def test_reading_and_writing_mean_the_same_name(path, host, tag):
    ns = f"?ns={host}" if host else ""
    at, name = f"/v2/{path}", Name(path, normal_host(host))
    digest = Digest(*DIGEST.split(":"))
    for reference in (tag, digest):
        target = f"{at}/manifests/{reference}{ns}"
        assert parse_request("GET", target) == GetManifest(name, reference)
        assert writes.parse_write("PUT", target) == PutManifest(name, reference, "")
        assert writes.parse_write("DELETE", target) == DeleteManifest(name, reference)
    target = f"{at}/blobs/{digest}{ns}"
    assert parse_request("HEAD", target) == GetBlob(name, digest)
    assert writes.parse_write("DELETE", target) == DeleteBlob(name, digest)
    start = f"{at}/blobs/uploads/{ns}"
    assert writes.parse_write("POST", start) == StartUpload(name, None, "sha256")
    mount = f"{start}{'&' if ns else '?'}mount={digest}&from={path}"
    assert writes.parse_write("POST", mount) == MountBlob(name, digest, name)


@given(NAMES, UPLOAD_IDS)
def test_an_upload_is_asked_for_by_its_location(path, upload_id):
    location = dict(write_answers.upload_answer(202, Name(path), upload_id, 0).headers)["Location"]
    assert is_write("GET", location)
    assert writes.parse_write("GET", location) == GetUpload(Name(path), upload_id)


@given(TARGETS)
@example("/v2/blobs/uploads/x")
@example("/v2/foo/uploads/")
@example("/v2/foo/uploads/x")
def test_only_what_is_an_upload_by_the_specification_is_one(target):
    """`/v2/<name>/blobs/uploads/<id>`, for PUT, PATCH and DELETE as for GET."""
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        found = writes.parse_write(method, f"{target}?digest={DIGEST}")
        if type(found).__name__.endswith("Upload"):
            path = unquote(target.partition("?")[0])
            assert f"/v2/{found.name.text}/blobs/uploads" in path


@given(st.lists(PIECES.filter(lambda p: p.isascii()) | NAMES, max_size=6).map("".join), HOSTS)
@example("a__5000/x", "")
@example("a.b_c/x", "")
@example("a_99999/x", "")
@example("a/" * 126 + "a", "a" * 60 + ".b")
@example("a" * 250, "docker.io")
def test_a_pushed_name_reads_back_as_it_is_recorded(text, host):
    """The catalog, `explain` and containerd have its name as a text."""
    if not is_path(text):
        return
    target = push_target(Name(text, host))
    if not target.host:
        return
    try:
        assert parse_reference(f"{target}:tag").repository == target
    except ReferenceInvalidError:
        assert len(str(target)) > MAX_REPOSITORY_LENGTH  # `Pusher` refuses it


def refused(method, target, **said):
    """Status and code of a refusal, and its message."""
    found = writes.parse_write(method, target, **said)
    assert isinstance(found, Answer)
    (error,) = json.loads(found.body)["errors"]
    return found.status, error["code"], error["message"]


@pytest.mark.parametrize(
    ("method", "target", "status", "code"),
    [
        ("POST", "/v2/a/blobs/uploads/?mount=sha256:no", 400, "DIGEST_INVALID"),
        ("POST", f"/v2/a/blobs/uploads/?mount={DIGEST}&from=A//b", 400, "NAME_INVALID"),
        ("POST", "/v2/a/blobs/uploads/?digest=no", 400, "DIGEST_INVALID"),
        ("POST", "/v2/a/blobs/uploads/?digest-algorithm=md5", 400, "DIGEST_INVALID"),
        ("PATCH", "/v2/a/manifests/v1", 405, "UNSUPPORTED"),
        ("PUT", "/v2/a/manifests/sha256:no", 400, "DIGEST_INVALID"),
        ("PUT", "/v2/a/manifests/-v1", 400, "TAG_INVALID"),
        ("DELETE", "/v2/a/manifests/-v1", 404, "MANIFEST_UNKNOWN"),
        ("PUT", "/v2/a/manifests/v1?tag=-v2", 400, "TAG_INVALID"),
        (
            "PUT",
            "/v2/a/manifests/v1?" + "&".join(f"tag=v{n}" for n in range(101)),
            414,
            "TAG_INVALID",
        ),
        ("PUT", f"/v2/a/blobs/{DIGEST}", 405, "UNSUPPORTED"),
        ("DELETE", "/v2/a/blobs/no", 400, "DIGEST_INVALID"),
    ],
)
def test_what_a_push_gets_wrong_is_refused_by_its_code(method, target, status, code):
    assert refused(method, target)[:2] == (status, code)


def test_an_upload_may_name_its_algorithm_by_the_digest_or_the_query():
    digest = "sha512:" + "ab" * 64
    name = Name("a")
    start = "/v2/a/blobs/uploads/"
    whole = writes.parse_write("POST", f"{start}?digest={digest}")
    assert whole == StartUpload(name, Digest(*digest.split(":")), "sha512")
    assert writes.parse_write("POST", f"{start}?digest-algorithm=sha512") == StartUpload(
        name, None, "sha512"
    )


def test_a_mount_without_a_source_is_searched_for_everywhere():
    found = writes.parse_write("POST", f"/v2/a/blobs/uploads/?mount={DIGEST}")
    assert found == MountBlob(Name("a"), Digest(*DIGEST.split(":")), None)


@pytest.mark.parametrize("text", ["0-9", "bytes 0-9/10", "bytes=0-9"])
def test_a_chunk_counts_its_bytes_from_the_first_to_the_last(text):
    found = writes.parse_write("PATCH", "/v2/a/blobs/uploads/x", content_range=text)
    assert found.chunk == Chunk(0, 9)
    assert found.chunk.count == 10


@pytest.mark.parametrize("text", ["9-0", "x", "0-", "-9"])
def test_a_range_that_is_none_is_refused(text):
    found = refused("PATCH", "/v2/a/blobs/uploads/x", content_range=text)
    assert found[:2] == (416, "BLOB_UPLOAD_INVALID")


def test_a_chunk_out_of_order_is_answered_with_where_the_upload_ends():
    found = write_answers.range_refusal(Name("a", "docker.io"), "x", 10, "not there")
    headers = dict(found.headers)
    assert found.status == 416
    assert headers["Location"] == "/v2/a/blobs/uploads/x?ns=docker.io"
    assert headers["Range"] == "0-9"
    assert json.loads(found.body)["errors"][0]["detail"] == {"offset": 10}


def test_what_was_pushed_is_answered_with_its_place_and_digest():
    digest = Digest(*DIGEST.split(":"))
    blob = dict(write_answers.blob_answer(Name("a"), digest).headers)
    assert blob == {"Location": f"/v2/a/blobs/{DIGEST}", "Docker-Content-Digest": DIGEST}
    descriptor = {"mediaType": OCI_EMPTY, "digest": DIGEST, "size": 2}
    manifest = {"schemaVersion": 2, "config": descriptor, "layers": [], "subject": descriptor}
    document = parse_document(json.dumps(manifest).encode(), OCI_MANIFEST, "test")
    found = write_answers.manifest_answer(Name("a"), document, ["v1", "v2"])
    assert found.status == 201
    assert found.headers == (
        ("Location", f"/v2/a/manifests/{document.digest}"),
        ("Docker-Content-Digest", str(document.digest)),
        ("OCI-Subject", DIGEST),
        ("OCI-Tag", "v1"),
        ("OCI-Tag", "v2"),
    )


@pytest.mark.parametrize("media_type", ["application/json", "text/plain; charset=utf-8"])
def test_a_content_type_of_no_manifest_leaves_it_to_the_document(media_type):
    found = writes.parse_write("PUT", "/v2/a/manifests/v1", content_type=media_type)
    assert found == PutManifest(Name("a"), "v1", "")
