"""The catalog on a real file: what its transactions record, and who may read it how."""

import errno
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from airside.catalog.catalog import Catalog
from airside.catalog.database import translated
from airside.catalog.model import ClaimedName, Import, RestoredSource, RestoredTag, TagMove
from airside.catalog.retention import Policy
from airside.catalog.schema import VERSION
from airside.catalog.view import open_view
from airside.core import failpoints as faults
from airside.core.errors import NotFoundError, StorageFullError, StoreCorruptError, StoreError
from airside.core.problem import Problem
from airside.oci.digest import Digest
from airside.oci.model import OCI_MANIFEST, Document, Manifest, parse_document
from airside.oci.reference import Repository, parse_reference
from support.images import TestImage, TestIndex, compact, random_image, random_index
from support.nodes import not_held

DAY = 86400.0
NOBODY = 65534


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    made = Catalog(tmp_path / "catalog.db", not_held)
    yield made
    made.close()


class Archives:
    """Drops archives into a catalog, one second apart."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog, self.now = catalog, 0.0

    def settle(self, *names: str, key: str = "") -> list[int]:
        self.now += 1
        files = [(f"/images/{name}", key or f"1:1:{self.now:.0f}:1", 1) for name in names]
        ids = self.catalog.source_states.settle(files, self.now)
        return [ids[path] for path, _, _ in files]

    def record(
        self,
        source_id: int,
        names: Mapping[str, TestImage | TestIndex | Document],
        **changes: object,
    ) -> list[TagMove]:
        self.now += 1
        documents = {d.digest: d for item in names.values() for d in _documents(item)}
        claims = tuple(_claim(name, list(_documents(item))[-1]) for name, item in names.items())
        key = next(r.stat_key for r in self.catalog.sources() if r.id == source_id)
        values: dict[str, object] = {
            "source_id": source_id,
            "state": "imported",
            "stat_key": key,
            "plan_digest": "",
            "format": "oci",
            "compression": "none",
            "seconds": 0.5,
            "claims": claims,
            "documents": tuple(documents.values()),
            "platforms": {},
            "blobs": _blobs(documents.values()),
        }
        return self.catalog.imports.record(Import(**values | changes), self.now)  # type: ignore[arg-type]

    def drop(
        self, name: str, names: Mapping[str, TestImage | TestIndex | Document], **changes: object
    ) -> list[TagMove]:
        return self.record(self.settle(name)[0], names, **changes)

    def remove(self, *names: str, policy: str = "unpin") -> list[TagMove]:
        self.now += 1
        return self.catalog.source_states.remove({f"/images/{n}": policy for n in names}, self.now)

    def collect(self, *, retention: int = 1, after_days: float = 30.0) -> set[Digest]:
        unbacked = after_days * DAY
        found = self.catalog.collect(Policy(self.now, retention, unbacked))
        return set(found.blobs)

    @property
    def tags(self) -> dict[str, Digest]:
        return {r.reference: Digest(*r.digest.split(":")) for r in self.catalog.images() if r.tag}

    def sequence(self, name: str) -> int:
        return self.catalog.sources(path=f"/images/{name}")[0].sequence


def _documents(item: TestImage | TestIndex | Document) -> Iterator[Document]:
    """Children first."""
    if isinstance(item, Document):
        yield item
        return
    for image in item.images if isinstance(item, TestIndex) else (item,):
        yield parse_document(image.manifest.raw, image.manifest.media_type, "test")
    if isinstance(item, TestIndex):
        yield parse_document(item.index.raw, item.index.media_type, "test")


def _claim(name: str, document: Document) -> ClaimedName:
    if name.startswith("unnamed/"):
        return ClaimedName(Repository("", name), "", document.digest)
    reference = parse_reference(name)
    return ClaimedName(reference.repository, reference.tag, document.digest)


def _blobs(documents: object) -> dict[Digest, int]:
    found: dict[Digest, int] = {}
    for document in documents:  # type: ignore[attr-defined]
        found[document.digest] = document.size_bytes
        if isinstance(document.content, Manifest):
            found |= {blob.digest: blob.size_bytes for blob in document.content.blobs}
    return found


@pytest.fixture
def archives(catalog: Catalog) -> Archives:
    return Archives(catalog)


def _image(seed: str) -> TestImage:
    return random_image(seed, layers=1, layer_bytes=100)


def _digests(*images: TestImage) -> set[Digest]:
    return {blob.digest for image in images for blob in image.blobs}


APP = "example.com/app:1"
OLD, NEW = _image("old"), _image("new")


# Settling, and sequence numbers


def test_files_get_their_numbers_in_the_order_given(archives: Archives) -> None:
    archives.settle("z", "a", "m")
    archives.settle("b")
    assert [archives.sequence(name) for name in "zamb"] == [1, 2, 3, 4]


def test_a_changed_file_gets_a_new_number_and_an_unchanged_one_keeps_it(
    archives: Archives,
) -> None:
    archives.settle("a", key="1:1:1:1")
    archives.settle("b")
    archives.settle("a", key="1:1:1:1")
    assert archives.sequence("a") == 1
    archives.settle("a", key="1:1:1:2")
    assert archives.sequence("a") > 2


def test_a_file_that_comes_back_gets_a_new_number(archives: Archives) -> None:
    archives.settle("a", key="1:1:1:1")
    archives.remove("a")
    archives.settle("b")
    archives.settle("a", key="1:1:1:1")
    assert archives.sequence("a") > 2


def test_what_is_imported_by_hand_again_is_the_newest(catalog: Catalog) -> None:
    files = [("/images/a", "1:1:1:1", 1)]
    first = catalog.source_states.settle(files, 1.0, kind="import")
    catalog.source_states.settle([("/images/b", "1:1:1:1", 1)], 2.0)
    assert catalog.source_states.settle(files, 3.0, kind="import") == first
    assert catalog.sources(path="/images/a")[0].sequence == 3


def test_numbers_are_never_given_twice(archives: Archives) -> None:
    archives.settle("a", "b")
    archives.remove("b", policy="delete")
    archives.now += 31 * DAY
    archives.collect()
    archives.settle("c")
    assert archives.sequence("c") > 2


def test_a_version_that_replaced_the_settled_one_counts_as_newer(archives: Archives) -> None:
    first, second = archives.settle("a", "b")
    archives.record(second, {APP: OLD})
    archives.record(first, {APP: NEW}, stat_key="9:9:9:9")
    assert archives.tags == {APP: NEW.digest}
    assert archives.sequence("a") > 2


def test_only_judged_archives_are_known_by_their_key(archives: Archives) -> None:
    judged, queued, failed = archives.settle("judged", "queued", "failed")
    archives.record(judged, {APP: OLD}, stat_key="5:5:5:5")
    archives.catalog.source_states.set_state(failed, "failed", 1.0, reason="a disk")
    again = archives.settle("again")[0]
    archives.record(again, {"again": OLD})
    archives.catalog.source_states.queue_again([again], 1.0, "a blob is lost")
    archives.drop("removed", {"removed": OLD})
    archives.remove("removed")
    assert archives.catalog.known() == {
        "/images/judged": "5:5:5:5",
        "/images/queued": "",
        "/images/failed": "",
        "/images/again": "",
    }
    assert queued != failed


def test_reading_again_keeps_the_number(archives: Archives) -> None:
    source_id = archives.settle("a", key="1:1:1:1")[0]
    archives.record(source_id, {APP: OLD})
    archives.drop("b", {APP: NEW})
    archives.catalog.source_states.queue_again([source_id], 1.0, "a blob is lost")
    archives.settle("a", key="1:1:1:1")
    archives.record(source_id, {APP: OLD})
    assert archives.tags == {APP: NEW.digest}


# Names and where they point


def test_the_newest_archive_has_the_tag_whatever_ends_first(archives: Archives) -> None:
    first, second = archives.settle("a", "b")
    assert archives.record(second, {APP: NEW}) == [TagMove(APP, "", str(NEW.digest))]
    assert archives.record(first, {APP: OLD}) == []
    assert archives.tags == {APP: NEW.digest}


def test_a_moved_tag_is_told_and_logged(archives: Archives) -> None:
    archives.drop("a", {APP: OLD})
    moves = archives.drop("b", {APP: NEW})
    assert moves == [TagMove(APP, str(OLD.digest), str(NEW.digest))]
    event = archives.catalog.events()[-2]
    assert (event.kind, event.reference, event.path) == ("tag-moved", APP, "/images/b")


def test_a_replaced_archive_takes_its_old_names_along(archives: Archives) -> None:
    archives.drop("a", {APP: OLD, "example.com/app:gone": OLD})
    moves = archives.drop("a", {APP: NEW}, on_removal="delete")
    gone = TagMove("example.com/app:gone", str(OLD.digest), "")
    assert moves == [TagMove(APP, str(OLD.digest), str(NEW.digest)), gone]
    assert archives.tags == {APP: NEW.digest}


def test_a_rejected_archive_keeps_what_it_brought_before(archives: Archives) -> None:
    archives.drop("a", {APP: OLD})
    problem = Problem("bad bytes", "x", "sha256:1")
    archives.drop("a", {}, state="rejected", keeps_claims=True, problems=(problem,), reason="bad")
    row = archives.catalog.sources()[0]
    assert (row.state, row.reason, row.problems) == ("rejected", "bad", (problem,))
    assert archives.tags == {APP: OLD.digest}


def test_one_archive_may_claim_a_tag_twice_and_the_last_wins(archives: Archives) -> None:
    source_id = archives.settle("a")[0]
    documents = [next(_documents(image)) for image in (OLD, NEW)]
    claims = tuple(_claim(APP, document) for document in documents)
    archives.record(source_id, {"x": OLD, "y": NEW}, claims=claims)
    assert archives.tags == {APP: NEW.digest}


def test_an_import_that_ends_after_the_removal_brings_nothing_back(archives: Archives) -> None:
    source_id = archives.settle("a")[0]
    archives.remove("a")
    with pytest.raises(NotFoundError):
        archives.record(source_id, {APP: OLD})
    archives.catalog.source_states.set_state(source_id, "failed", 1.0, reason="too late")
    assert archives.catalog.sources()[0].state == "removed"
    assert archives.tags == {}


# Removal


def test_an_unpinned_image_stays_and_is_unbacked(archives: Archives) -> None:
    archives.drop("a", {APP: OLD})
    assert archives.remove("a") == []
    row = archives.catalog.images()[0]
    assert (row.reference, row.unbacked_since, row.archives) == (APP, archives.now, ())
    assert archives.catalog.counts()["unbacked"] == 1


def test_a_deleted_image_goes_at_once(archives: Archives) -> None:
    archives.drop("a", {APP: OLD})
    assert archives.remove("a", policy="delete") == [TagMove(APP, str(OLD.digest), "")]
    assert archives.tags == {}
    assert archives.collect() == _digests(OLD)


def test_a_kept_image_stays_as_it_is(archives: Archives) -> None:
    archives.drop("a", {APP: OLD})
    archives.remove("a", policy="keep")
    archives.now += 400 * DAY
    assert archives.collect() == set()
    assert archives.catalog.images()[0].unbacked_since is None
    assert archives.tags == {APP: OLD.digest}


@pytest.mark.parametrize("policy", ["unpin", "delete", "keep"])
def test_an_image_backed_by_another_archive_stays(policy: str, archives: Archives) -> None:
    archives.drop("a", {APP: OLD})
    archives.drop("b", {APP: OLD})
    assert archives.remove("b", policy=policy) == []
    row = archives.catalog.images()[0]
    assert (row.digest, row.unbacked_since, row.archives) == (str(OLD.digest), None, ("/images/a",))


@pytest.mark.parametrize("policy", ["unpin", "delete", "keep"])
def test_the_tag_goes_back_to_the_newest_archive_left(policy: str, archives: Archives) -> None:
    archives.drop("a", {APP: OLD})
    archives.drop("b", {APP: NEW})
    assert archives.remove("b", policy=policy) == [TagMove(APP, str(NEW.digest), str(OLD.digest))]


def test_an_archive_that_comes_back_backs_its_image_again(archives: Archives) -> None:
    archives.drop("a", {APP: OLD})
    archives.remove("a")
    archives.drop("a", {APP: OLD})
    assert archives.catalog.images()[0].unbacked_since is None


def test_removing_what_is_not_known_changes_nothing(archives: Archives) -> None:
    archives.drop("a", {APP: OLD})
    before = archives.catalog.generation
    assert archives.remove("never-seen") == []
    assert archives.catalog.generation == before


# Collection


def test_nothing_that_is_wanted_is_collected(archives: Archives) -> None:
    index = random_index("kept", layers=1, layer_bytes=100)
    archives.drop("a", {APP: OLD, "multi:1": index, "unnamed/a": _image("unnamed")})
    before = archives.catalog.generation
    archives.now += 400 * DAY
    assert archives.collect(retention=0, after_days=0) == set()
    assert archives.catalog.generation == before


@pytest.mark.parametrize(("retention", "kept"), [(0, 1), (1, 2), (2, 3), (9, 5)])
def test_earlier_generations_are_kept_by_retention(
    retention: int, kept: int, archives: Archives
) -> None:
    images = [_image(f"generation/{number}") for number in range(5)]
    for image in images:
        archives.drop("a", {APP: image})
    expected = _digests(*images) - _digests(*images[-kept:])
    assert archives.collect(retention=retention) == expected
    assert archives.catalog.blobs().keys() == _digests(*images[-kept:])


def test_a_layer_of_a_wanted_image_stays(archives: Archives) -> None:
    shared = random_image("upper", layers=1, layer_bytes=100, base=OLD.layers)
    archives.drop("a", {APP: OLD})
    archives.drop("b", {"other:1": shared})
    archives.remove("a", policy="delete")
    assert archives.collect() == {OLD.digest, OLD.config.digest}


def test_unbacked_images_go_after_their_time(archives: Archives) -> None:
    archives.drop("a", {APP: OLD})
    archives.drop("b", {"other:1": NEW})
    archives.remove("a")
    archives.now += 29 * DAY
    assert archives.collect() == set()
    assert APP in archives.tags
    archives.now += 2 * DAY
    assert archives.collect() == _digests(OLD)
    assert set(archives.tags) == {"docker.io/library/other:1"}
    assert archives.catalog.events()[-1].kind == "collected"
    assert [row.path for row in archives.catalog.sources()] == ["/images/b"]
    assert [str(found) for found in archives.catalog.repositories()] == ["docker.io/library/other"]


def test_an_expired_name_changes_the_generation_though_its_blobs_stay(archives: Archives) -> None:
    archives.drop("a", {APP: OLD})
    archives.drop("b", {"other:1": OLD})
    archives.remove("a")
    archives.now += 31 * DAY
    before = archives.catalog.generation
    assert archives.collect() == set()
    assert set(archives.tags) == {"docker.io/library/other:1"}
    assert archives.catalog.generation > before


def test_untagged_claims_hold_their_documents_while_the_archive_does(archives: Archives) -> None:
    archives.drop("a", {"unnamed/a": OLD})
    assert archives.collect(after_days=0) == set()
    archives.remove("a")
    archives.now += 29 * DAY
    assert archives.collect() == set()
    archives.now += 2 * DAY
    assert archives.collect() == _digests(OLD)


def test_an_untagged_image_goes_at_once_where_removal_deletes(archives: Archives) -> None:
    archives.drop("a", {"unnamed/a": OLD})
    archives.remove("a", policy="delete")
    assert archives.collect() == _digests(OLD)


def _referrer(subject: TestImage, config: TestImage) -> Document:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.config.descriptor,
        "layers": [],
        "subject": subject.manifest.descriptor,
    }
    return parse_document(compact(document), OCI_MANIFEST, "referrer")


def test_a_referrer_is_held_with_its_subject(archives: Archives) -> None:
    """Its own archive is gone, its tag too: the image that it speaks of is there."""
    referrer = _referrer(OLD, NEW)
    archives.drop("a", {APP: OLD})
    archives.drop("b", {"example.com/app:sig": referrer})
    archives.remove("b", policy="delete")
    assert archives.collect() == set()
    repository = parse_reference(APP).repository
    found = [d.digest for d in archives.catalog.referrers(repository, OLD.digest).items]
    assert found == [referrer.digest]
    archives.remove("a", policy="delete")
    assert archives.collect() == _digests(OLD) | {referrer.digest, NEW.config.digest}


def test_a_subject_is_not_held_by_its_referrer(archives: Archives) -> None:
    archives.drop("a", {APP: OLD})
    archives.drop("b", {"example.com/app:sig": _referrer(OLD, NEW)})
    archives.remove("a", policy="delete")
    assert archives.collect() == _digests(OLD)


# Lost blobs


def test_the_archives_of_a_blob_are_found_through_indexes(archives: Archives) -> None:
    index = random_index("multi", layers=1, layer_bytes=100)
    first, second, _ = archives.settle("a", "b", "c")
    archives.record(first, {"multi:1": index})
    archives.record(second, {"arm:1": index.images[1]})
    layer = index.images[1].layers[0].digest
    assert [s.id for s in archives.catalog.sources_of_blob(layer)] == [first, second]
    archives.remove("b")
    [source] = archives.catalog.sources_of_blob(layer)
    assert (source.id, source.path, source.kind) == (first, "/images/a", "archive")


@pytest.mark.parametrize("state", ["lost", "quarantined"])
def test_a_bad_blob_is_not_held_until_it_is_imported_again(state: str, archives: Archives) -> None:
    archives.drop("a", {APP: OLD})
    layer = OLD.layers[0].digest
    archives.catalog.verification.mark_blob(layer, state, 1.0)
    assert layer not in archives.catalog.blobs()
    assert layer in archives.catalog.known_blobs()
    assert archives.catalog.events()[-1].kind == state
    archives.drop("a", {APP: OLD})
    assert layer in archives.catalog.blobs()


def test_blobs_are_told_by_when_they_were_verified(archives: Archives) -> None:
    catalog = archives.catalog
    assert catalog.oldest_verified() is None
    archives.drop("a", {APP: OLD})
    then = archives.now
    archives.drop("b", {"other:1": NEW})
    now = archives.now
    assert catalog.oldest_verified() == then
    assert {d for d, _ in catalog.unverified_blobs(then + 1, now, 100)} == _digests(OLD)
    assert len(catalog.unverified_blobs(then + 1, now, 1)) == 1
    wrong_clock = {d for d, _ in catalog.unverified_blobs(then, then, 100)}
    assert wrong_clock == _digests(NEW), "times to come count as none"
    generation = catalog.generation
    catalog.verification.record(sorted(_digests(OLD)), now, "{}")
    assert catalog.oldest_verified() == now
    assert catalog.unverified_bytes(then + 1, now) == 0
    assert catalog.generation == generation


# Rebuilding


def _restore(
    catalog: Catalog, path: str, names: dict[str, TestImage], sequence: int, *, present: bool
) -> None:
    documents = [next(_documents(image)) for image in names.values()]
    claims = [(_claim(n, d), sequence) for n, d in zip(names, documents, strict=True)]
    source = RestoredSource(
        "archive",
        path,
        sequence,
        present,
        tuple(claims),
        tuple(documents),
        {},
        _blobs(documents),
    )
    catalog.recovery.restore_sources([source], 100.0)
    for claim, _ in claims:
        catalog.recovery.restore_tags([RestoredTag(claim, "archive", path)], 100.0)


def test_restored_archives_keep_names_numbers_and_whether_they_are_there(
    archives: Archives,
) -> None:
    catalog = archives.catalog
    _restore(catalog, "/images/a", {APP: OLD}, 7, present=True)
    _restore(catalog, "/images/b", {"gone:1": NEW}, 9, present=False)
    _restore(catalog, "/images/c", {}, 4, present=True)
    assert archives.tags == {APP: OLD.digest, "docker.io/library/gone:1": NEW.digest}
    unbacked = {row.reference: row.unbacked_since for row in catalog.images()}
    assert unbacked == {APP: None, "docker.io/library/gone:1": 100.0}
    assert catalog.known() == {"/images/a": "", "/images/c": ""}
    archives.settle("a", "new", "c")
    assert [archives.sequence(name) for name in ("a", "new", "c")] == [7, 10, 4]
    assert archives.collect() == set()


# The generation


def test_the_generation_is_told_after_the_commit(catalog: Catalog) -> None:
    """Told before, what a reader saw would count as of the new generation."""
    generation = catalog.generation
    seen: list[int] = []

    def fail() -> None:
        with catalog._transactions.begin("look") as db:
            catalog._transactions.count_change(db)
            seen.append(catalog.generation)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [generation]
    assert catalog.generation == generation
    with catalog._transactions.begin("look") as db:
        catalog._transactions.count_change(db)
        seen.append(catalog.generation)
    assert seen == [generation, generation]
    assert catalog.generation == generation + 1


def test_the_generation_outlives_the_process(archives: Archives, tmp_path: Path) -> None:
    archives.drop("a", {APP: OLD})
    generation = archives.catalog.generation
    archives.catalog.close()
    again = Catalog(tmp_path / "catalog.db", not_held)
    assert again.generation == generation
    again.close()


def _drop_new(archives: Archives) -> None:
    archives.record(archives.catalog.sources()[0].id, {APP: NEW})


def _remove(archives: Archives) -> None:
    archives.remove("a")


@pytest.mark.parametrize(
    ("point", "act"), [("catalog.in_import", _drop_new), ("catalog.in_remove", _remove)]
)
def test_a_transaction_that_fails_leaves_no_trace(
    point: str, act: Callable[[Archives], None], archives: Archives
) -> None:
    archives.drop("a", {APP: OLD})
    before = list(_dump(archives.catalog))
    generation = archives.catalog.generation
    faults.arm(f"{point}=error")
    with pytest.raises(StoreError):
        act(archives)
    assert list(_dump(archives.catalog)) == before
    assert archives.catalog.generation == generation
    act(archives)
    assert archives.catalog.generation == generation + 1


def _dump(catalog: Catalog) -> Iterator[str]:
    return catalog._writer._connection.iterdump()


def test_events_are_kept_to_a_number(archives: Archives) -> None:
    with archives.catalog._transactions.begin("fill") as db:
        db.execute("INSERT INTO event (id, at, kind) VALUES (10997, 0, 'old'), (500, 0, 'older')")
    archives.settle("a", "b", "c")
    events = archives.catalog.events(limit=20_000)
    assert [event.kind for event in events] == ["old", "settled", "settled", "settled"]
    assert [event.id for event in archives.catalog.events(after=10_998)] == [10_999, 11_000]


# Files and processes


def test_the_file_is_sound_and_durable(archives: Archives, tmp_path: Path) -> None:
    archives.drop("a", {APP: random_index("i"), "unnamed/a": OLD})
    db = archives.catalog._writer._connection
    for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
        assert db.execute(f"PRAGMA {pragma}").fetchone()[0] == value
    other = sqlite3.connect(tmp_path / "catalog.db")
    assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert other.execute("PRAGMA user_version").fetchone() == (VERSION,)
    other.close()


def test_readers_see_whole_transactions_while_a_writer_works(archives: Archives) -> None:
    """Each import moves two tags together: no reader sees one of them moved."""
    images = [_image(f"turn/{number}") for number in range(30)]
    names = (APP, "example.com/app:2")
    archives.drop("a", dict.fromkeys(names, images[0]))
    done, seen, wrong = threading.Event(), set[str](), list[object]()

    def read() -> None:
        last = 0
        while not done.is_set():
            generation = archives.catalog.generation
            rows = archives.catalog.images()
            digests = {row.digest for row in rows}
            if len(digests) != 1 or generation < last:
                wrong.append((digests, generation, last))
            last = generation
            seen.update(digests)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for image in images:
        archives.drop("a", dict.fromkeys(names, image))
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert len(seen) > 1


def test_several_threads_write_one_after_another(archives: Archives) -> None:
    generation = archives.catalog.generation

    def settle(number: int) -> None:
        archives.catalog.source_states.settle([(f"/images/{number}", "1:1:1:1", 1)], 1.0)

    threads = [threading.Thread(target=settle, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert archives.catalog.generation == generation + 20
    assert sorted(row.sequence for row in archives.catalog.sources()) == list(range(1, 21))


def test_another_process_reads_while_the_agent_writes(archives: Archives, tmp_path: Path) -> None:
    view = open_view(tmp_path / "catalog.db")
    assert view.images() == []
    archives.drop("a", {APP: OLD})
    assert [row.reference for row in view.images()] == [APP]
    assert view.generation == archives.catalog.generation
    with pytest.raises(StoreError):
        view._readers.rows("DELETE FROM tag")
    view.close()


def test_a_catalog_that_is_not_there_is_not_made_by_reading(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        open_view(tmp_path / "catalog.db")
    assert list(tmp_path.iterdir()) == []


_KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from airside.catalog.catalog import Catalog
catalog = Catalog(Path(sys.argv[1]), print)
catalog.source_states.settle([("/images/left-in-the-wal", "1:1:1:1", 1)], 1.0)
os.kill(os.getpid(), signal.SIGKILL)
"""
_READER = """
import json, os, sys
from pathlib import Path
from airside.catalog.view import open_view
from airside.core.errors import AirsideError
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
try:
    view = open_view(Path(sys.argv[1]))
    print(json.dumps([row.path for row in view.sources()]))
    view.close()
except AirsideError as exc:
    print(json.dumps({"error": type(exc).__name__, "message": exc.message}))
"""


