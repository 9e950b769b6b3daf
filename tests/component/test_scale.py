"""What grows with the number of images, and what must not.

No times: the steps of SQLite's virtual machine are counted, which a scan of a table shows in.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airside.agent.node import Node
from airside.catalog import database
from airside.catalog.retention import Policy
from airside.core.errors import StoreError
from airside.diagnostics.absence import place_of
from airside.diagnostics.explain import explain
from airside.importer.importer import Job
from airside.oci.digest import Digest
from airside.oci.reference import Repository, parse_reference
from airside.store import backups, whole_images
from airside.store import index_json as index
from airside.store.index_json import render_index
from airside.store.local import LocalStore
from support.images import TestImage, image_of, oci_archive, random_layer
from support.nodes import import_now, node_at, settings_at

FEW, MANY = 20, 200
LAYER = random_layer("one for all", layer_bytes=100)
OWN = "registry.example/own"


class Steps:
    """Counts the steps of every connection of a catalog that is opened after this."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        connect = sqlite3.connect

        def connected(*args: object, **kwargs: object) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*args, **kwargs)  # type: ignore[call-overload]
            connection.set_progress_handler(self._step, 1)
            return connection

        monkeypatch.setattr(database.sqlite3, "connect", connected)

    def _step(self) -> int:
        self.count += 1
        return 0

    def of(self, work: Callable[[], object]) -> int:
        before = self.count
        work()
        return self.count - before


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


@pytest.fixture
def node(tmp_path: Path, steps: Steps) -> Iterator[Node]:  # noqa: ARG001 - it counts from the start
    with node_at(tmp_path / "data") as opened:
        yield opened


def image(label: object) -> TestImage:
    return image_of([LAYER], label=str(label))


def archive(directory: Path, name: str, numbers: range, version: str = "") -> Path:
    """An archive of an image for each number, each in a repository of its own."""
    path = directory / f"{name}.tar"
    images = {f"registry.example/many/{name}-{n}:1": image(f"{n}{version}") for n in numbers}
    oci_archive(path, images)
    return path


def one(directory: Path, number: int) -> Path:
    path = directory / f"one-{number}.tar"
    oci_archive(path, {f"{OWN}/n{number}:1": image(f"one {number}")})
    return path


def grown(node: Node, tmp_path: Path, steps: Steps, work: Callable[[int], object]) -> float:
    """How many times the steps are needed with ten times the images."""
    import_now(node, archive(tmp_path, "few", range(FEW)))
    import_now(node, one(tmp_path, 0))
    work(0)  # connections and caches
    few = steps.of(lambda: work(1))
    import_now(node, archive(tmp_path, "many", range(FEW, MANY)))
    return steps.of(lambda: work(2)) / few


def test_one_more_import_takes_no_more_steps_beside_many_images(
    node: Node, tmp_path: Path, steps: Steps
) -> None:
    assert grown(node, tmp_path, steps, lambda n: import_now(node, one(tmp_path, n + 1))) < 1.2


def lookups(node: Node) -> dict[str, Callable[[int], object]]:
    own, path = Repository("registry.example", "own/n0"), "own/n0"
    digest = image("one 0").digest
    place = place_of(settings_at(Path("/nowhere"), platform="linux/amd64"))
    archives = [row.path for row in node.catalog.sources()]
    return {
        "manifest by tag": lambda _: node.catalog.document_by_tag(own, "1"),
        "manifest by digest": lambda _: node.catalog.document_by_digest(own, digest),
        "blob": lambda _: node.catalog.holds_blob(own, LAYER.digest),
        "tags": lambda _: node.catalog.tags(own),
        "repositories of a path": lambda _: node.catalog.repositories_at(path),
        "referrers": lambda _: node.catalog.referrers(own, digest),
        "an archive": lambda _: node.catalog.sources(path=archives[-1]),
        "claims": lambda _: node.catalog.lookup.claims(parse_reference(f"{OWN}/n0:1")),
        "explain of a name": lambda _: explain(node.catalog, f"{OWN}/n0:1", place),
    }


@pytest.mark.parametrize("what", [
    "manifest by tag", "manifest by digest", "blob", "tags", "repositories of a path", "referrers",
    "an archive", "claims", "explain of a name",
])  # fmt: skip
def test_looking_one_thing_up_takes_no_more_steps_beside_many_images(
    node: Node, tmp_path: Path, steps: Steps, what: str
) -> None:
    import_now(node, one(tmp_path, 0))
    assert grown(node, tmp_path, steps, lookups(node)[what]) < 1.2


