"""What a review found: each test is a case that went wrong once."""

import asyncio
import hashlib
import io
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airside.agent.node import Node
from airside.core.errors import NotFoundError, StoppedError
from airside.core.settings import WatchedDirectory
from airside.diagnostics.reports import events_report
from airside.importer.importer import Job
from airside.oci.model import parse_config
from airside.store import reconcile
from support.images import (
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_MANIFEST,
    TestImage,
    compact,
    compress,
    docker_archive,
    oci_archive,
    random_image,
)
from support.nodes import import_now, node_at, visible
from support.queues import queue_of
from support.waiting import LIMIT_SECONDS


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def layout_of(path: Path, name: str, image: TestImage, raw: bytes, media_type: str, *, bare=False):
    """A layout with the manifest `raw` for the blobs of `image`; `bare`: without them."""
    digest = hashlib.sha256(raw).hexdigest()
    descriptor = {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(raw)}
    root = descriptor | {"annotations": {"io.containerd.image.name": name}}
    members = {f"blobs/sha256/{digest}": raw}
    if not bare:
        members |= {f"blobs/sha256/{b.digest.hex}": b.raw for b in (image.config, *image.layers)}
    members["index.json"] = compact({"schemaVersion": 2, "manifests": [root]})
    return write_tar(path, members)


def test_an_import_that_ends_during_self_repair_loses_nothing(tmp_path):
    first, second = random_image("first"), random_image("second")
    docker_archive(tmp_path / "first.tar", {"first:1": first})
    docker_archive(tmp_path / "second.tar", {"second:1": second})
    with node_at(tmp_path / "data") as node:
        import_now(node, tmp_path / "first.tar")
        digests, blobs = node.store.digests, node.catalog.blobs
        done = []

        def between(look):
            def looked(*args, **kwargs):
                found = look(*args, **kwargs)
                found = dict(found) if isinstance(found, dict) else list(found)
                if not done:
                    done.append(import_now(node, tmp_path / "second.tar").state)
                return found

            return looked

        node.store.digests, node.catalog.blobs = between(digests), between(blobs)
        assert reconcile.check_present(node.store, node.catalog, node.guard, 1.0) == []
        assert done == ["imported"]
        assert all(node.store.stat(b.digest) == b.size_bytes for b in second.blobs[1:])


def test_a_lost_blob_is_found_and_its_archive_is_read_again(tmp_path):
    image = random_image("lost")
    docker_archive(tmp_path / "a.tar", {"lost:1": image})
    with node_at(tmp_path / "data") as node:
        import_now(node, tmp_path / "a.tar")
        node.store.delete(image.layers[0].digest)
        [source] = reconcile.check_present(node.store, node.catalog, node.guard, 1.0)
        assert node.imports.unread() == [(source, tmp_path / "a.tar")]


def test_a_reason_that_begins_like_json_can_be_shown(tmp_path):
    archive = tmp_path / "{x.tar"
    archive.touch()
    with node_at(tmp_path / "data") as node:
        assert import_now(node, archive).state == "incomplete"
        details = [item["detail"] for item in events_report(node.catalog)["items"]]
    assert any("is empty" in str(detail) for detail in details)


@pytest.mark.parametrize("text", [r"\ud800", r"\udc00", r"\ud83d\u0041"])
def test_a_name_with_half_a_surrogate_pair_is_rejected(tmp_path, text):
    image = random_image("surrogate", layers=1, media="docker")
    names = f'[{{"Config":"c.json","Layers":["l.tar"],"RepoTags":["a:1","{text}"]}}]'
    members = {"c.json": image.config.raw, "l.tar": image.layers[0].raw}
    archive = write_tar(tmp_path / "x.tar", members | {"manifest.json": names.encode()})
    with node_at(tmp_path / "data") as node:
        assert import_now(node, archive).state == "rejected"


def test_a_whole_surrogate_pair_is_text(tmp_path):
    image = random_image("pair", layers=1)
    manifest = json.loads(image.manifest.raw) | {"annotations": {"a": "\U0001f600"}}
    raw = json.dumps(manifest).encode()
    assert rb"\ud83d\ude00" in raw
    archive = layout_of(tmp_path / "x.tar", "docker.io/library/a:1", image, raw, OCI_MANIFEST)
    with node_at(tmp_path / "data") as node:
        assert import_now(node, archive).state == "imported"


