import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airside.core import errors
from airside.oci.digest import Digest, digest_of
from airside.oci.model import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Document, parse_document
from airside.oci.reference import Repository
from airside.registry.rules import ranges
from airside.registry.rules.answers import Answer, Part, failure, problem
from airside.registry.rules.lookup import answer, find_blob
from airside.registry.rules.names import Name
from airside.registry.rules.ranges import Conditions
from airside.registry.rules.requests import (
    GetBlob,
    GetManifest,
    ListCatalog,
    ListReferrers,
    ListTags,
    Page,
    Ping,
    parse_request,
)
from support.memory import MemoryView

DIGEST = digest_of(b"layer")
HUB, PUSHED = "docker.io", ""


def document(
    mark: str, *, subject: Document | None = None, artifact_type: str = "", **annotations: str
) -> Document:
    def describe(media_type: str, data: bytes) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": str(digest_of(data)), "size": len(data)}

    value: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": describe(OCI_CONFIG, mark.encode()),
        "layers": [],
        "annotations": annotations,
    }
    if artifact_type:
        value["artifactType"] = artifact_type
    if subject:
        value["subject"] = describe(OCI_MANIFEST, subject.raw)
    return parse_document(json.dumps(value).encode(), OCI_MANIFEST, mark)


def view_of(*names: tuple[str, str, str]) -> MemoryView:
    """A view with (host, path, tag); each manifest tells its own name."""
    view = MemoryView()
    for host, path, tag in names:
        view.put(Repository(host, path), document(f"{host}|{path}|{tag}"), tag)
    return view


def ask(view: MemoryView, target: str, default_registry: str = HUB) -> Answer:
    intent = parse_request("GET", target)
    if isinstance(intent, Answer):
        return intent
    return answer(view, intent, default_registry)


def code_of(found: Answer | Any) -> str:
    assert isinstance(found, Answer)
    [error] = json.loads(found.body)["errors"]
    assert set(error) == {"code", "message", "detail"}
    assert dict(found.headers)["Content-Type"] == "application/json"
    return str(error["code"])


def pulled(found: Answer) -> str:
    """Which name's manifest an answer is, or the error's code."""
    if found.status != 200:
        return code_of(found)
    config = json.loads(found.body)["config"]["digest"]
    everything = [
        f"{host}|{path}|{tag}"
        for host in (HUB, PUSHED, "quay.io", "ghcr.io", "localhost:5000", "r.example:5000")
        for path in ("library/busybox", "busybox", "foo", "a/b")
        for tag in ("1", "2", "3")
    ]
    return next(name for name in everything if str(digest_of(name.encode())) == config)


# --- parsing


@pytest.mark.parametrize("target", ["/v2", "/v2/", "/v2/?x=1"])
def test_the_root_of_the_api_is_a_ping(target: str) -> None:
    assert parse_request("GET", target) == Ping()
    found = ask(MemoryView(), target)
    assert (found.status, found.body) == (200, b"{}")
    assert dict(found.headers)["Docker-Distribution-API-Version"] == "registry/2.0"


