"""Every kind of damage at every kind of blob: found, never served, and repaired or told."""

import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airside.agent.node import Node
from airside.cli.main import main
from airside.core.errors import StoppedError, StoreError
from airside.core.failpoints import SCRUBBING, arm
from airside.diagnostics.reports import status_report, verify_report
from airside.oci.digest import Digest, digest_of
from airside.oci.reference import Repository, parse_reference
from airside.ports.content import Only
from airside.registry.rules.lookup import find_blob
from airside.registry.rules.names import Name
from airside.registry.rules.read_through import ReadThrough, RuntimeLookup
from airside.registry.rules.requests import GetBlob
from airside.store.local import LocalStore
from airside.store.scrub import ScrubReport
from airside.store.scrub_results import ScrubPass
from support.connected import connect_copies
from support.copies import DirectoryCopies
from support.images import TestIndex, docker_archive, oci_archive, random_image
from support.images import random_index as index_of_two
from support.nodes import import_now, node_at, visible, wrong_blobs

APP = "example.com/team/app:1"


def damage_bits(path: Path) -> None:
    """In place, as a disk does: the inode stays."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    path.chmod(0o444)


def damage_size(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size - 1)
    path.chmod(0o444)


def damage_all(path: Path) -> None:
    path.unlink()


DAMAGES = {"wrong-bytes": damage_bits, "wrong-size": damage_size, "missing": damage_all}
KINDS = ("layer", "config", "manifest", "index")


class Stocked:
    """A node with an index of two images, of an archive that is there or gone."""

    def __init__(self, node: Node, directory: Path) -> None:
        self.node, self.directory = node, directory
        self.index: TestIndex = index_of_two("a")
        self.archive = directory / "a.tar"
        self.names = oci_archive(self.archive, {APP: self.index})
        assert import_now(node, self.archive).state == "imported"
        self.copies = DirectoryCopies(directory / "content", node.store)

    def blob(self, kind: str) -> Digest:
        image = self.index.images[0]
        if kind == "index":
            return self.index.digest
        found = {"layer": image.layers[0], "config": image.config, "manifest": image.manifest}
        return found[kind].digest

    def path(self, kind: str) -> Path:
        return self.node.store.path(self.blob(kind))

    def verify(self, *, repair: bool = True) -> ScrubReport:
        return self.node.scrub.verify(
            read=self.node.imports.read_now if repair else None,
            stop=lambda: False,
            progress=lambda _done, _all: None,
        )

    def connect(self) -> None:
        connect_copies(self.node, self.copies)

    def check_sound(self) -> None:
        assert wrong_blobs(self.node) == []
        assert set(self.node.store.digests()) == set(self.node.catalog.blobs())
        assert visible(self.node) == self.names
        assert self.node.catalog.bad_blobs() == []
        assert not self.quarantined()

    def quarantined(self) -> list[Path]:
        place = self.directory / "data/quarantine"
        return list(place.iterdir()) if place.is_dir() else []

    def states(self) -> dict[Digest, str]:
        return {bad.digest: bad.state for bad in self.node.catalog.bad_blobs()}


@pytest.fixture
def stocked(tmp_path: Path) -> Iterator[Stocked]:
    with node_at(tmp_path / "data") as node:
        yield Stocked(node, tmp_path)


def test_a_store_that_is_right_is_verified_and_nothing_changes(stocked: Stocked) -> None:
    seen: list[tuple[int, int]] = []
    node, before = stocked.node, stocked.node.catalog.generation
    report = node.scrub.verify(
        read=node.imports.read_now,
        stop=lambda: False,
        progress=lambda done, total: seen.append((done, total)),
    )
    blobs = node.catalog.blobs()
    total = sum(blobs.values())
    assert (report.is_right, report.items) == (True, [])
    assert (report.found.blobs, report.found.size_bytes) == (len(blobs), total)
    assert (seen[0], seen[-1]) == ((0, total), (total, total))
    assert node.catalog.generation == before, "no cache is dropped for it"
    oldest = node.catalog.oldest_verified()
    assert oldest is not None
    assert oldest >= report.found.started_at
    told = status_report(node.catalog)["scrub"]
    assert told["ended_at"] is not None
    assert (told["by"], told["wrong"], told["blobs"]) == ("verify", 0, len(blobs))


@pytest.mark.parametrize("problem", DAMAGES)
def test_damage_of_every_kind_of_blob_is_found_and_repaired(problem: str, stocked: Stocked) -> None:
    digests = {kind: stocked.blob(kind) for kind in KINDS}
    for kind in KINDS:
        DAMAGES[problem](stocked.path(kind))
    items = {item.digest: item for item in stocked.verify().items}
    assert set(items) == set(digests.values())
    for kind, digest in digests.items():
        item = items[digest]
        assert (item.problem, item.result, item.images) == (problem, "repaired", (APP,))
        assert item.origin == ("catalog" if kind in {"manifest", "index"} else "archive")
        assert item.source == ("" if item.origin == "catalog" else str(stocked.archive))
        assert (item.found != "") == (problem == "wrong-bytes")
        events = [e.kind for e in stocked.node.catalog.events() if e.digest == str(digest)]
        assert events[-2:] == ["lost" if problem == "missing" else "quarantined", "repaired"]
    stocked.check_sound()
    imports = [e for e in stocked.node.catalog.events() if e.kind == "imported"]
    assert len(imports) == 2, "the archive was read again once for all of them"
    assert stocked.verify().items == []


def test_an_index_of_ours_is_made_again(tmp_path: Path) -> None:
    with node_at(tmp_path / "data") as node:
        stocked = Stocked(node, tmp_path)
        for image in stocked.index.images:
            arch = image.platform.architecture
            docker_archive(tmp_path / f"{arch}.tar", {"merged:1": image})
            import_now(node, tmp_path / f"{arch}.tar")
        [merged] = [row for row in node.catalog.images() if row.merged]
        for name in ("amd64", "arm64", "a"):
            (tmp_path / f"{name}.tar").unlink()
        digest = Digest(*merged.digest.split(":"))
        damage_bits(node.store.path(digest))
        [item] = stocked.verify().items
        assert (item.digest, item.result, item.origin) == (digest, "repaired", "catalog")
        assert wrong_blobs(node) == []


@pytest.mark.parametrize("problem", DAMAGES)
def test_without_repair_it_is_set_aside_and_not_served(problem: str, stocked: Stocked) -> None:
    """Not from the store, nor from a runtime whose file is the same."""
    node, digest = stocked.node, stocked.blob("layer")
    stocked.copies.link(digest)
    DAMAGES[problem](stocked.path("layer"))
    report = stocked.verify(repair=False)
    [item] = report.items
    assert item.result == ("missing" if problem == "missing" else "quarantined")
    assert not report.is_right
    assert "--repair" in item.advice
    intent = GetBlob(Name("team/app", "example.com"), digest)
    found = find_blob(node.catalog, node.store.stat, intent, "docker.io")
    assert not isinstance(found, int)
    if problem != "missing":  # then what the runtime has is its own
        everything = ReadThrough(lambda: [Anything()], "true")  # type: ignore[list-item]
        assert RuntimeLookup(node.catalog, everything, "docker.io").pushed_blob(intent) is None
        [kept] = stocked.quarantined()
        assert kept.samefile(stocked.copies.path(digest))
    assert not verify_report(report, repair=False)["right"]
    counts = status_report(node.catalog)
    assert counts["blobs_quarantined"] + counts["blobs_lost"] == 1
    stocked.connect()
    [again] = stocked.verify().items
    assert again.result == "repaired"
    assert stocked.copies.path(digest).samefile(node.store.path(digest)) or problem == "missing"
    stocked.check_sound()


class Anything:
    """A runtime that has every blob."""

    def blob(self, _repository: Repository, _digest: Digest, _only: Only) -> object:
        return object()


def test_who_reads_a_blob_when_it_is_set_aside_reads_on(stocked: Stocked) -> None:
    with stocked.node.store.open(stocked.blob("layer")) as file:
        damage_bits(stocked.path("layer"))
        stocked.verify(repair=False)
        assert file.read()


def test_a_copy_of_the_runtime_is_taken_where_no_archive_is_left(stocked: Stocked) -> None:
    digest = stocked.blob("layer")
    stocked.copies.put(digest)
    stocked.connect()
    stocked.archive.unlink()
    damage_bits(stocked.path("layer"))
    [item] = stocked.verify().items
    assert (item.result, item.origin) == ("repaired", "runtime")
    assert item.source == stocked.copies.runtime
    assert [m.state for m in item.runtimes] == ["right"]
    stocked.check_sound()


@pytest.mark.parametrize("content", ["same", "wrong", "short", "absent", "away"])
def test_what_nothing_has_is_lost_and_told(content: str, stocked: Stocked) -> None:
    digest = stocked.blob("layer")
    if content == "same":
        stocked.copies.link(digest)
    elif content in {"wrong", "short"}:
        stocked.copies.put(digest)
        DAMAGES["wrong-bytes" if content == "wrong" else "wrong-size"](stocked.copies.path(digest))
    stocked.copies.away = content == "away"
    stocked.connect()
    stocked.archive.unlink()
    damage_bits(stocked.path("layer"))
    for _ in range(2):
        report = stocked.verify()
        [item] = report.items
        assert (item.digest, item.result, item.images) == (digest, "lost", (APP,))
        assert "push the image again" in item.advice
        assert (report.found.wrong, report.found.lost) == (1, 1)
    assert stocked.states() == {digest: "quarantined"}
    assert wrong_blobs(stocked.node) == []
    stocked.copies.away = False
    oci_archive(stocked.archive, {APP: stocked.index})
    import_now(stocked.node, stocked.archive)
    stocked.node.reconcile()
    stocked.node.scrub.retry(lambda: False)
    stocked.check_sound()
    if content not in {"absent", "away"}:
        assert digest_of(stocked.copies.path(digest).read_bytes()) == digest


def test_both_names_of_a_linked_file_are_right_again(stocked: Stocked) -> None:
    digest = stocked.blob("layer")
    stocked.copies.link(digest)
    stocked.connect()
    damage_bits(stocked.path("layer"))
    [item] = stocked.verify().items
    assert (item.result, item.origin) == ("repaired", "archive")
    assert [(m.runtime, m.state) for m in item.runtimes] == [("/run/test.sock", "replaced")]
    assert stocked.copies.path(digest).samefile(stocked.path("layer"))
    stocked.check_sound()


def test_the_other_name_is_replaced_when_its_runtime_comes(stocked: Stocked) -> None:
    digest = stocked.blob("layer")
    stocked.copies.link(digest)
    damage_bits(stocked.path("layer"))
    [item] = stocked.verify().items
    assert (item.result, item.runtimes) == ("repaired", ())
    assert len(stocked.quarantined()) == 1, "its other name is still wrong"
    stocked.connect()
    stocked.node.reconcile()
    assert stocked.copies.path(digest).samefile(stocked.path("layer"))
    stocked.check_sound()


def test_a_replaced_import_by_hand_is_not_read_for_a_repair(stocked: Stocked) -> None:
    other = random_image("other")
    oci_archive(stocked.archive, {APP: other})
    damage_bits(stocked.path("layer"))
    [item] = stocked.verify().items
    assert item.result == "lost"
    assert visible(stocked.node) == stocked.names


def test_what_the_disk_cannot_read_is_wrong_and_keeps_its_place(
    stocked: Stocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = stocked.path("layer").stat().st_ino
    preadv = os.preadv

    def read(descriptor: int, buffers: Any, offset: int) -> int:
        if os.fstat(descriptor).st_ino == bad:
            raise OSError(errno.EIO, "Input/output error")
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", read)
    [item] = stocked.verify().items
    assert (item.problem, item.result) == ("unreadable", "repaired")
    assert "Input/output error" in item.reason
    [kept] = stocked.quarantined()
    assert kept.name.endswith(".unreadable")
    assert kept.stat().st_ino == bad
    kept.unlink()
    stocked.verify()


def test_what_was_read_wrong_once_only_is_right(
    stocked: Stocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    preadv, turns = os.preadv, iter([True])

    def read(descriptor: int, buffers: Any, offset: int) -> int:
        count = preadv(descriptor, buffers, offset)
        if next(turns, False):
            buffers[0][0] ^= 1
        return count

    monkeypatch.setattr(os, "preadv", read)
    assert stocked.verify().items == []


@pytest.mark.parametrize("gone", ["moved", "emptied", "error", "read-only"])
def test_a_file_system_that_is_gone_makes_nothing_lost(
    gone: str, stocked: Stocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, root = stocked.node, stocked.node.store.root
    aside = root.with_name("aside")
    if gone in {"moved", "emptied"}:
        root.rename(aside)
        if gone == "emptied":
            root.mkdir()
    elif gone == "error":
        monkeypatch.setattr(os, "preadv", failing(errno.ENODEV))
    else:
        damage_bits(stocked.path("layer"))
        monkeypatch.setattr(os, "fsync", failing(errno.EROFS))
    with pytest.raises(StoreError):
        stocked.verify()
    if gone in {"moved", "emptied"}:
        with pytest.raises(StoreError):
            node.reconcile()
        if gone == "emptied":
            root.rmdir()
        aside.rename(root)
    monkeypatch.undo()
    assert node.catalog.bad_blobs() == []
    assert not stocked.quarantined()
    assert stocked.verify().is_right
    stocked.check_sound()


def failing(number: int) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_what_was_called_lost_and_is_there_is_taken_back(tmp_path: Path) -> None:
    with node_at(tmp_path / "data") as node:
        stocked = Stocked(node, tmp_path)
        for digest in list(node.catalog.blobs()):
            node.catalog.verification.mark_blob(digest, "lost", 1.0)
        wrong = stocked.blob("config")
        damage_bits(node.store.path(wrong))
        names = stocked.names
    with node_at(tmp_path / "data") as node:
        assert {bad.digest: bad.state for bad in node.catalog.bad_blobs()} == {wrong: "quarantined"}
        assert wrong_blobs(node) == []
        assert visible(node) == names


def test_the_catalogs_copy_of_a_document_is_repaired_from_the_store(tmp_path: Path) -> None:
    with node_at(tmp_path / "data") as node:
        stocked = Stocked(node, tmp_path)
        digest = stocked.blob("manifest")
        with sqlite3.connect(tmp_path / "data/catalog.db") as db:
            query = "SELECT raw FROM document WHERE digest = ?"
            [raw] = db.execute(query, (str(digest),)).fetchone()
            values = (raw.replace(b"schemaVersion", b"schemaversion"), str(digest))
            db.execute("UPDATE document SET raw = ? WHERE digest = ?", values)
        db.close()
        [item] = stocked.verify(repair=False).items
        assert (item.problem, item.result) == ("wrong-record", "wrong")
        [item] = stocked.verify().items
        assert (item.result, item.origin) == ("repaired", "store")
        repository = parse_reference(APP).repository
        served = node.catalog.document_by_digest(repository, digest)
        assert served is not None
        assert digest_of(served.raw) == digest
        stocked.check_sound()


def test_files_that_nothing_needs_are_told_and_deleted(stocked: Stocked) -> None:
    store = stocked.node.store
    store.commit([store.put(b"left", algorithm) for algorithm in ("sha256", "sha512")])
    first, then = stocked.verify(repair=False), stocked.verify()
    assert [item.result for item in first.items] == ["orphan", "orphan"]
    assert [item.result for item in then.items] == ["removed", "removed"]
    assert first.is_right
    assert first.found.wrong == then.found.wrong == 0
    stocked.check_sound()


def test_an_interrupted_pass_goes_on_where_it_was(stocked: Stocked) -> None:
    """With the blobs that were verified longest ago, and without those that it had."""
    node = stocked.node
    started = ScrubPass(node.clock())
    looked: list[int] = []

    def each(count: int) -> None:
        if len(looked) == 3:
            raise StoppedError("stop")
        looked.append(count)

    with pytest.raises(StoppedError):
        node.scrub.background(started, read=node.imports.read_now, each=each, stop=lambda: False)
    due = node.scrub.due(86400.0)
    assert due is not None
    assert (due.started_at, due.ended_at, due.blobs) == (started.started_at, None, 3)
    report = node.scrub.background(
        due, read=node.imports.read_now, each=lambda _count: None, stop=lambda: False
    )
    assert report.found.blobs == len(node.catalog.blobs())
    assert node.scrub.due(86400.0) is None


def test_imports_and_collections_go_on_meanwhile(stocked: Stocked, tmp_path: Path) -> None:
    """A blob that is collected, one that is replaced, and archives that come, while it reads."""
    node = stocked.node
    collected, expected = random_image("gone"), dict(stocked.names)
    oci_archive(tmp_path / "gone.tar", {"example.com/gone:1": collected})
    import_now(node, tmp_path / "gone.tar")
    for number in range(4):
        name = f"example.com/more{number}:1"
        expected |= oci_archive(tmp_path / f"{number}.tar", {name: random_image(number)})
    meanwhile = iter([*range(4), "collect"])

    def act(_count: int) -> None:
        what = next(meanwhile, None)
        if what == "collect":
            with node.catalog._transactions.begin("drop") as db:
                db.execute("DELETE FROM claim WHERE source_id = 2")
                db.execute(
                    "DELETE FROM tag WHERE repository_id ="
                    " (SELECT id FROM repository WHERE path = 'gone')"
                )
                db.execute(
                    "DELETE FROM tag_generation WHERE tag = '1' AND source_path LIKE '%gone%'"
                )
            node.collect_garbage()
        elif what is not None:
            thread = threading.Thread(target=import_now, args=(node, tmp_path / f"{what}.tar"))
            thread.start()
            thread.join()

    found = ScrubPass(node.clock())
    report = node.scrub.background(found, read=node.imports.read_now, each=act, stop=lambda: False)
    assert report.items == []
    stocked.names = expected
    stocked.check_sound()


@pytest.mark.parametrize("point", [p for p in SCRUBBING if not p.endswith("_replace")])
def test_what_was_interrupted_is_done_by_the_next_start(point: str, tmp_path: Path) -> None:
    """Linked files of a document and a layer: at no time is there a wrong one in the store."""
    content = tmp_path / "content"
    with node_at(tmp_path / "data") as node:
        stocked = Stocked(node, tmp_path)
        stocked.connect()
        for kind in ("manifest", "layer"):
            stocked.copies.link(stocked.blob(kind))
            damage_bits(stocked.path(kind))
        arm(f"{point}=error")
        with pytest.raises(StoreError, match="injected"):
            stocked.verify()
    with node_at(tmp_path / "data") as node:
        stocked.node = node
        assert all(node.store.stat(bad.digest) is None for bad in node.catalog.bad_blobs())
        stocked.copies.store = node.store
        stocked.connect()
        assert stocked.verify().is_right
        stocked.check_sound()
    assert [p for p in content.iterdir() if digest_of(p.read_bytes()).hex != p.name] == []


def test_sha512_is_verified_by_its_own_algorithm(stocked: Stocked) -> None:
    node = stocked.node
    raw = b"large and far away"
    digest = digest_of(raw, "sha512")
    with node.catalog._transactions.begin("add") as db:
        db.execute("INSERT INTO blob VALUES (?, ?, 0, 'held')", (str(digest), len(raw)))
    node.store.commit([node.store.put(raw, "sha512")])
    assert stocked.verify().items == []
    damage_bits(node.store.path(digest))
    [item] = stocked.verify().items
    assert (item.digest, item.result) == (digest, "lost")
    assert item.found == str(digest_of(bytes([*raw[:9], raw[9] ^ 1, *raw[10:]]), "sha512"))


def test_importing_what_is_held_is_not_verifying_it(stocked: Stocked) -> None:
    node, before = stocked.node, stocked.node.catalog.oldest_verified()
    assert import_now(node, stocked.archive).new_blobs == 0
    assert node.catalog.oldest_verified() == before


def test_a_report_is_json(stocked: Stocked) -> None:
    damage_bits(stocked.path("layer"))
    report = verify_report(stocked.verify(), repair=True)
    assert report["schema"] == 1
    assert report["right"]
    [item] = report["items"]
    assert item["digest"] == str(stocked.blob("layer"))
    assert (item["from"], item["source"]) == ("archive", str(stocked.archive))


def test_the_command_says_what_is_wrong_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with node_at(tmp_path / "data") as node:
        stocked = Stocked(node, tmp_path)
    words = ["verify", "--data", str(tmp_path / "data")]
    assert main(words) == 0
    assert ": no errors" in capsys.readouterr().out
    path = stocked.path("layer")
    damage_bits(path)
    assert main(words) == 1
    assert f"quarantined: {stocked.blob('layer')}: its bytes hash to" in capsys.readouterr().out
    stocked.archive.rename(tmp_path / "elsewhere.tar")
    assert main([*words, "--repair"]) == 1
    told = capsys.readouterr().out
    assert f"lost: {stocked.blob('layer')}" in told
    assert f"needed by {APP}" in told
    assert "drop an archive that contains it again" in told
    assert main(["status", "--data", str(tmp_path / "data")]) == 0
    assert "1 blob damaged or lost now" in capsys.readouterr().out
    assert main(["explain", APP, "--data", str(tmp_path / "data")]) == 0
    assert f"{stocked.blob('layer')} is quarantined" in capsys.readouterr().out
    assert main(["import", str(tmp_path / "elsewhere.tar"), *words[1:]]) == 0
    damage_bits(path)
    capsys.readouterr()
    assert main([*words, "--repair"]) == 0
    assert f"from archive {tmp_path / 'elsewhere.tar'}" in capsys.readouterr().out
    assert path.exists()


def test_the_store_is_told_from_a_directory_of_others(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "oci", tmp_path / "ingest")
    with pytest.raises(StoreError, match="mounted"):
        store.check_working()
    store.prepare()
    store.check_working()
    assert list((tmp_path / "ingest").iterdir()) == []
