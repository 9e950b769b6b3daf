"""Archives and lists in a watched directory whose links lead out of it, dropped by another user."""

import json
import os
import shutil
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest

from airside.agent.node import Node
from airside.archive.beneath import Beneath
from airside.core.errors import AirsideError, LinkRefusedError
from airside.core.settings import WatchedDirectory
from airside.diagnostics.absence import place_of
from airside.diagnostics.explain import explain
from airside.importer.importer import Outcome, job_at
from airside.importer.watch import scan
from airside.importer.watch.directories import WatchedDirectories, beneath
from airside.importer.watch.scan import scan_directory
from support.images import TestImage, docker_archive, oci_layout, random_image
from support.nodes import import_now, node_at, visible

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files to others")

OTHER = 65534
NAME = "registry.example/app:1"


@pytest.fixture
def images(top: Path) -> Path:
    (top / "images").mkdir()
    (top / "images").chmod(0o777)
    return top / "images"


@pytest.fixture
def private(top: Path) -> Path:
    """A directory that is root's alone."""
    (top / "private").mkdir(mode=0o700)
    return top / "private"


def _image(seed: object) -> TestImage:
    return random_image(seed, layers=2, layer_bytes=3000)


def _link(path: Path, target: Path, owner: int = OTHER) -> Path:
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    os.lchown(path, owner, owner)
    return path


def _import(node: Node, path: Path) -> Outcome:
    """Imports as the watcher does."""
    places = WatchedDirectories(node.settings.images)
    found = scan_directory(
        beneath(next(iter(places))), recursive=True, others=frozenset(), before={}
    )
    [seen] = [each for each in found.observations if each.path == path]
    assert seen.key is not None
    files = [(str(path), str(seen.key), seen.key.size_bytes)]
    ids = node.catalog.source_states.settle(files, 1.0)
    job = job_at(places, ids[str(path)], path)
    return node.imports.run(job, stop=lambda: False, progress=lambda *_: None)


def _told(node: Node, data: Path) -> str:
    """Everything that the catalog tells of archives and events, and the digests of the store."""
    events = [str(row) for row in node.catalog.events(limit=1000)]
    rows = [str(row) for row in node.catalog.sources()]
    stored = [path.name for path in data.rglob("*") if path.is_file()]
    return "\n".join((*events, *rows, *stored))


def test_no_byte_of_a_private_blob_is_read_or_told(
    images: Path, private: Path, tmp_path: Path
) -> None:
    """First the error told the digest; a layout with that digest then imported the file."""
    secret = b"root:$6$secret\n" * 3
    (private / "shadow").write_bytes(secret)
    digest, image = sha256(secret).hexdigest(), _image("a")
    directory = images / "layout"
    oci_layout(directory, {NAME: image})
    blob = directory / "blobs/sha256" / image.layers[0].digest.hex
    _link(blob, private / "shadow")
    with node_at(tmp_path / "data", images=(WatchedDirectory(images),)) as node:
        outcome = _import(node, directory)
        assert outcome.state == "rejected"
        assert str(blob) in outcome.reason
        assert 'links = "owner"' in outcome.reason
        _link(blob.with_name(digest), private / "shadow")
        _name_layer(directory, image, digest, len(secret))
        outcome = _import(node, directory)
        assert outcome.state == "rejected"
        told = _told(node, tmp_path / "data")
        assert digest not in told.replace(str(blob.with_name(digest)), "").replace(
            f"sha256:{digest}", ""
        ), "only where the dropped manifest says it"
        assert "secret" not in told
        assert not node.store.path(image.layers[0].digest).exists()
        assert visible(node) == {}