@pytest.mark.parametrize(
    ("target", "intent"),
    [
        ("/v2/a/b/manifests/v1", GetManifest(Name("a/b"), "v1")),
        (f"/v2/a/manifests/{DIGEST}", GetManifest(Name("a"), DIGEST)),
        ("/v2/a/manifests/manifests/list", GetManifest(Name("a/manifests"), "list")),
        (f"/v2/a/blobs/{DIGEST}", GetBlob(Name("a"), DIGEST)),
        ("/v2/a%2Fb/manifests/v1", GetManifest(Name("a/b"), "v1")),
        (f"/v2/a/blobs/{str(DIGEST).replace(':', '%3A')}", GetBlob(Name("a"), DIGEST)),
        ("/v2/a/manifests/v1?ns=quay.io", GetManifest(Name("a", "quay.io"), "v1")),
        ("/v2/a/manifests/v1?ns=r.example%3A50", GetManifest(Name("a", "r.example:50"), "v1")),
        ("/v2/a/manifests/v1?ns=index.docker.io", GetManifest(Name("a", HUB), "v1")),
        ("/v2/a/manifests/v1?ns=", GetManifest(Name("a"), "v1")),
        ("/v2/a/tags/list", ListTags(Name("a"), Page())),
        ("/v2/a/tags/list?n=3&last=b", ListTags(Name("a"), Page(3, "b"))),
        ("/v2/_catalog?n=0", ListCatalog("", Page(0))),
        ("/v2/_catalog?ns=quay.io", ListCatalog("quay.io", Page())),
        (f"/v2/a/referrers/{DIGEST}", ListReferrers(Name("a"), DIGEST, "")),
        (
            f"/v2/a/referrers/{DIGEST}?artifactType=application/x+json",
            ListReferrers(Name("a"), DIGEST, "application/x+json"),
        ),
        (
            f"/v2/a/referrers/{DIGEST}?artifactType=application%2Fx%2Bjson&artifactType=y",
            ListReferrers(Name("a"), DIGEST, "application/x+json"),
        ),
    ],
)
def test_a_target_is_parsed_into_its_intent(target: str, intent: object) -> None:
    assert parse_request("GET", target) == intent
    assert parse_request("HEAD", target) == intent


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/v2/UPPER/manifests/v1", 400, "NAME_INVALID"),
        ("/v2/a..b/manifests/v1", 400, "NAME_INVALID"),
        ("/v2//manifests/v1", 400, "NAME_INVALID"),
        ("/v2/manifests/v1", 400, "NAME_INVALID"),
        ("/v2/a/../b/manifests/v1", 400, "NAME_INVALID"),
        ("/v2/r.example:5000/a/manifests/v1", 400, "NAME_INVALID"),
        (f"/v2/{'a' * 256}/manifests/v1", 400, "NAME_INVALID"),
        ("/v2/%ff%fe/manifests/v1", 400, "NAME_INVALID"),
        ("/v2/a/manifests/v1?ns=../etc", 400, "NAME_INVALID"),
        ("/v2/_catalog?ns=-", 400, "NAME_INVALID"),
        ("/v2/a/manifests/sha256:abc", 400, "DIGEST_INVALID"),
        ("/v2/a/manifests/md5:abc", 400, "DIGEST_INVALID"),
        ("/v2/a/blobs/latest", 400, "DIGEST_INVALID"),
        (f"/v2/a/blobs/{DIGEST}0", 400, "DIGEST_INVALID"),
        ("/v2/a/referrers/sha256:", 400, "DIGEST_INVALID"),
        ("/v2/a/tags/list?n=-1", 400, "PAGINATION_NUMBER_INVALID"),
        ("/v2/a/tags/list?n=many", 400, "PAGINATION_NUMBER_INVALID"),
        ("/v2/_catalog?n=1.5", 400, "PAGINATION_NUMBER_INVALID"),
        (f"/v2/_catalog?n={'9' * 5000}", 400, "PAGINATION_NUMBER_INVALID"),
        ("/v2/a/tags/other", 404, "UNSUPPORTED"),
        ("/v2/a/blobs/uploads/x", 404, "UNSUPPORTED"),
        ("/v2/a", 404, "UNSUPPORTED"),
        ("/v1/a", 404, "UNSUPPORTED"),
        ("*", 404, "UNSUPPORTED"),
        ("", 404, "UNSUPPORTED"),
    ],
)
def test_a_malformed_target_is_refused(target: str, status: int, code: str) -> None:
    found = parse_request("GET", target)
    assert isinstance(found, Answer)
    assert (found.status, code_of(found)) == (status, code)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get"])
def test_what_would_change_something_is_not_allowed(method: str) -> None:
    found = parse_request(method, "/v2/a/blobs/uploads/")
    assert isinstance(found, Answer)
    assert (found.status, code_of(found)) == (405, "UNSUPPORTED")
    assert dict(found.headers)["Allow"] == "GET, HEAD"


@given(st.text(), st.sampled_from(["", "/v2/", "/v2/a/", "/v2/a/manifests/", "/v2/a/tags/list?"]))
def test_any_target_is_parsed_or_refused(text: str, start: str) -> None:
    found = parse_request("GET", start + text)
    if isinstance(found, Answer):
        assert 400 <= found.status < 500
        code_of(found)
    elif not isinstance(found, GetBlob):
        answer(MemoryView(), found)


