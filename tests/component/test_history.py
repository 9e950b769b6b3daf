"""Earlier versions of tags: kept, shown, rolled back to, collected with a reason."""

import os
from pathlib import Path

import pytest

from airside.agent.node import Node
from airside.archive.stat_key import StatKey
from airside.cli.main import main
from airside.core.errors import NotFoundError
from airside.importer.importer import Job
from airside.oci.digest import Digest
from airside.oci.reference import Repository
from support.clocks import believed
from support.images import TestImage, oci_archive, random_image
from support.nodes import import_now, node_at, visible

APP = "registry.example/team/app:stable"
REPOSITORY = Repository("registry.example", "team/app")
DAY = 86400.0


def _image(version: object, platform: str = "linux/amd64") -> TestImage:
    return random_image(f"{platform}/{version}", layers=1, layer_bytes=3000, platform=platform)


def _drop(node: Node, path: Path, version: object, name: str = APP) -> Digest:
    """Import by hand, each time as a new file."""
    found = oci_archive(path, {name: _image(version)})
    assert import_now(node, path).state == "imported"
    return found[name]


def _versions(node: Node) -> list[str]:
    return [g.digest for g in node.catalog.generations()[REPOSITORY, "stable"]]


def test_a_tag_goes_back_and_stays_until_something_newer_comes(tmp_path: Path) -> None:
    with node_at(tmp_path / "data") as node:
        one = _drop(node, tmp_path / "app.tar", 1)
        two = _drop(node, tmp_path / "app.tar", 2)
        assert _versions(node) == [str(two), str(one)]
        move = node.roll_back(REPOSITORY, "stable")
        assert (move.reference, move.before, move.after) == (APP, str(two), str(one))
        assert visible(node)[APP] == one
        [row] = node.catalog.images()
        assert row.rolled_back
        assert node.catalog.generations()[REPOSITORY, "stable"][0].source == str(
            tmp_path / "app.tar"
        )
        node.reconcile()
    with node_at(tmp_path / "data") as node:
        assert visible(node)[APP] == one
        assert import_now(node, tmp_path / "app.tar").moves  # dropped anew: it counts again
        assert visible(node)[APP] == two
        assert not node.catalog.images()[0].rolled_back
        three = _drop(node, tmp_path / "app.tar", 3)
        assert visible(node)[APP] == three


def test_what_is_read_again_does_not_move_a_tag_that_was_rolled_back(tmp_path: Path) -> None:
    path, files = tmp_path / "app.tar", []
    with node_at(tmp_path / "data") as node:
        for number in (1, 2):
            digest = oci_archive(path, {APP: _image(number)})[APP]
            files.append(digest)
            _watch(node, path)
        node.roll_back(REPOSITORY, "stable")
        _watch(node, path)
        assert visible(node)[APP] == files[0]
        os.utime(path)
        _watch(node, path)
        assert visible(node)[APP] == files[1]


def _watch(node: Node, path: Path) -> None:
    """Settle and import as the agent does for a watched file."""
    key = str(StatKey.of(path.stat()))
    ids = node.catalog.source_states.settle([(str(path), key, 1)], node.clock())
    job = Job(ids[str(path)], path)
    outcome = node.importer.run(job, stop=lambda: False, progress=lambda _done, _all: None)
    assert outcome.state == "imported"


@pytest.mark.parametrize("digest", [None, Digest("sha256", "0" * 64)])
def test_without_such_a_version_nothing_moves(tmp_path: Path, digest: Digest | None) -> None:
    with node_at(tmp_path / "data") as node:
        one = _drop(node, tmp_path / "app.tar", 1)
        with pytest.raises(NotFoundError) as caught:
            node.roll_back(REPOSITORY, "stable", digest)
        assert caught.value.context["reference"] == APP
        for name in (Repository("registry.example", "other"), REPOSITORY):
            with pytest.raises(NotFoundError):
                node.roll_back(name, "absent")
        assert visible(node) == {APP: one}