def _name_layer(directory: Path, image: TestImage, digest: str, size_bytes: int) -> None:
    """Write a manifest whose first layer is the digest."""
    blobs = directory / "blobs/sha256"
    manifest = json.loads((blobs / image.manifest.digest.hex).read_text())
    manifest["layers"][0] |= {"digest": f"sha256:{digest}", "size": size_bytes}
    raw = json.dumps(manifest).encode()
    name = sha256(raw).hexdigest()
    (blobs / name).write_bytes(raw)
    index = json.loads((directory / "index.json").read_text())
    index["manifests"][0] |= {"digest": f"sha256:{name}", "size": len(raw)}
    (directory / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("part", ["blobs", "blobs/sha256", "index.json", "."])
def test_a_private_layout_is_not_read_through_a_link(
    images: Path, private: Path, tmp_path: Path, part: str
) -> None:
    image = _image("private")
    oci_layout(private / "layout", {NAME: image})
    directory = images / "layout"
    if part == ".":
        _link(directory, private / "layout")
    else:
        shutil.copytree(private / "layout", directory)
        path = directory / part
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        _link(path, private / "layout" / part)
    with node_at(tmp_path / "data", images=(WatchedDirectory(images),)) as node:
        assert _import(node, directory).state == "rejected"
        assert visible(node) == {}
        assert image.layers[0].digest.hex not in _told(node, tmp_path / "data")


def test_a_layer_of_a_docker_archive_that_is_a_directory_is_refused_by_name(
    top: Path, images: Path, private: Path, tmp_path: Path
) -> None:
    docker_archive(top / "a.tar", {NAME: random_image("a", media="docker")})
    with tarfile.open(top / "a.tar") as packed:
        packed.extractall(images / "a", filter="data")
    layer = min((images / "a").rglob("layer.tar"))
    layer.rename(private / "layer.tar")
    _link(layer, private / "layer.tar")
    with node_at(tmp_path / "data", images=(WatchedDirectory(images),)) as node:
        outcome = _import(node, images / "a")
        assert outcome.state == "rejected"
        assert outcome.reason.startswith(f"{layer} leads out")


@pytest.mark.parametrize("name", ["a.tar", "a.txt"])
def test_a_private_archive_or_list_is_not_read_through_a_link(
    images: Path, private: Path, tmp_path: Path, name: str
) -> None:
    docker_archive(private / "a.tar", {"secret.example/app:1": _image("a")})
    (private / "a.txt").write_text("root:$6$secret:19000\n")
    link = _link(images / name, private / name)
    with node_at(tmp_path / "data", images=(WatchedDirectory(images),)) as node:
        outcome = _import(node, link)
        assert outcome.state == "rejected"
        assert str(link) in outcome.reason
        with pytest.raises(LinkRefusedError):
            import_now(node, link)
        answer = explain(node.catalog, str(link), place_of(node.settings))
        told = _told(node, tmp_path / "data") + outcome.reason + json.dumps(answer)
        assert "secret" not in told
        assert [row.size_bytes for row in node.catalog.sources()] == [link.lstat().st_size]


def test_what_lies_elsewhere_is_not_told_to_exist(
    images: Path, private: Path, tmp_path: Path
) -> None:
    (private / "present").write_text("x")
    links = [_link(images / f".{name}", private / name) for name in ("present", "missing")]
    with node_at(tmp_path / "data", images=(WatchedDirectory(images),)) as node:
        place = place_of(node.settings)
        texts = [json.dumps(explain(node.catalog, str(link), place)) for link in links]
        assert texts[0].replace("present", "missing") == texts[1]
        paths = [str(private / name) for name in ("present", "missing")]
        texts = [json.dumps(explain(node.catalog, path, place)) for path in paths]
        assert texts[0].replace("present", "missing") == texts[1]


def test_a_layout_with_shared_blobs_by_link_is_imported(
    top: Path, images: Path, tmp_path: Path
) -> None:
    """By links to each file, and by one to the directory that other users' files lie in too."""
    one, other = _image("one"), _image("other")
    for name, image in (("one", one), ("other", other)):
        oci_layout(images / name, {f"registry.example/{name}:1": image})
        shared = top / f"shared-{name}"
        shutil.move(images / name / "blobs", shared)
        for path in shared.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
    (top / "shared-one/sha256/private").write_text("x")
    (top / "shared-one/sha256/private").chmod(0o600)
    _link(images / "one/blobs", top / "shared-one")
    (images / "other/blobs/sha256").mkdir(parents=True)
    for path in (top / "shared-other/sha256").iterdir():
        _link(images / "other/blobs/sha256" / path.name, path)
    with node_at(tmp_path / "data", images=(WatchedDirectory(images),)) as node:
        for name in ("one", "other"):
            assert _import(node, images / name).state == "imported", name
    inside = (WatchedDirectory(images, links="inside"),)
    with node_at(tmp_path / "inside", images=inside) as node:
        for name in ("one", "other"):
            assert _import(node, images / name).state == "rejected", name


def test_links_any_follows_what_the_agent_may_read(
    images: Path, private: Path, tmp_path: Path
) -> None:
    docker_archive(private / "a.tar", {NAME: _image("a")})
    link = _link(images / "a.tar", private / "a.tar")
    with node_at(tmp_path / "data", images=(WatchedDirectory(images, links="any"),)) as node:
        assert _import(node, link).state == "imported"
        assert set(visible(node)) == {NAME}


def test_a_scan_does_not_enter_what_became_a_link(images: Path, private: Path) -> None:
    (private / "secret.tar").write_bytes(b"x")
    _link(images / "d", private)
    place = beneath(WatchedDirectory(images))
    found = scan_directory(place, recursive=True, others=frozenset(), before={})
    assert [(each.path, each.refused) for each in found.observations] == [(images / "d", True)]
    with pytest.raises(AirsideError), place.open(images / "d/secret.tar"):
        pass


def test_a_scan_does_not_go_on_outside_where_a_directory_is_exchanged_for_a_link(
    top: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link to `/` would have every file of the host tried as an archive."""
    (images / "d").mkdir()
    (top / "readable").mkdir()
    (top / "readable/a.tar").write_bytes(b"x")

    def exchange(path: Path, _beneath: Beneath) -> bool:
        path.rmdir()
        _link(path, top / "readable")
        return False

    monkeypatch.setattr(scan, "is_archive_directory", exchange)
    place = beneath(WatchedDirectory(images))
    found = scan_directory(place, recursive=True, others=frozenset(), before={})
    assert (found.observations, set(found.directories)) == ((), {images})


def test_a_link_over_thousands_of_names_is_given_up(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each name is a call for each scan: 40 links can ask for 80,000."""
    (images / "d").mkdir()
    _link(images / "l0", images / "nothing")
    for number in range(1, 30):
        _link(images / f"l{number}", Path("d/../" * 500 + f"l{number - 1}"))
    reads: list[Path] = []
    real = Path.readlink
    monkeypatch.setattr(Path, "readlink", lambda path: (reads.append(path), real(path))[1])
    assert len(scan.link_targets(images / "l29")) < 5
    assert len(reads) < 1000
