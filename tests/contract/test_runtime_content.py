"""What every `airside.ports.content.RuntimeContent` finds: of memory, and of containerd's calls.

containerd's own answers to these calls are in `tests/system/test_containerd_read_through.py`.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airside.containerd import read_through
from airside.containerd.client import Client
from airside.containerd.read_through import ContainerdContent
from airside.core.errors import ContainerdError, NotFoundError
from airside.core.settings import Limits
from airside.oci.digest import Digest, digest_of
from airside.oci.model import OCI_INDEX, OCI_MANIFEST
from airside.oci.reference import Repository
from airside.ports.content import Connection, RuntimeContent, StoredDocument
from support.images import TestImage, TestIndex, compact, random_image, random_index
from support.runtimes import FakeContainerd, Held, MemoryRuntime

HUB = Repository("docker.io", "library/app")
OTHER = Repository("registry.example:5000", "library/app")
LIMIT_BYTES = 50_000
IMAGE, NEWER = random_image("held"), random_image("newer")
INDEX = random_index("held")
CLIENT = Connection(("127.0.0.1", 40_000), ("127.0.0.1", 5050))


class Runtime:
    """An implementation, and what it holds."""

    def __init__(self, content: RuntimeContent, held: Held, fake: FakeContainerd | None) -> None:
        self.content, self.held, self.fake = content, held, fake

    def put(self, name: str, image: TestImage | TestIndex, **labels: str) -> None:
        for blob in image.blobs:
            self.held.add(blob.raw, {f"containerd.io/{k}": v for k, v in labels.items()})
        self.held.images[name] = image.digest
        self.write()

    def put_blob(self, raw: bytes, label: str = "", value: str = "") -> Digest:
        found = self.held.add(raw, {label: value} if label else {})
        self.write()
        return found

    def drop(self, digest: Digest) -> None:
        self.held.drop(digest)
        self.write()

    def write(self) -> None:
        if self.fake is not None and self.fake.directory is not None:
            self.fake.write_blobs()


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """What is found is tested here, not how soon."""
    monkeypatch.setattr(read_through, "PATIENCE_SECONDS", 10.0)


@pytest.fixture(params=["memory", "directory", "calls"])
def runtime(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    held = Held()
    if request.param == "memory":
        yield Runtime(MemoryRuntime(held, LIMIT_BYTES), held, None)
        return
    with tempfile.TemporaryDirectory(prefix="airside-") as name:
        home = Path(name)
        root = home / "content" if request.param == "directory" else None
        fake = FakeContainerd(held, home / "c.sock", root)
        limits = replace(Limits(), document_bytes=LIMIT_BYTES)
        with fake.serving(), closing(Client.open(str(fake.socket))) as client:
            yield Runtime(ContainerdContent(client, root, limits), held, fake)


def _read(content: RuntimeContent, repository: Repository, digest: Digest) -> bytes | None:
    """The blob, as the registry reads it; None for an absent one."""
    blob = content.blob(repository, digest)
    if blob is None:
        return None
    with blob.open() as file:
        read = b"".join(iter(lambda: file.read(70_000), b""))
    assert len(read) == blob.size_bytes
    return read


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


# --- what is there


@pytest.mark.parametrize("image", [IMAGE, INDEX], ids=["image", "index"])
def test_only_the_images_that_count_are_found(
    runtime: Runtime, image: TestImage | TestIndex
) -> None:
    """By target, manifest or config; the label of a repository is no proof."""
    source = {f"distribution.source.{HUB.host}": HUB.path}
    runtime.put(f"{HUB}:1", image, **source)
    runtime.put(f"{HUB}:2", NEWER, **source)
    below = image.images[0] if isinstance(image, TestIndex) else image
    for counted in (image.digest, below.digest, below.config.digest):
        only = frozenset({counted})
        assert runtime.content.tag(HUB, "1", only) is not None
        assert runtime.content.document(HUB, image.digest, only) is not None
        assert runtime.content.blob(HUB, below.layers[0].digest, only) is not None
        assert runtime.content.tag(HUB, "2", only) is None
        assert runtime.content.document(HUB, NEWER.digest, only) is None
        assert runtime.content.document(OTHER, image.digest, only) is None
        for blob in NEWER.blobs:
            assert runtime.content.blob(HUB, blob.digest, only) is None
    for nothing in (frozenset(), frozenset({below.layers[0].digest})):
        assert runtime.content.tag(HUB, "1", nothing) is None
        assert runtime.content.blob(HUB, below.config.digest, nothing) is None


def test_an_empty_runtime_has_nothing(runtime: Runtime) -> None:
    assert runtime.content.tag(HUB, "1") is None
    assert runtime.content.document(HUB, IMAGE.digest) is None
    assert runtime.content.blob(HUB, IMAGE.digest) is None


def test_an_image_is_found_by_its_name_its_digest_and_its_blobs(runtime: Runtime) -> None:
    runtime.put(f"{HUB}:1", IMAGE)
    expected = StoredDocument(IMAGE.digest, OCI_MANIFEST, IMAGE.manifest.raw)
    for _ in range(2):  # the second time it is remembered
        found = runtime.content.tag(HUB, "1")
        assert found is not None
        assert (found.document, found.lacks) == (expected, None)
        assert set(found.needs) == {blob.digest for blob in IMAGE.blobs}
        assert runtime.content.document(HUB, IMAGE.digest) == expected
        for blob in IMAGE.blobs:
            assert _read(runtime.content, HUB, blob.digest) == blob.raw
    assert runtime.content.tag(HUB, "2") is None
    assert runtime.content.tag(HUB, "") is None


def test_names_are_full_names(runtime: Runtime) -> None:
    for name in ("library/app:1", "app:1", "docker.io/app:1", "xdocker.io/library/app:1"):
        runtime.put(name, IMAGE)
    runtime.put("dockerXio/library/app:1", IMAGE)
    runtime.put("docker.io/library/apple:1", IMAGE)
    assert runtime.content.tag(HUB, "1") is None


def test_a_name_with_a_digest_makes_its_content_the_repositorys(runtime: Runtime) -> None:
    runtime.put(f"{HUB}@{IMAGE.digest}", IMAGE)
    runtime.put(f"{HUB}:2@{NEWER.digest}", NEWER)
    assert runtime.content.tag(HUB, "2") is None
    for image in (IMAGE, NEWER):
        assert runtime.content.document(HUB, image.digest) is not None
        assert _read(runtime.content, HUB, image.config.digest) == image.config.raw


# --- whose it is


def test_what_is_of_another_repository_is_not_found(runtime: Runtime) -> None:
    runtime.put(f"{HUB}:1", IMAGE)
    runtime.put(f"{OTHER}:1", NEWER)
    for blob in NEWER.blobs:
        assert runtime.content.blob(HUB, blob.digest) is None
        assert runtime.content.document(HUB, blob.digest) is None
        assert _read(runtime.content, OTHER, blob.digest) == blob.raw


def test_a_blob_without_a_name_above_it_is_nobodys(runtime: Runtime) -> None:
    runtime.put(f"{HUB}:1", IMAGE)
    digest = runtime.put_blob(b"an uncompressed twin")
    assert runtime.content.blob(HUB, digest) is None


@pytest.mark.parametrize(
    ("host", "paths", "found"),
    [
        ("docker.io", "library/app", True),
        ("docker.io", "team/x,library/app", True),
        ("docker.io", "library/apple", False),
        ("docker.io", "library", False),
        ("registry.example:5000", "library/app", False),
    ],
)
def test_a_label_says_where_a_blob_came_from(
    runtime: Runtime, host: str, paths: str, *, found: bool
) -> None:
    layer = runtime.put_blob(b"layer", f"containerd.io/distribution.source.{host}", paths)
    raw = IMAGE.manifest.raw
    manifest = runtime.put_blob(raw, f"containerd.io/distribution.source.{host}", paths)
    assert _read(runtime.content, HUB, layer) == (b"layer" if found else None)
    document = runtime.content.document(HUB, manifest)
    assert document == (StoredDocument(manifest, OCI_MANIFEST, raw) if found else None)


def test_all_below_an_index_within_an_index_is_of_the_repository(runtime: Runtime) -> None:
    inner = {"mediaType": OCI_INDEX, "digest": str(INDEX.digest), "size": INDEX.index.size_bytes}
    raw = compact({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [inner]})
    runtime.put("kept:1", INDEX)
    del runtime.held.images["kept:1"]
    runtime.held.images[f"{HUB}:1"] = runtime.put_blob(raw)
    for blob in INDEX.blobs:
        assert _read(runtime.content, HUB, blob.digest) == blob.raw


# --- what is not whole


def test_an_index_needs_one_whole_image(runtime: Runtime) -> None:
    runtime.put(f"{HUB}:1", INDEX)
    first, second = INDEX.images
    for blob in first.blobs:
        runtime.drop(blob.digest)
    found = runtime.content.tag(HUB, "1")
    assert found is not None
    assert found.document.raw == INDEX.index.raw
    assert set(found.needs) == {INDEX.digest, *(blob.digest for blob in second.blobs)}
    assert runtime.content.document(HUB, first.digest) is None
    runtime.drop(second.layers[1].digest)
    found = runtime.content.tag(HUB, "1")
    assert found is not None
    assert (found.needs, found.lacks) == ((), second.layers[1].digest)


def test_a_tag_whose_layers_were_discarded_is_told_to_lack_one(runtime: Runtime) -> None:
    runtime.put(f"{HUB}:1", IMAGE)
    for layer in IMAGE.layers:
        runtime.drop(layer.digest)
    found = runtime.content.tag(HUB, "1")
    assert found is not None
    assert (found.needs, found.lacks) == ((), IMAGE.layers[0].digest)
    assert runtime.content.document(HUB, IMAGE.digest) is not None
    assert _read(runtime.content, HUB, IMAGE.config.digest) == IMAGE.config.raw
    assert runtime.content.blob(HUB, IMAGE.layers[0].digest) is None


def test_an_attestation_alone_is_no_image(runtime: Runtime) -> None:
    statement = random_image("statement")
    about = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": str(IMAGE.digest),
    }
    entries = [IMAGE.manifest.descriptor, {**statement.manifest.descriptor, "annotations": about}]
    raw = compact({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    for blob in statement.blobs:
        runtime.put_blob(blob.raw)
    runtime.held.images[f"{HUB}:1"] = runtime.put_blob(raw)
    found = runtime.content.tag(HUB, "1")
    assert found is not None
    assert found.needs == ()


def test_an_index_of_nothing_is_no_image(runtime: Runtime) -> None:
    raw = compact({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})
    runtime.held.images[f"{HUB}:1"] = runtime.put_blob(raw)
    found = runtime.content.tag(HUB, "1")
    assert found is not None
    assert found.needs == ()


# --- what is no document


def test_a_document_is_within_the_limit_and_is_one(runtime: Runtime) -> None:
    label = ("containerd.io/distribution.source.docker.io", "library/app")
    huge = json.loads(IMAGE.manifest.raw) | {"annotations": {"x": "x" * LIMIT_BYTES}}
    large = runtime.put_blob(_json(huge), *label)
    runtime.held.images[f"{HUB}:large"] = large
    assert runtime.content.tag(HUB, "large") is None
    assert runtime.content.document(HUB, large) is None
    assert _read(runtime.content, HUB, large) == _json(huge)
    for raw in (b"", b"{}", b"[1]", b'{"schemaVersion": 1}', IMAGE.config.raw):
        assert runtime.content.document(HUB, runtime.put_blob(raw, *label)) is None


def test_the_type_of_a_document_without_one_is_told_by_its_shape(runtime: Runtime) -> None:
    for raw, media_type in ((IMAGE.manifest.raw, OCI_MANIFEST), (INDEX.index.raw, OCI_INDEX)):
        value = json.loads(raw)
        del value["mediaType"]
        digest = runtime.put_blob(
            compact(value), "containerd.io/distribution.source.docker.io", "library/app"
        )
        found = runtime.content.document(HUB, digest)
        assert found == StoredDocument(digest, media_type, compact(value))


# --- blobs


def test_a_blob_is_read_from_any_offset(runtime: Runtime) -> None:
    raw = bytes(range(256)) * 1000
    label = ("containerd.io/distribution.source.docker.io", "library/app")
    found = runtime.content.blob(HUB, runtime.put_blob(raw, *label))
    assert found is not None
    with found.open() as file:
        for offset in (0, 99_999, 200_001, len(raw) - 1, len(raw)):
            file.seek(offset)
            assert file.read(1000) == raw[offset : offset + 1000]
            assert file.read(10) == raw[offset + 1000 : offset + 1010]
    empty = runtime.content.blob(HUB, runtime.put_blob(b"", *label))
    assert empty is not None
    with empty.open() as file:
        assert (empty.size_bytes, file.read(1)) == (0, b"")


def test_a_blob_that_went_meanwhile_is_told_so(runtime: Runtime) -> None:
    runtime.put(f"{HUB}:1", IMAGE)
    digest = IMAGE.layers[0].digest
    found = runtime.content.blob(HUB, digest)
    assert found is not None
    runtime.drop(digest)
    with pytest.raises((NotFoundError, OSError)), found.open() as file:
        file.read(1)


# --- of containerd alone


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeContainerd]:
    with tempfile.TemporaryDirectory(prefix="airside-") as name:
        made = FakeContainerd(Held(), Path(name, "c.sock"), tmp_path)
        with made.serving():
            yield made


def _content(fake: FakeContainerd, client: Client) -> ContainerdContent:
    return ContainerdContent(client, fake.directory, Limits())


def test_a_damaged_file_of_containerd_is_not_there(fake: FakeContainerd) -> None:
    for blob in IMAGE.blobs:
        fake.held.add(blob.raw)
    fake.held.images[f"{HUB}:1"] = IMAGE.digest
    fake.write_blobs()
    blobs = fake.directory / "blobs" / "sha256"
    layer, manifest = IMAGE.layers[0], IMAGE.manifest
    with closing(Client.open(str(fake.socket))) as client:
        (blobs / layer.digest.hex).write_bytes(b"")  # power loss
        content = _content(fake, client)
        found = content.tag(HUB, "1")
        assert found is not None
        assert (found.needs, found.lacks) == ((), layer.digest)
        assert content.blob(HUB, layer.digest) is None
        (blobs / manifest.digest.hex).write_bytes(b"x" * manifest.size_bytes)
        content = _content(fake, client)  # which remembers nothing
        assert content.tag(HUB, "1") is None
        assert content.document(HUB, manifest.digest) is None


def test_a_blob_of_another_namespace_lies_in_the_directory_but_is_not_there(
    fake: FakeContainerd,
) -> None:
    label = {"containerd.io/distribution.source.docker.io": "library/app"}
    digest = fake.held.add(b"of moby", label)
    fake.write_blobs()
    fake.held.drop(digest)
    with closing(Client.open(str(fake.socket))) as client:
        assert _content(fake, client).blob(HUB, digest) is None


def test_files_are_read_without_containerd_and_a_miss_is_one_call(fake: FakeContainerd) -> None:
    for blob in IMAGE.blobs:
        fake.held.add(blob.raw)
    fake.held.images[f"{HUB}:1"] = IMAGE.digest
    fake.write_blobs()
    with closing(Client.open(str(fake.socket))) as client:
        content = _content(fake, client)
        assert _read(content, HUB, IMAGE.layers[0].digest) == IMAGE.layers[0].raw
        assert "Read" not in fake.calls
        fake.calls.clear()
        assert content.tag(HUB, "none") is None
        assert content.blob(HUB, digest_of(b"none")) is None
        assert fake.calls == ["Get", "Info"]


def test_a_pull_lists_the_images_once_at_most(fake: FakeContainerd) -> None:
    for blob in IMAGE.blobs:
        fake.held.add(blob.raw)
    fake.held.images[f"{HUB}:1"] = IMAGE.digest
    fake.write_blobs()
    clock = [1000.0]
    with closing(Client.open(str(fake.socket))) as client:
        content = ContainerdContent(client, fake.directory, Limits(), clock=lambda: clock[0])
        assert content.tag(HUB, "1") is not None
        for _ in range(2):
            assert content.document(HUB, IMAGE.digest) is not None
            assert all(content.blob(HUB, blob.digest) for blob in IMAGE.blobs)
            assert "List" not in fake.calls
        clock[0] += 60.0
        for _ in range(2):
            assert all(content.blob(HUB, blob.digest) for blob in IMAGE.blobs)
            assert fake.calls.count("List") == 1
        fake.held.images.clear()
        clock[0] += 60.0
        assert content.blob(HUB, IMAGE.config.digest) is None


def test_a_directory_that_is_not_there_is_replaced_by_calls(fake: FakeContainerd) -> None:
    for blob in IMAGE.blobs:
        fake.held.add(blob.raw)
    fake.held.images[f"{HUB}:1"] = IMAGE.digest
    with closing(Client.open(str(fake.socket))) as client:
        content = ContainerdContent(client, Path("/nowhere"), Limits())
        assert content.tag(HUB, "1") is not None
        assert _read(content, HUB, IMAGE.layers[0].digest) == IMAGE.layers[0].raw
        assert not content.is_client(Connection(("192.0.2.1", 9), ("192.0.2.2", 5050)))


def test_a_containerd_that_is_away_says_so_at_once(tmp_path: Path) -> None:
    with closing(Client.open(str(tmp_path / "none.sock"))) as client:
        content = ContainerdContent(client, None, Limits())
        for _ in range(3):
            with pytest.raises(ContainerdError):
                content.tag(HUB, "1")
        assert content.is_client(CLIENT)
