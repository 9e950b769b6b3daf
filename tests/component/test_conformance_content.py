"""What OCI's conformance suite asks about manifests: each kind pushed, listed, read, deleted."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.agent import Agent
from support.distribution import (
    EMPTY,
    FOREIGN,
    INDEX,
    KIND,
    LAYER,
    MANIFEST,
    OTHER_KIND,
    Content,
    Registry,
    digest_of,
    some_bytes,
)
from support.pushed import (
    Repository,
    assert_all_served,
    assert_gone,
    assert_put,
    assert_served,
    delete,
    push,
)

ABSENT = digest_of(b"this was never pushed")
ABSENT_MANIFEST = {"mediaType": MANIFEST, "digest": ABSENT, "size": 123}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    root: Path = tmp_path_factory.mktemp("content")
    (root / "images").mkdir()
    with Agent(root / "images", root / "data") as agent:
        yield Repository(Registry(agent.registry), "conformance/content")
        assert agent.logged("error", "critical") == []


# --- what is pushed


def image(content: Content) -> None:
    content.image("image")


def image_without_layers(content: Content) -> None:
    content.image("no-layers", layers=[])


def large_manifest(content: Content) -> None:
    content.image("large", annotations={f"note-{n}": "A" * 10_000 for n in range(390)})


def index(content: Content) -> None:
    content.index("index")


def index_of_indexes(content: Content) -> None:
    inner = [content.index(annotations={"n": str(n)}).descriptor for n in range(2)]
    content.index("index-of-index", of=inner)


def empty_index(content: Content) -> None:
    content.index("index", of=[])


def artifact(content: Content) -> None:
    content.artifact("artifact", artifactType=KIND)


def artifact_of_one_blob(content: Content) -> None:
    empty = content.blob(b"{}", EMPTY)
    content.image("one-blob", layers=[empty], config=empty, artifactType=KIND)


def artifact_index(content: Content) -> None:
    of = [content.artifact(annotations={"n": str(n)}).descriptor for n in range(2)]
    content.index("artifact-index", of=of, artifactType=KIND)


def referrers_of_an_image(content: Content) -> None:
    subject = content.image("image").descriptor
    notes = {"org.example.note": "a note", "org.example.umlaut": "ü+/=&"}
    content.image(subject=subject)
    content.artifact("first", artifactType=KIND, subject=subject, annotations=notes)
    content.artifact("second", artifactType=OTHER_KIND, subject=subject, annotations=notes)
    content.artifact(subject=subject, annotations={"n": "no artifactType"})


def referrers_of_an_index(content: Content) -> None:
    subject = content.index("index").descriptor
    content.index(artifactType=KIND, subject=subject, annotations={"org.example.note": "kept"})
    content.index(of=[], subject=subject, annotations={"n": "without a type"})


def missing_subject(content: Content) -> None:
    content.artifact("lonely", artifactType=KIND, subject=ABSENT_MANIFEST)
    content.index(of=[], artifactType=OTHER_KIND, subject=ABSENT_MANIFEST)


def foreign_layers(content: Content) -> None:
    def foreign(kind: str) -> dict[str, object]:
        digest = digest_of(some_bytes(8))
        urls = [f"https://store.example.com/{digest}"]
        return {"mediaType": kind, "digest": digest, "size": 12345, "urls": urls}

    layers = [foreign(FOREIGN), foreign(FOREIGN + "+gzip"), content.blob(some_bytes(99), LAYER)]
    content.image("foreign", layers=layers)


def unknown_fields(content: Content) -> None:
    config = content.config(**{"org.example": {"deep": [1, None, "ü"]}})
    found = content.image(config=config, **{"org.example": "kept"}).descriptor
    content.index("unknown-fields", of=[found], **{"org.example": "kept"})


KINDS: tuple[Callable[[Content], None], ...] = (
    image,
    image_without_layers,
    large_manifest,
    index,
    index_of_indexes,
    empty_index,
    artifact,
    artifact_of_one_blob,
    artifact_index,
    referrers_of_an_image,
    referrers_of_an_index,
    missing_subject,
    foreign_layers,
    unknown_fields,
)
kinds = pytest.mark.parametrize("fill", KINDS, ids=lambda fill: fill.__name__)


# --- the cases


def test_a_repository_that_is_not_there(here: Repository) -> None:
    assert here.registry.ask("GET", "/v2/conformance/nowhere/tags/list").status == 404
    reply = here.registry.ask("GET", f"/v2/conformance/nowhere/referrers/{ABSENT}")
    assert (reply.status, json.loads(reply.body)["manifests"]) == (200, [])
    for what in (f"manifests/{ABSENT}", "manifests/latest", f"blobs/{ABSENT}"):
        for method in ("GET", "HEAD", "DELETE"):
            assert here.registry.ask(method, f"/v2/conformance/nowhere/{what}").status == 404, (
                method
            )


@kinds
def test_content_is_pushed_listed_read_and_deleted(
    here: Repository, fill: Callable[[Content], None]
) -> None:
    content = Content()
    fill(content)
    for _ in range(2):  # what was deleted may be pushed again
        push(here, content)
        assert_all_served(here, content)
        delete(here, content)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("with_data", [False, True], ids=["plain", "data"])
def test_content_of_any_algorithm_and_with_data_in_descriptors(
    here: Repository, algorithm: str, *, with_data: bool
) -> None:
    content = Content(algorithm, with_data=with_data)
    subject = content.index().descriptor
    content.artifact(artifactType=KIND, subject=subject)
    push(here, content)
    assert_all_served(here, content)
    delete(here, content)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_tags_are_given_with_a_push_by_digest(here: Repository, algorithm: str) -> None:
    content = Content(algorithm)
    content.index()
    here.put_blobs(content)
    for number, found in enumerate(content.documents):
        tags = [f"v{number}", f"v{number}.{number}", *(f"more-{number}.{n}" for n in range(10))]
        reply = assert_put(here, found, found.digest, *tags)
        assert [tag.strip() for tag in reply.header("OCI-Tag").split(",")] == tags
        content.tags |= dict.fromkeys(tags, found)
    assert_all_served(here, content)
    delete(here, content)


def test_one_bad_tag_among_several_refuses_all(here: Repository) -> None:
    content = Content()
    found = content.image()
    here.put_blobs(content)
    reply = here.put(found, found.digest, "good", "-bad")
    assert reply.status == 400
    assert here.ask("HEAD", "manifests/good").status == 404
    assert here.ask("HEAD", f"manifests/{found.digest}").status == 404


def test_a_tag_moves_to_what_is_pushed_under_it(here: Repository) -> None:
    content = Content()
    first, second = content.image(), content.index()
    push(here, content)
    for found in (first, second, first):
        assert_put(here, found, "moving")
        assert_served(here, found, "manifests/moving")
        assert_served(here, first, f"manifests/{first.digest}")
    assert_gone(here, f"manifests/{first.digest}", "MANIFEST_UNKNOWN")
    assert here.ask("HEAD", "manifests/moving").status == 404
    content.documents.remove(first)
    delete(here, content)


@pytest.mark.parametrize("what", ["config", "layer", "child"])
def test_a_manifest_whose_parts_are_absent_is_refused(here: Repository, what: str) -> None:
    content = Content()
    absent = {"mediaType": LAYER, "digest": ABSENT, "size": 9}
    if what == "child":
        found = content.index(of=[content.image().descriptor, ABSENT_MANIFEST])
    elif what == "config":
        found = content.image(config=absent)
    else:
        found = content.image(layers=[content.blob(b"a layer", LAYER), absent])
    here.put_blobs(content)
    for child in content.documents[:-1]:
        assert_put(here, child, child.digest)
    for at in (found.digest, "absent"):
        reply = here.put(found, at)
        assert (reply.status, reply.code) == (400, "MANIFEST_BLOB_UNKNOWN")
        assert ABSENT in reply.body.decode()
        assert here.ask("HEAD", f"manifests/{at}").status == 404


def test_a_blob_of_another_repository_is_absent_here(here: Repository) -> None:
    content = Content()
    found = content.image()
    here.put_blobs(content)
    line = ("Content-Type", MANIFEST)
    reply = here.registry.ask("PUT", "/v2/conformance/other/manifests/x", found.raw, line)
    assert (reply.status, reply.code) == (400, "MANIFEST_BLOB_UNKNOWN")


def test_a_digest_that_the_bytes_have_not_is_refused(here: Repository) -> None:
    content = Content()
    found = content.image()
    here.put_blobs(content)
    line = ("Content-Type", MANIFEST)
    for at in (found.digest, "sha256:baddigeststring", digest_of(found.raw, "sha512")):
        reply = here.ask("PUT", f"manifests/{at}", found.raw + b"  ", line)
        assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
        assert here.ask("GET", f"manifests/{at}").status in {400, 404}
    assert here.ask("DELETE", f"manifests/{found.digest}").status == 404
    assert here.ask("HEAD", f"manifests/{digest_of(found.raw + b'  ')}").status == 404


@pytest.mark.parametrize(
    ("raw", "media_type"),
    [
        (b"", MANIFEST),
        (b"{", MANIFEST),
        (b"[]", MANIFEST),
        (b'{"schemaVersion": 2}', MANIFEST),
        (b'{"schemaVersion": 2, "manifests": 3}', INDEX),
        (b'{"schemaVersion": 2, "mediaType": "%s", "manifests": []}' % INDEX.encode(), MANIFEST),
        (b"\xff\xfe", INDEX),
        (b"[" * 100_000, INDEX),
    ],
)
def test_what_is_no_manifest_is_refused(here: Repository, raw: bytes, media_type: str) -> None:
    for at in ("bad", digest_of(raw)):
        line = ("Content-Type", media_type)
        reply = here.ask("PUT", f"manifests/{at}", raw, line)
        assert (reply.status, reply.code) == (400, "MANIFEST_INVALID"), reply
        assert here.ask("HEAD", f"manifests/{at}").status == 404


@pytest.mark.parametrize("streamed", [False, True])
def test_a_manifest_over_the_limit_is_refused(here: Repository, *, streamed: bool) -> None:
    raw = b'{"annotations": {"a": "' + b"A" * (9 << 20) + b'"}}'
    line = ("Content-Type", MANIFEST)
    reply = here.ask("PUT", "manifests/huge", raw, line, streamed=streamed)
    assert (reply.status, reply.code) == (413, "SIZE_INVALID")


@pytest.mark.parametrize("tag", ["-dash", "a" * 129, "sp%20ace", "%C3%BC", "a+b"])
def test_a_tag_that_is_none_is_refused(here: Repository, tag: str) -> None:
    content = Content()
    found = content.image()
    here.put_blobs(content)
    assert here.put(found, tag).status == 400
    assert here.ask("GET", f"manifests/{tag}").status == 404
    assert here.ask("DELETE", f"manifests/{tag}").status == 404


def test_a_blob_in_use_stays_until_what_lists_it_goes(here: Repository) -> None:
    content = Content()
    inner = content.image()
    outer = content.index("in-use", of=[inner.descriptor])
    push(here, content)
    for digest in content.blobs:
        refused = here.ask("DELETE", f"blobs/{digest}")
        assert (refused.status, refused.code) == (409, "DENIED")
    assert_all_served(here, content)
    assert_gone(here, f"manifests/{outer.digest}", "MANIFEST_UNKNOWN")
    content.documents, content.tags = [inner], {}
    assert_all_served(here, content)
    delete(here, content)
