"""What may not be pulled is answered as what does not exist."""

import json

import pytest

from airside.oci.model import OCI_MANIFEST, Document, parse_document
from airside.oci.reference import Repository
from airside.ports.content import Connection, RuntimeContent
from airside.registry.rules.access import Rights, Rule, rights_to
from airside.registry.rules.read_through import ReadThrough
from airside.registry.rules.visibility import visible, visible_read_through
from support.images import random_image
from support.memory import MemoryView
from support.runtimes import Held, MemoryRuntime

OPEN, SECRET = Repository("docker.io", "open/app"), Repository("docker.io", "secret/app")
RIGHTS = Rights((Rule(("docker.io/open/**",), frozenset({"pull"})),))
IMAGE = random_image("seen")
DOCUMENT = parse_document(IMAGE.manifest.raw, IMAGE.manifest.media_type, "test")
CONNECTION = Connection(("127.0.0.1", 40_000), ("127.0.0.1", 5050))


def signature_of(subject: Document) -> Document:
    manifest = json.loads(subject.raw)
    manifest["mediaType"] = OCI_MANIFEST
    manifest["config"]["mediaType"] = "application/vnd.example.signature"
    manifest["subject"] = {
        "mediaType": subject.media_type,
        "digest": str(subject.digest),
        "size": subject.size_bytes,
    }
    return parse_document(json.dumps(manifest).encode(), OCI_MANIFEST, "test")


SIGNATURE = signature_of(DOCUMENT)


@pytest.fixture
def view() -> MemoryView:
    made = MemoryView()
    for repository in (OPEN, SECRET):
        made.put(repository, DOCUMENT, "v1")
        made.put(repository, SIGNATURE)
    return made


def test_lists_have_the_allowed_repositories_alone(view):
    seen = visible(view, RIGHTS)
    assert seen.repositories() == [OPEN]
    assert seen.repositories_at("open/app") == [OPEN]
    assert seen.repositories_at("secret/app") == []
    assert (seen.tags(OPEN), seen.tags(SECRET)) == (["v1"], [])


def test_documents_and_blobs_of_a_hidden_repository_are_absent(view):
    seen = visible(view, RIGHTS)
    for repository, is_shown in [(OPEN, True), (SECRET, False)]:
        assert (seen.document_by_tag(repository, "v1") is not None) == is_shown
        assert (seen.document_by_digest(repository, DOCUMENT.digest) is not None) == is_shown
        assert seen.holds_blob(repository, DOCUMENT.digest) == is_shown
        assert bool(seen.referrers(repository, DOCUMENT.digest).items) == is_shown


def test_the_action_decides_what_is_seen(view):
    assert visible(view, RIGHTS, "delete").repositories() == []


def test_changes_and_quarantine_are_those_of_the_whole_catalog(view):
    seen = visible(view, RIGHTS)
    view.quarantine(DOCUMENT.digest)
    assert seen.generation == view.generation
    assert seen.any_quarantined([DOCUMENT.digest])
    assert not seen.any_quarantined([SIGNATURE.digest])


def test_who_may_pull_everything_asks_without_a_detour(view):
    everything = rights_to("pull")
    through = ReadThrough()
    assert visible(view, everything) is view
    assert visible_read_through(through, everything) is through


def test_runtimes_answer_for_the_allowed_repositories_alone():
    held = Held()
    for blob in IMAGE.blobs:
        held.add(blob.raw)
    held.images = dict.fromkeys([f"{OPEN}:v1", f"{SECRET}:v1"], IMAGE.digest)
    runtime = MemoryRuntime(held)
    runtime.asking = True
    runtimes: list[RuntimeContent] = [runtime]
    (content,) = visible_read_through(ReadThrough(lambda: runtimes, "self"), RIGHTS).sources()
    for repository, is_shown in [(OPEN, True), (SECRET, False)]:
        assert (content.tag(repository, "v1") is not None) == is_shown
        assert (content.document(repository, IMAGE.digest) is not None) == is_shown
        assert (content.blob(repository, IMAGE.digest) is not None) == is_shown
    assert content.is_client(CONNECTION)


def test_the_policy_of_reading_through_stays():
    assert visible_read_through(ReadThrough(policy="self"), RIGHTS).policy == "self"