# --- names


def test_a_short_path_means_what_was_pushed_first() -> None:
    view = view_of((HUB, "library/busybox", "1"), (PUSHED, "busybox", "1"), ("quay.io", "a/b", "1"))
    assert pulled(ask(view, "/v2/busybox/manifests/1")) == "|busybox|1"


def test_a_tag_that_was_not_pushed_is_looked_for_further_on() -> None:
    view = view_of(
        (PUSHED, "busybox", "1"), (HUB, "library/busybox", "2"), ("quay.io", "busybox", "3")
    )
    assert pulled(ask(view, "/v2/busybox/manifests/2")) == "docker.io|library/busybox|2"
    assert pulled(ask(view, "/v2/busybox/manifests/3")) == "quay.io|busybox|3"
    assert pulled(ask(view, "/v2/busybox/manifests/4")) == "MANIFEST_UNKNOWN"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("docker.io/library/busybox", "docker.io|library/busybox|1"),
        ("docker.io/busybox", "docker.io|library/busybox|1"),
        ("index.docker.io/busybox", "docker.io|library/busybox|1"),
        ("busybox", "docker.io|library/busybox|1"),
        ("library/busybox", "docker.io|library/busybox|1"),
        ("localhost_5000/foo", "localhost:5000|foo|1"),
        ("r.example_5000/a/b", "r.example:5000|a/b|1"),
        ("foo", "localhost:5000|foo|1"),
        ("r.example/a/b", "NAME_UNKNOWN"),
        ("quay.io/busybox", "NAME_UNKNOWN"),
    ],
)
def test_names_without_ns(name: str, found: str) -> None:
    view = view_of(
        (HUB, "library/busybox", "1"),
        ("localhost:5000", "foo", "1"),
        ("r.example:5000", "a/b", "1"),
    )
    assert pulled(ask(view, f"/v2/{name}/manifests/1")) == found


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("/v2/library/busybox/manifests/1?ns=docker.io", "docker.io|library/busybox|1"),
        ("/v2/busybox/manifests/1?ns=index.docker.io", "docker.io|library/busybox|1"),
        ("/v2/foo/manifests/1?ns=localhost:5000", "localhost:5000|foo|1"),
        ("/v2/foo/manifests/1?ns=quay.io", "NAME_UNKNOWN"),
        ("/v2/a/b/manifests/1?ns=quay.io", "NAME_UNKNOWN"),
        ("/v2/localhost_5000/foo/manifests/1?ns=docker.io", "NAME_UNKNOWN"),
        ("/v2/foo/manifests/2?ns=localhost:5000", "MANIFEST_UNKNOWN"),
    ],
)
def test_ns_means_exactly_that_registry(target: str, found: str) -> None:
    view = view_of(
        (HUB, "library/busybox", "1"), ("localhost:5000", "foo", "1"), (PUSHED, "a/b", "1")
    )
    assert pulled(ask(view, target)) == found


def test_another_default_registry_gets_no_library() -> None:
    view = view_of(("quay.io", "busybox", "1"), (HUB, "library/busybox", "1"))
    assert pulled(ask(view, "/v2/busybox/manifests/1", "quay.io")) == "quay.io|busybox|1"
    assert pulled(ask(view, "/v2/library/busybox/manifests/1", "quay.io")).startswith(HUB)


def test_a_path_of_two_other_registries_is_unknown_and_both_are_named() -> None:
    view = view_of(("quay.io", "a/b", "1"), ("r.example:5000", "a/b", "1"))
    found = ask(view, "/v2/a/b/manifests/1")
    assert (found.status, code_of(found)) == (404, "NAME_UNKNOWN")
    [error] = json.loads(found.body)["errors"]
    assert error["detail"]["names"] == ["quay.io/a/b", "r.example_5000/a/b"]
    assert "r.example_5000/a/b" in error["message"]


def test_a_drop_never_turns_a_working_short_path_into_a_404() -> None:
    view = view_of((HUB, "a/b", "1"), ("quay.io", "a/b", "1"), ("ghcr.io", "a/b", "1"))
    assert pulled(ask(view, "/v2/a/b/manifests/1")) == "docker.io|a/b|1"