def test_one_archive_does_not_spoil_the_media_type_of_a_document_for_another(tmp_path):
    image = random_image("type", layers=1)
    manifest = json.loads(image.manifest.raw)
    del manifest["mediaType"]
    raw = compact(manifest)
    bad = layout_of(tmp_path / "1.tar", "docker.io/library/bad:1", image, raw, DOCKER_MANIFEST)
    good = layout_of(tmp_path / "2.tar", "docker.io/library/good:1", image, raw, OCI_MANIFEST)
    with node_at(tmp_path / "data") as node:
        for archive in (bad, good, bad):
            import_now(node, archive)
        assert {row.media_type for row in node.catalog.images()} == {OCI_MANIFEST}


def test_a_platform_that_one_archive_lacks_is_told_by_the_next(tmp_path):
    image = random_image("platform", layers=1)
    oci_archive(tmp_path / "1.tar", {"one:1": image})
    raw = compact(json.loads(image.manifest.raw) | {"annotations": {"a": "b"}})
    name = "docker.io/library/two:1"
    layout_of(tmp_path / "2.tar", name, image, raw, OCI_MANIFEST, bare=True)
    layout_of(tmp_path / "3.tar", name, image, raw, OCI_MANIFEST)
    with node_at(tmp_path / "data") as node:
        for number in "123":
            assert import_now(node, tmp_path / f"{number}.tar").state == "imported"
        assert {row.platforms for row in node.catalog.images()} == {("linux/amd64",)}


def test_the_number_of_a_forgotten_archive_is_not_given_to_another(tmp_path):
    archive = tmp_path / "a.tar"
    docker_archive(archive, {"a:1": random_image("a")})
    with node_at(tmp_path / "data", unbacked_after_seconds=0.0) as node:
        ids = node.catalog.source_states.settle([(str(archive), "1:2:3:4", 3)], node.clock())
        node.catalog.source_states.remove({str(archive): "unpin"}, node.clock())
        node.collect_garbage()
        other = node.catalog.source_states.settle([("/images/b.tar", "5:6:7:8", 3)], node.clock())
        assert not set(ids.values()) & set(other.values())
        job = Job(ids[str(archive)], archive)
        with pytest.raises(NotFoundError):  # it was at work while its archive was removed
            node.importer.run(job, stop=lambda: False, progress=lambda _done, _all: None)
        node.collect_garbage()
        with pytest.raises(NotFoundError):
            node.importer.run(job, stop=lambda: False, progress=lambda _done, _all: None)
        assert [row.images for row in node.catalog.sources()] == [()]


class Watch:
    """What the queue asks the watcher for."""

    def __init__(self) -> None:
        self.asked: list[Path] = []

    def look_again(self, path: Path, *, after_seconds: float) -> None:
        del after_seconds
        self.asked.append(path)


async def run_job(node: Node, source_id: int, path: Path, watch: Watch) -> None:
    with ThreadPoolExecutor(1) as pool:
        queue = queue_of(node, pool, watch.look_again)
        await queue.submit_path(source_id, path)
        work = asyncio.create_task(queue.run())
        async with asyncio.timeout(LIMIT_SECONDS):
            while path in queue.running or path in queue._pending:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


def test_an_archive_whose_directory_is_away_is_looked_for_again(tmp_path):
    path = tmp_path / "images/a.tar"
    watched = (WatchedDirectory(path.parent),)
    watch = Watch()
    with node_at(tmp_path / "data", images=watched) as node:
        [source] = node.catalog.source_states.settle([(str(path), "1:2:3:4", 3)], 1.0).values()
        asyncio.run(run_job(node, source, path, watch))
    assert watch.asked == [path]


def test_an_archive_imported_by_hand_that_is_gone_fails_with_a_reason(tmp_path):
    path = tmp_path / "a.tar"
    docker_archive(path, {"a:1": random_image("a")})
    watch = Watch()
    with node_at(tmp_path / "data") as node:
        import_now(node, path)
        [row] = node.catalog.sources()
        node.catalog.source_states.queue_again([row.id], 1.0, "a blob that it brought is lost")
        path.unlink()
        asyncio.run(run_job(node, row.id, path, watch))
        [row] = node.catalog.sources()
        assert (row.state, watch.asked) == ("failed", [])
        assert str(path) in row.reason