def _python(program: str, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize("state", ["running", "stopped", "killed"])
def test_a_user_who_cannot_write_reads_the_catalog(state: str, top: Path) -> None:
    path = top / "catalog.db"
    if state == "killed":
        assert _python(_KILLED_WRITER, path).returncode == -signal.SIGKILL
        assert path.with_name("catalog.db-wal").stat().st_size > 0
    else:
        catalog = Catalog(path, not_held)
        catalog.source_states.settle([("/images/left-in-the-wal", "1:1:1:1", 1)], 1.0)
        if state == "stopped":
            catalog.close()
    for file in top.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        file.chmod(0o644)  # by an administrator, or an earlier version
    before = {p.name for p in top.iterdir()}
    found = _python(_READER, path, NOBODY)
    assert json.loads(found.stdout) == ["/images/left-in-the-wal"], found
    assert {p.name for p in top.iterdir()} == before
    if state == "running":
        catalog.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_user_who_may_not_read_is_told(top: Path) -> None:
    path = top / "catalog.db"
    Catalog(path, not_held).close()
    found = json.loads(_python(_READER, path, NOBODY).stdout)
    assert found["error"] == "StoreError"


def test_what_a_killed_writer_committed_is_there_after_the_restart(tmp_path: Path) -> None:
    assert _python(_KILLED_WRITER, tmp_path / "catalog.db").returncode == -signal.SIGKILL
    catalog = Catalog(tmp_path / "catalog.db", not_held)
    assert [row.path for row in catalog.sources()] == ["/images/left-in-the-wal"]
    catalog.close()


# Translated errors


def test_a_newer_catalog_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    Catalog(path, not_held).close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreError) as caught:
        Catalog(path, not_held)
    found = caught.value.context
    assert (found["found"], found["expected"]) == (str(VERSION + 1), str(VERSION))
    assert "docs/upgrade.md" in found["hint"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", [b"\xff" * 4096, b"not a database at all"])
def test_what_is_no_database_is_told_with_what_to_do(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    Catalog(path, not_held).close()
    with path.open("r+b") as file:
        file.write(damage)
    with pytest.raises(StoreCorruptError) as caught:
        Catalog(path, not_held)
    assert str(path) in caught.value.message
    assert "restart" in caught.value.context["hint"]


def test_a_directory_that_is_not_there_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        Catalog(tmp_path / "absent" / "catalog.db", not_held)
    assert str(tmp_path / "absent") in caught.value.message


def test_a_full_disk_is_told_and_the_catalog_goes_on(archives: Archives) -> None:
    db = archives.catalog._writer._connection
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")

    def fill() -> None:
        for number in range(100):
            archives.drop(f"{number}", {f"example.com/app:{number}": _image(f"full/{number}")})

    with pytest.raises(StorageFullError):
        fill()
    whole = archives.tags
    db.execute("PRAGMA max_page_count = 100000")
    archives.drop("after", {"after:1": NEW})
    assert archives.tags == whole | {"docker.io/library/after:1": NEW.digest}


def test_a_locked_catalog_is_an_error_that_can_be_tried_again() -> None:
    busy = sqlite3.OperationalError("database is locked")
    busy.sqlite_errorcode = sqlite3.SQLITE_BUSY
    with pytest.raises(StoreError) as caught, translated("write"):
        raise busy
    assert caught.value.retryable
    assert type(caught.value) is StoreError


def test_what_is_not_of_sqlite_is_not_translated() -> None:
    with pytest.raises(OSError, match="disk"), translated("write"):
        raise OSError(errno.EIO, "disk")