# --- manifests


def test_a_manifest_is_served_as_it_was_stored() -> None:
    view = MemoryView()
    stored = view.put(Repository(HUB, "a/b"), document("x"), "1")
    by_tag, by_digest = (
        ask(view, "/v2/a/b/manifests/1"),
        ask(view, f"/v2/a/b/manifests/{stored.digest}"),
    )
    for found in (by_tag, by_digest):
        assert (found.status, found.body) == (200, stored.raw)
        headers = dict(found.headers)
        assert headers["Content-Type"] == OCI_MANIFEST
        assert headers["Docker-Content-Digest"] == str(stored.digest)
        assert headers["ETag"] == f'"{stored.digest}"'
        assert found.etag == str(stored.digest)
    assert "Cache-Control" not in dict(by_tag.headers)
    assert "immutable" in dict(by_digest.headers)["Cache-Control"]


@pytest.mark.parametrize(
    "reference", [".INVALID_MANIFEST_NAME", "none", "a" * 129, str(DIGEST), ""]
)
def test_a_manifest_that_is_not_here_is_a_404(reference: str) -> None:
    view = view_of((HUB, "a/b", "1"))
    found = ask(view, f"/v2/a/b/manifests/{reference}")
    assert (found.status, code_of(found)) == (404, "MANIFEST_UNKNOWN")


# --- lists


def test_tags_are_those_that_can_be_pulled_under_the_name() -> None:
    view = view_of((PUSHED, "busybox", "2"), (HUB, "library/busybox", "1"), (HUB, "a/b", "3"))
    found = ask(view, "/v2/busybox/tags/list")
    assert json.loads(found.body) == {"name": "busybox", "tags": ["1", "2"]}
    assert "Link" not in dict(found.headers)
    only = ask(view, "/v2/busybox/tags/list?ns=docker.io")
    assert json.loads(only.body) == {"name": "busybox", "tags": ["1"]}


def test_a_repository_without_tags_has_an_empty_list_and_an_unknown_one_none() -> None:
    view = view_of((HUB, "a/b", "1"))
    view.remove_tag(Repository(HUB, "a/b"), "1")
    assert json.loads(ask(view, "/v2/a/b/tags/list").body) == {"name": "a/b", "tags": []}
    found = ask(view, "/v2/a/c/tags/list")
    assert (found.status, code_of(found)) == (404, "NAME_UNKNOWN")


def follow(view: MemoryView, target: str, key: str) -> list[list[str]]:
    """All pages, by their links."""
    pages = []
    while target:
        found = ask(view, target)
        assert found.status == 200
        pages.append(json.loads(found.body)[key])
        link = dict(found.headers).get("Link", "")
        assert not link or link.endswith('>; rel="next"')
        target = link.removeprefix("<").partition(">")[0]
    return pages


def test_tags_come_in_pages_sorted_by_bytes() -> None:
    view = view_of(*((HUB, "a/b", tag) for tag in ("b", "a", "B", "_", "1.0", "1.0-x")))
    expected = sorted(["b", "a", "B", "_", "1.0", "1.0-x"], key=str.encode)
    for n in range(1, 8):
        pages = follow(view, f"/v2/a/b/tags/list?n={n}&ns=docker.io", "tags")
        assert [tag for page in pages for tag in page] == expected
        assert all(len(page) == n for page in pages[:-1])
        assert pages[-1]
    assert json.loads(ask(view, "/v2/a/b/tags/list?last=a").body)["tags"] == ["b"]
    assert json.loads(ask(view, "/v2/a/b/tags/list?n=5&last=zz").body)["tags"] == []


def test_a_page_of_none_is_empty_and_has_no_link() -> None:
    view = view_of((HUB, "a/b", "1"))
    for target, key in (("/v2/a/b/tags/list?n=0", "tags"), ("/v2/_catalog?n=0", "repositories")):
        found = ask(view, target)
        assert json.loads(found.body)[key] == []
        assert "Link" not in dict(found.headers)