def test_a_lost_catalog_remembers_a_rollback(tmp_path: Path) -> None:
    with node_at(tmp_path / "data") as node:
        one = _drop(node, tmp_path / "app.tar", 1)
        _drop(node, tmp_path / "app.tar", 2)
        node.roll_back(REPOSITORY, "stable")
    for path in (tmp_path / "data").glob("catalog.db*"):
        path.unlink()
    with node_at(tmp_path / "data") as node:
        assert visible(node)[APP] == one
        assert node.catalog.images()[0].rolled_back


def test_a_collection_says_why_and_what_the_disk_gets_back(tmp_path: Path) -> None:
    now = [1000.0]
    with node_at(tmp_path / "data", retention=1) as node:
        node.clock = believed(lambda: now[0])
        first = _image(1)
        for number in (1, 2, 3):
            _drop(node, tmp_path / "app.tar", number)
        linked = first.layers[0]
        os.link(node.store.path(linked.digest), tmp_path / "elsewhere")
        planned = node.clean(dry_run=True)
        assert visible(node)
        assert node.store.stat(first.manifest.digest) is not None
        freed = node.clean(dry_run=False)
        assert freed == planned
        [line] = freed
        assert (line.reference, line.digest) == (APP, str(first.manifest.digest))
        assert "retention" in line.reason
        assert line.blobs == 3
        sizes = [len(blob.raw) for blob in first.blobs if blob.digest != linked.digest]
        assert line.freed_bytes == sum(sizes)
        assert node.store.stat(first.manifest.digest) is None
        assert node.clean(dry_run=False) == []


def test_images_without_an_archive_are_collected_with_their_versions(tmp_path: Path) -> None:
    path = tmp_path / "app.tar"
    with node_at(tmp_path / "data") as node:
        digests = []
        for number in (1, 2):
            digests.append(str(oci_archive(path, {APP: _image(number)})[APP]))
            _watch(node, path)
        node.remove({str(path): "unpin"})
        assert node.clean(dry_run=False) == []
        later = node.clock() + 31 * DAY
        node.clock = believed(lambda: later)
        freed = node.clean(dry_run=False)
        assert {line.digest for line in freed} == set(digests)
        assert {line.reference for line in freed} == {APP}
        assert visible(node) == {}
        assert list(node.store.digests()) == []


def test_an_unbacked_part_of_a_merged_tag_expires(tmp_path: Path) -> None:
    amd64, arm64 = tmp_path / "amd64.tar", tmp_path / "arm64.tar"
    with node_at(tmp_path / "data", retention=0) as node:
        mine = oci_archive(amd64, {APP: _image(1)})[APP]
        oci_archive(arm64, {APP: _image(1, "linux/arm64")})
        _watch(node, amd64)
        _watch(node, arm64)
        merged = visible(node)[APP]
        assert merged != mine
        node.remove({str(arm64): "unpin"})
        node.reconcile()
        assert visible(node)[APP] == merged
        later = node.clock() + 31 * DAY
        node.clock = believed(lambda: later)
        node.reconcile()
        assert visible(node) == {APP: mine}
        assert set(node.store.digests()) == {blob.digest for blob in _image(1).blobs}


def test_the_commands_work_without_an_agent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    with node_at(data) as node:
        one, two = (_drop(node, tmp_path / "app.tar", number) for number in (1, 2))
    assert main(["images", "--history", "--data", str(data)]) == 0
    shown = capsys.readouterr().out
    assert str(one) in shown
    assert str(two) in shown
    assert main(["tag", "rollback", APP, "--data", str(data)]) == 0
    assert f"{APP} is {one}, was {two}" in capsys.readouterr().out
    assert main(["tag", "rollback", APP, "--to", str(two), "--data", str(data)]) == 0
    assert main(["tag", "rollback", APP, "--to", "sha256:12", "--data", str(data)]) == 2
    assert main(["tag", "rollback", "registry.example/absent:1", "--data", str(data)]) == 1
    assert main(["gc", "--dry-run", "--data", str(data)]) == 0
    assert "would free 0 blobs" in capsys.readouterr().out
