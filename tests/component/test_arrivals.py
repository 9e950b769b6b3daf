"""Pushes that arrive at once share their syncs and their transaction, and nothing else."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from airside.catalog.pushes import Push, PushedBlob
from airside.core.errors import MissingBlobError, StorageFullError
from airside.oci.model import OCI_MANIFEST, parse_document
from airside.oci.reference import Repository
from airside.registry.push.group_commit import GroupCommit
from airside.registry.rules.names import Name
from support.images import random_image
from support.nodes import node_at, visible, wrong_blobs
from support.pushing import push_blob, push_image
from support.waiting import LIMIT_SECONDS, wait_until

OWN = Repository("", "team/app")
COUNT = 12


@pytest.fixture
def node(tmp_path):
    with node_at(tmp_path / "data", push="all") as node:
        yield node


@pytest.fixture
def commits(node, monkeypatch):
    """How many blobs each commit of the store was given."""
    found, commit = [], node.store.commit

    def counted(ingests):
        found.append(len(ingests))
        return commit(ingests)

    monkeypatch.setattr(node.store, "commit", counted)
    return found


def pushes():
    """Manifests of one image, each with its tag; that of number 5 needs what is not there."""
    image, other = random_image("arrivals"), random_image("not there")
    for number in range(COUNT):
        raw = (other if number == 5 else image).manifest.raw + b" " * number
        document = parse_document(raw, OCI_MANIFEST, "a manifest")
        yield Push(OWN, document, None, (str(number),), document.children)


def together(node, items):
    """Take them at once: the first one waits for the store, the others behind it."""
    arrivals = GroupCommit(node.store, node.catalog, node.guard, node.clock)
    with ThreadPoolExecutor(len(items)) as pool:
        with node.guard.exclusive():
            futures = [pool.submit(arrivals.commit, *items[0])]
            wait_until(lambda: arrivals.waiting == 0 and arrivals.is_working)
            futures += [pool.submit(arrivals.commit, *item) for item in items[1:]]
            wait_until(lambda: arrivals.waiting == len(items) - 1)
        return [future.exception(LIMIT_SECONDS) for future in futures]


def test_those_who_wait_are_taken_together_and_one_that_is_wrong_fails_alone(node, commits):
    for blob in random_image("arrivals").blobs[1:]:
        push_blob(node, Name("team/app"), blob.raw)
    commits.clear()
    found = together(node, [(push,) for push in pushes()])
    assert [n for n, error in enumerate(found) if error is not None] == [5]
    assert isinstance(found[5], MissingBlobError)
    assert commits == [1, COUNT - 2]
    assert sorted(visible(node)) == sorted(f"team/app:{n}" for n in range(COUNT) if n != 5)
    assert wrong_blobs(node) == []


def test_what_the_disk_refuses_fails_all_and_leaves_nothing(node, monkeypatch):
    push_image(node, Name("team/app"), random_image("arrivals"), "before")
    before = set(node.store.digests())

    def full(_paths):
        raise StorageFullError("no room")

    monkeypatch.setattr(node.store, "_sync", full)
    items = []
    for number in range(4):
        ingest = node.store.put(b"a blob %d" % number)
        items.append((PushedBlob(OWN, ingest.digest, ingest.size_bytes), ingest))
    found = together(node, [*items, *((push,) for push in pushes())])
    assert {type(error) for error in found} <= {StorageFullError, MissingBlobError}
    assert None not in found
    assert set(node.store.digests()) == before
    assert list(visible(node)) == ["team/app:before"]
    monkeypatch.undo()
    assert together(node, [(replace(push, tags=("1",)),) for push in pushes()])[1] is None