@pytest.mark.parametrize("name", ["a.tar", "a.txt"])
def test_an_archive_imported_by_hand_is_read_again_only_if_it_is_the_same(tmp_path, name):
    """Who asked for it is not here any more: it may be a link to a file that only root may read."""
    path, secret = tmp_path / name, tmp_path / "secret"
    docker_archive(path, {"a:1": random_image("a")})
    docker_archive(secret, {"secret:1": random_image("secret")})
    with node_at(tmp_path / "data") as node:
        import_now(node, path)
        [row] = node.catalog.sources()
        for other in (secret, "secret:hash:1:2:3\n"):
            node.catalog.source_states.queue_again([row.id], 1.0, "a blob that it brought is lost")
            path.unlink()
            if isinstance(other, str):
                path.write_text(other)
            else:
                path.symlink_to(other)
            for _ in range(2):
                asyncio.run(run_job(node, row.id, path, Watch()))
                [now] = node.catalog.sources()
                assert (now.state, now.stat_key) == ("unreadable", row.stat_key)
                assert "import it again" in now.reason
                assert "secret" not in str(now) + str(visible(node))


def test_an_import_by_hand_that_was_stopped_is_not_importing_for_ever(tmp_path):
    path = tmp_path / "a.tar"
    docker_archive(path, {"a:1": random_image("a")})
    with node_at(tmp_path / "data") as node:
        with pytest.raises(StoppedError):
            node.imports.import_file(path, stop=lambda: True, progress=lambda _done, _all: None)
        [row] = node.catalog.sources()
        assert row.state == "failed"


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_layer_under_another_name_is_missing(tmp_path, compression):
    image = random_image("elsewhere", layers=1)
    name = "docker.io/library/a:1"
    layout_of(tmp_path / "a.tar", name, image, image.manifest.raw, OCI_MANIFEST, bare=True)
    with tarfile.open(tmp_path / "a.tar") as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar}
    members |= {f"blobs/sha256/{image.config.digest.hex}": image.config.raw}
    write_tar(tmp_path / "b.tar", members | {"layer.bin": image.layers[0].raw})
    raw = compress((tmp_path / "b.tar").read_bytes(), compression)
    (tmp_path / "c.tar").write_bytes(raw)
    with node_at(tmp_path / "data") as node:
        outcome = import_now(node, tmp_path / "c.tar")
    assert outcome.state == "rejected"
    assert [p.blob for p in outcome.problems] == [str(image.layers[0].digest)]


def test_thousands_of_names_of_one_image_are_taken_in_little_time_and_space(tmp_path):
    image = random_image("names", layers=1)
    names = tuple(f"a:{number}" for number in range(3000))
    docker_archive(tmp_path / "a.tar", {names: image})
    with node_at(tmp_path / "data") as node:
        assert len(import_now(node, tmp_path / "a.tar").images) == 3000
    size = sum(file.stat().st_size for file in (tmp_path / "data").glob("catalog.db*"))
    assert size < 20_000_000


def test_documents_that_are_much_together_reject_the_archive(tmp_path):
    image = random_image("documents", layers=1)
    members, roots = {}, []
    for number in range(12):
        annotations = {"n": str(number), "padding": "x" * 3_500_000}
        raw = compact(json.loads(image.manifest.raw) | {"annotations": annotations})
        digest = hashlib.sha256(raw).hexdigest()
        members[f"blobs/sha256/{digest}"] = raw
        roots.append({"mediaType": OCI_MANIFEST, "digest": f"sha256:{digest}", "size": len(raw)})
    members["index.json"] = compact({"schemaVersion": 2, "manifests": roots})
    with node_at(tmp_path / "data") as node:
        outcome = import_now(node, write_tar(tmp_path / "a.tar", members))
    assert outcome.state == "rejected"
    assert "limits.documents_bytes" in outcome.reason


def test_a_large_config_that_many_manifests_list_is_parsed_once(tmp_path, monkeypatch):
    config = compact({"os": "linux", "architecture": "arm64", "rootfs": {"diff_ids": []}})
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    descriptor = {"mediaType": OCI_CONFIG, "digest": digest, "size": len(config)}
    members, roots = {f"blobs/sha256/{digest[7:]}": config}, []
    for number in range(20):
        manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor}
        raw = compact(manifest | {"layers": [], "annotations": {"n": str(number)}})
        hexadecimal = hashlib.sha256(raw).hexdigest()
        members[f"blobs/sha256/{hexadecimal}"] = raw
        root = {"mediaType": OCI_MANIFEST, "digest": f"sha256:{hexadecimal}", "size": len(raw)}
        roots.append(root)
    members["index.json"] = compact({"schemaVersion": 2, "manifests": roots})
    parsed = []

    def counted(raw, what):
        parsed.append(what)
        return parse_config(raw, what)

    monkeypatch.setattr("airside.archive.formats.oci_layout.parse_config", counted)
    with node_at(tmp_path / "data") as node:
        outcome = import_now(node, write_tar(tmp_path / "a.tar", members))
    assert (outcome.state, len(outcome.images), len(parsed)) == ("imported", 20, 1)