def test_the_link_keeps_ns() -> None:
    view = view_of(("r.example:5000", "a/b", "1"), ("r.example:5000", "a/b", "2"))
    found = ask(view, "/v2/a/b/tags/list?n=1&ns=r.example:5000")
    link = '</v2/a/b/tags/list?n=1&last=1&ns=r.example%3A5000>; rel="next"'
    assert dict(found.headers)["Link"] == link


def test_the_catalog_lists_names_as_they_can_be_pulled() -> None:
    view = view_of(
        (HUB, "library/busybox", "1"),
        (PUSHED, "foo", "1"),
        ("localhost:5000", "foo", "1"),
        ("[::1]:5000", "foo", "2"),
    )
    names = json.loads(ask(view, "/v2/_catalog").body)["repositories"]
    assert names == ["docker.io/library/busybox", "foo", "localhost_5000/foo"]
    for name in names:
        assert ask(view, f"/v2/{name}/manifests/1").status == 200
    assert follow(view, "/v2/_catalog?n=2", "repositories") == [names[:2], names[2:]]
    here = json.loads(ask(view, "/v2/_catalog?ns=localhost:5000").body)
    assert here == {"repositories": ["foo"]}
    assert json.loads(ask(MemoryView(), "/v2/_catalog").body) == {"repositories": []}


# --- referrers


def test_referrers_are_an_index_of_descriptors() -> None:
    view = MemoryView()
    home = Repository(HUB, "a/b")
    image = view.put(home, document("image"), "1")
    sbom = view.put(home, document("s", subject=image, artifact_type="application/x+s", of="it"))
    plain = view.put(home, document("p", subject=image))
    found = ask(view, f"/v2/a/b/referrers/{image.digest}")
    assert found.status == 200
    assert dict(found.headers) == {"Content-Type": OCI_INDEX}
    body = json.loads(found.body)
    assert (body["schemaVersion"], body["mediaType"]) == (2, OCI_INDEX)
    assert body["manifests"] == [
        {
            "mediaType": OCI_MANIFEST,
            "digest": str(sbom.digest),
            "size": sbom.size_bytes,
            "artifactType": "application/x+s",
            "annotations": {"of": "it"},
        },
        {
            "mediaType": OCI_MANIFEST,
            "digest": str(plain.digest),
            "size": plain.size_bytes,
            "artifactType": OCI_CONFIG,
        },
    ]


def test_referrers_can_be_filtered_by_artifact_type() -> None:
    view = MemoryView()
    home = Repository(HUB, "a/b")
    image = view.put(home, document("image"), "1")
    sbom = view.put(home, document("s", subject=image, artifact_type="application/x+s"))
    view.put(home, document("p", subject=image))
    found = ask(view, f"/v2/a/b/referrers/{image.digest}?artifactType=application/x%2Bs")
    assert [d["digest"] for d in json.loads(found.body)["manifests"]] == [str(sbom.digest)]
    assert dict(found.headers)["OCI-Filters-Applied"] == "artifactType"


def test_referrers_of_what_is_unknown_are_an_empty_list() -> None:
    for target in (f"/v2/no/such/referrers/{DIGEST}", f"/v2/a/referrers/{DIGEST}?ns=quay.io"):
        found = ask(view_of((HUB, "a/b", "1")), target)
        assert (found.status, json.loads(found.body)["manifests"]) == (200, [])


# --- blobs


def find(view: MemoryView, held: dict[Digest, int], target: str) -> int | Answer:
    intent = parse_request("GET", target)
    assert isinstance(intent, GetBlob)
    return find_blob(view, held.get, intent)


def test_a_blob_is_found_where_the_repository_has_it_and_the_store_holds_it() -> None:
    view = view_of((PUSHED, "a/b", "1"))
    view.put_blob(Repository(HUB, "a/b"), DIGEST)
    assert find(view, {DIGEST: 0}, f"/v2/a/b/blobs/{DIGEST}") == 0
    assert code_of(find(view, {}, f"/v2/a/b/blobs/{DIGEST}")) == "BLOB_UNKNOWN"
    assert code_of(find(view, {DIGEST: 5}, f"/v2/a/c/blobs/{DIGEST}")) == "NAME_UNKNOWN"
    other = digest_of(b"other")
    assert code_of(find(view, {other: 5}, f"/v2/a/b/blobs/{other}")) == "BLOB_UNKNOWN"


