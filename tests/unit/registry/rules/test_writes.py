"""What requests mean, for any text: nothing raises, and reading and writing agree on names."""

import json
from urllib.parse import unquote

from hypothesis import example, given
from hypothesis import strategies as st

from airside.core.errors import ReferenceInvalidError
from airside.oci.digest import Digest
from airside.oci.reference import MAX_REPOSITORY_LENGTH, is_path, is_tag, parse_reference
from airside.registry.rules import writes
from airside.registry.rules.answers import Answer
from airside.registry.rules.names import Name, normal_host, push_target
from airside.registry.rules.requests import GetBlob, GetManifest, parse_request
from airside.registry.rules.write_answers import upload_answer
from airside.registry.rules.writes import (
    DeleteBlob,
    DeleteManifest,
    GetUpload,
    MountBlob,
    PutManifest,
    StartUpload,
    is_write,
)

DIGEST = "sha256:" + "ab" * 32
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
    location = dict(upload_answer(202, Name(path), upload_id, 0).headers)["Location"]
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