def test_removing_an_archive_takes_no_more_steps_beside_many_images(
    node: Node, tmp_path: Path, steps: Steps
) -> None:
    def work(number: int) -> None:
        node.catalog.source_states.remove({f"/images/{number}.tar": "unpin"}, 2.0)
        node.importer.write_index()

    for number in range(3):
        node.catalog.source_states.settle([(f"/images/{number}.tar", "1:1:1:1", 1)], 1.0)
    assert grown(node, tmp_path, steps, work) < 1.2


def test_a_collection_grows_with_the_images_and_not_with_their_square(
    node: Node, tmp_path: Path, steps: Steps
) -> None:
    """An earlier version of every tag goes."""

    def collect() -> None:
        found = node.catalog.collect(Policy(node.clock(), 0, 0.0), dry_run=True)
        assert found.blobs

    def replaced(name: str, numbers: range) -> None:
        import_now(node, archive(tmp_path, name, numbers, "earlier"))
        import_now(node, archive(tmp_path, name, numbers))

    replaced("few", range(FEW))
    few = steps.of(collect)
    replaced("many", range(FEW, MANY))
    assert steps.of(collect) / few < 1.5 * MANY / FEW


def test_a_collection_holds_the_writer_no_longer_beside_many_images(
    node: Node, tmp_path: Path, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One image goes, and one is imported again while the rest is swept."""
    longest = 0
    transaction = database.Writer.transaction

    @contextlib.contextmanager
    def counted(self: database.Writer, doing: str) -> Iterator[sqlite3.Connection]:
        nonlocal longest
        before = steps.count
        with transaction(self, doing) as db:
            yield db
        if doing == "collect garbage":
            longest = max(longest, steps.count - before)

    monkeypatch.setattr(database.Writer, "transaction", counted)
    condemn = node.garbage.leases.condemn

    def collect(number: int) -> int:
        nonlocal longest

        def import_meanwhile(digests):
            if digests:
                import_now(node, one(tmp_path, number))
            return condemn(digests)

        monkeypatch.setattr(node.garbage.leases, "condemn", import_meanwhile)
        oci_archive(tmp_path / "gone.tar", {f"{OWN}/gone:1": image(f"gone {number}")})
        import_now(node, tmp_path / "gone.tar")
        with node.catalog._transactions.begin("drop") as db:
            db.execute("DELETE FROM source WHERE path LIKE '%gone.tar'")
            db.execute(
                "UPDATE tag SET unbacked_since = 0 WHERE repository_id ="
                " (SELECT id FROM repository WHERE path = 'own/gone')"
            )
        longest = 0
        assert [line.reference for line in node.clean(dry_run=False)] == [f"{OWN}/gone:1"]
        return longest

    import_now(node, archive(tmp_path, "few", range(FEW)))
    collect(0)
    few = collect(1)
    import_now(node, archive(tmp_path, "many", range(FEW, MANY)))
    assert collect(2) / few < 1.2


def test_an_import_renders_its_own_names_alone_and_reads_no_index_json(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_now(node, archive(tmp_path, "many", range(FEW)))
    rendered: list[str] = []
    render = index._rendered

    def counted(entries: list) -> bytes:
        rendered.extend(entry.reference for entry in entries)
        return render(entries)

    monkeypatch.setattr(index, "_rendered", counted)
    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "read_index", pytest.fail)
        import_now(node, one(tmp_path, 1))
    assert rendered == [f"{OWN}/n1:1"]


def test_index_json_is_right_after_each_change(node: Node, tmp_path: Path) -> None:
    def right() -> bool:
        return node.store.read_index() == render_index(node.catalog)

    name = parse_reference(f"{OWN}/n1:1")
    import_now(node, archive(tmp_path, "many", range(FEW)))
    assert right()
    import_now(node, one(tmp_path, 1))
    assert right()
    oci_archive(tmp_path / "one-1.tar", {f"{OWN}/n1:1": image("another")})
    import_now(node, tmp_path / "one-1.tar")
    assert right()
    node.roll_back(name.repository, "1")
    assert right()
    oci_archive(tmp_path / "none.tar", {(): image("without a name")})
    import_now(node, tmp_path / "none.tar")
    assert right()
    oci_archive(tmp_path / "one-1.tar", {f"{OWN}/elsewhere:1": image("another")})
    import_now(node, tmp_path / "one-1.tar")
    assert right()
    node.reconcile()
    assert right()


def test_a_removed_archive_and_what_was_collected_leave_index_json(tmp_path: Path) -> None:
    with node_at(tmp_path / "data", unbacked_after_seconds=0.0) as node:
        path = one(tmp_path, 1)
        import_now(node, archive(tmp_path, "many", range(3)))
        ids = node.catalog.source_states.settle([(str(path), "1:1:1:1", 1)], node.clock())
        node.importer.run(Job(ids[str(path)], path), stop=lambda: False, progress=lambda *_: None)
        assert b"own/n1" in (node.store.read_index() or b"")
        node.remove({str(path): "unpin"})
        node.importer.write_index()
        assert node.store.read_index() == render_index(node.catalog)
        node.clean(dry_run=False)
        assert b"own/n1" not in (node.store.read_index() or b"")
        assert node.store.read_index() == render_index(node.catalog)


def test_what_was_rolled_back_with_its_transaction_is_not_taken_for_a_change(
    node: Node, tmp_path: Path
) -> None:
    import_now(node, one(tmp_path, 1))
    node.clean(dry_run=True)
    far = node.clock() + 1e9
    node.catalog.collect(Policy(far, 1, 0.0), dry_run=True)
    assert node.catalog.index_changes(everything=False).changed == set()


def test_a_start_with_nothing_changed_does_not_read_index_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with node_at(tmp_path / "data") as node:
        import_now(node, one(tmp_path, 1))
    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "read_index", pytest.fail)
        patched.setattr(backups, "index_generation", pytest.fail)  # of what it would copy
        with node_at(tmp_path / "data"):
            pass


@pytest.mark.parametrize("change", ["touched", "lost", "damaged"])
def test_an_index_json_that_changed_while_no_agent_ran_is_compared(
    tmp_path: Path, change: str
) -> None:
    with node_at(tmp_path / "data") as node:
        import_now(node, one(tmp_path, 1))
    path = tmp_path / "data" / "oci" / "index.json"
    wanted = path.read_bytes()
    if change == "lost":
        path.unlink()
    else:
        path.write_bytes(wanted if change == "touched" else wanted[:-10])
    with node_at(tmp_path / "data"):
        assert path.read_bytes() == wanted


def test_an_index_json_that_is_lost_while_the_node_runs_is_written_again(
    node: Node, tmp_path: Path
) -> None:
    import_now(node, one(tmp_path, 1))
    path = node.store.root / "index.json"
    wanted = path.read_bytes()
    path.unlink()
    node.reconcile()
    assert path.read_bytes() == wanted


def test_after_an_index_json_that_could_not_be_written_everything_is_in_the_next(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise StoreError("the disk is full")

    import_now(node, one(tmp_path, 1))
    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "write_index", fails)
        import_now(node, one(tmp_path, 2))
    assert b"own/n2" not in (node.store.read_index() or b"")
    import_now(node, one(tmp_path, 3))
    assert node.store.read_index() == render_index(node.catalog)


def test_restored_tags_are_not_a_transaction_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with node_at(tmp_path / "data") as node:
        import_now(node, archive(tmp_path, "many", range(FEW)))
        names = sorted(row.reference for row in node.catalog.images())
    for path in (tmp_path / "data").glob("catalog.db*"):
        path.unlink()
    begun: list[str] = []
    transaction = database.Writer.transaction

    def counted(self: database.Writer, doing: str):
        begun.append(doing)
        return transaction(self, doing)

    monkeypatch.setattr(database.Writer, "transaction", counted)
    with node_at(tmp_path / "data") as node:
        assert sorted(row.reference for row in node.catalog.images()) == names
    assert begun.count("restore tags") == 1


def test_a_rebuild_hashes_each_blob_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with node_at(tmp_path / "data") as node:
        import_now(node, archive(tmp_path, "many", range(FEW)))  # they share a layer
        held = sorted(node.store.digests())
    for path in (tmp_path / "data").glob("catalog.db*"):
        path.unlink()
    (tmp_path / "data/verified").unlink()  # the proofs that blobs were hashed lately
    hashed: list[Digest] = []
    hash_blob, digest_of = LocalStore.hash_blob, whole_images.digest_of

    def noted(self: LocalStore, digest: Digest) -> Digest:
        hashed.append(digest)
        return hash_blob(self, digest)

    def document_noted(raw: bytes, algorithm: str) -> Digest:
        hashed.append(digest_of(raw, algorithm))
        return hashed[-1]

    monkeypatch.setattr(LocalStore, "hash_blob", noted)
    monkeypatch.setattr(whole_images, "digest_of", document_noted)
    with node_at(tmp_path / "data") as node:
        assert sorted(hashed) == held == sorted(node.store.digests())