def test_a_blob_answer_has_every_header() -> None:
    part = ranges.plan_blob("GET", DIGEST, 10, Conditions())
    assert isinstance(part, Part)
    assert (part.status, part.start, part.count) == (200, 0, 10)
    assert dict(part.headers) == {
        "Content-Type": "application/octet-stream",
        "Docker-Content-Digest": str(DIGEST),
        "ETag": f'"{DIGEST}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "max-age=31536000, immutable",
    }


def test_a_range_is_a_part_of_the_blob() -> None:
    part = ranges.plan_blob("GET", DIGEST, 10, Conditions(range="bytes=2-4"))
    assert isinstance(part, Part)
    assert (part.status, part.start, part.count) == (206, 2, 3)
    assert dict(part.headers)["Content-Range"] == "bytes 2-4/10"


def test_head_ignores_a_range() -> None:
    part = ranges.plan_blob("HEAD", DIGEST, 10, Conditions(range="bytes=2-4"))
    assert isinstance(part, Part)
    assert (part.status, part.count) == (200, 10)


def test_a_range_past_the_end_can_not_be_satisfied() -> None:
    found = ranges.plan_blob("GET", DIGEST, 10, Conditions(range="bytes=10-"))
    assert isinstance(found, Answer)
    assert (found.status, code_of(found)) == (416, "RANGE_INVALID")
    assert dict(found.headers)["Content-Range"] == "bytes */10"


ETAG = f'"{DIGEST}"'


@pytest.mark.parametrize(
    ("if_range", "status"),
    [(ETAG, 206), (f"W/{ETAG}", 200), ('"other"', 200), ("Mon, 01 Jan 2024 00:00:00 GMT", 200)],
)
def test_if_range_must_name_this_very_blob(if_range: str, status: int) -> None:
    found = ranges.plan_blob("GET", DIGEST, 10, Conditions(range="bytes=0-1", if_range=if_range))
    assert found.status == status


@pytest.mark.parametrize(
    ("conditions", "status"),
    [
        (Conditions(if_none_match=ETAG), 304),
        (Conditions(if_none_match=f"W/{ETAG}"), 304),
        (Conditions(if_none_match=f'"x,y", {ETAG} , "z"'), 304),
        (Conditions(if_none_match=" * "), 304),
        (Conditions(if_none_match=str(DIGEST)), 304),
        (Conditions(if_none_match='"other"'), 200),
        (Conditions(if_none_match='"unfinished'), 200),
        (Conditions(if_none_match=ETAG, range="bytes=0-1"), 304),
        (Conditions(if_match=ETAG), 200),
        (Conditions(if_match="*"), 200),
        (Conditions(if_match=f'"x", {ETAG}'), 200),
        (Conditions(if_match=f"W/{ETAG}"), 412),
        (Conditions(if_match='"other"', if_none_match=ETAG), 412),
        (Conditions(if_match=ETAG, if_none_match=ETAG), 304),
    ],
)
def test_conditions_by_entity_tag(conditions: Conditions, status: int) -> None:
    assert ranges.plan_blob("GET", DIGEST, 10, conditions).status == status
    manifest = Answer(200, b"raw", (("ETag", ETAG),), str(DIGEST))
    found = ranges.conditional(manifest, conditions)
    assert found.status == status
    if status == 304:
        assert found.body == b""
        assert dict(found.headers)["ETag"] == ETAG


def test_what_has_no_entity_tag_has_no_conditions() -> None:
    missing = problem(404, "NAME_UNKNOWN", "not here")
    assert ranges.conditional(missing, Conditions(if_none_match="*", if_match='"x"')) is missing


# --- ranges


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        ("bytes=0-4", 10, (0, 5)),
        ("bytes=5-", 10, (5, 10)),
        ("bytes=-3", 10, (7, 10)),
        ("bytes=-30", 10, (0, 10)),
        ("bytes=9-9", 10, (9, 10)),
        ("bytes=5-99999999999999999999999", 10, (5, 10)),
        ("bytes=0000-0004", 10, (0, 5)),
        ("BYTES=0-4 ", 10, (0, 5)),
        ("bytes=10-", 10, "none"),
        ("bytes=10-20", 10, "none"),
        ("bytes=99999999999999999999999-", 10, "none"),
        ("bytes=-0", 10, "none"),
        ("bytes=0-", 0, "none"),
        ("bytes=-5", 0, "whole"),
        ("bytes=5-4", 10, "none"),
        ("bytes=-", 10, "whole"),
        ("bytes=", 10, "whole"),
        ("bytes=0-1,3-4", 10, "whole"),
        ("bytes=0-1,", 10, "whole"),
        ("bytes=0-1, bytes=3-4", 10, "whole"),
        ("items=0-4", 10, "whole"),
        ("0-4", 10, "whole"),
        ("bytes 0-4", 10, "whole"),
        ("bytes=+1-4", 10, "whole"),
        ("bytes=1e3-", 10, "whole"),
        ("bytes=\u0661-\u0664", 10, "whole"),
        ("bytes=0-4\n", 10, "whole"),
        ("", 10, "whole"),
    ],
)
def test_ranges_of_rfc_9110(header: str, size: int, expected: object) -> None:
    found = ranges.select_range(header, size)
    if expected == "whole":
        assert found is None
    elif expected == "none":
        assert found is not None
        assert not found
    else:
        assert found is not None
        assert (found.start, found.stop) == expected


@given(st.binary(max_size=50), st.none() | st.integers(0, 60), st.none() | st.integers(0, 60))
def test_any_range_is_the_slice_that_it_names(
    data: bytes, first: int | None, last: int | None
) -> None:
    header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    found = ranges.select_range(header, len(data))
    if first is None:
        slice_ = data[max(0, len(data) - (last or 0)) :]
        whole = last is None or (last > 0 and not data)
    else:
        slice_ = data[first:] if last is None else data[first : last + 1]
        whole = False
    if whole:
        assert found is None
    else:
        assert found is not None
        assert data[found.start : found.stop] == slice_ == bytes(data[i] for i in found)


@given(st.text(), st.integers(0, 100))
def test_any_header_is_a_range_within_the_blob_or_none(header: str, size: int) -> None:
    for text in (header, f"bytes={header}"):
        found = ranges.select_range(text, size)
        assert not found or 0 <= found.start < found.stop <= size


# --- errors


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.ReferenceInvalidError("m"), 400, "NAME_INVALID"),
        (errors.DigestInvalidError("m"), 400, "DIGEST_INVALID"),
        (errors.DigestMismatchError("m"), 400, "DIGEST_INVALID"),
        (errors.SizeMismatchError("m"), 400, "SIZE_INVALID"),
        (errors.MissingBlobError("m"), 400, "MANIFEST_BLOB_UNKNOWN"),
        (errors.ManifestInvalidError("m"), 400, "MANIFEST_INVALID"),
        (errors.RequestInvalidError("m"), 400, "UNKNOWN"),
        (errors.NotFoundError("m"), 404, "BLOB_UNKNOWN"),
        (errors.ArchiveChangedError("m"), 409, "UNKNOWN"),
        (errors.StorageFullError("m"), 507, "UNKNOWN"),
        (errors.StoreCorruptError("m"), 500, "UNKNOWN"),
        (errors.StoreError("m"), 503, "UNKNOWN"),
        (errors.UnavailableError("m"), 503, "UNKNOWN"),
        (errors.StoppedError("m"), 503, "UNKNOWN"),
        (errors.ConfigError("m"), 500, "UNKNOWN"),
        (ValueError("m"), 500, "UNKNOWN"),
    ],
)
def test_every_error_has_a_status_and_a_code(error: Exception, status: int, code: str) -> None:
    found = failure(error)
    assert (found.status, code_of(found)) == (status, code)


def test_what_failed_inside_is_not_told_to_the_client() -> None:
    found = failure(errors.StoreError("cannot read /secret/path", path="/secret/path"))
    assert b"secret" not in found.body


def test_blobs_are_not_answered_from_the_view() -> None:
    with pytest.raises(TypeError):
        answer(MemoryView(), GetBlob(Name("a"), DIGEST))
