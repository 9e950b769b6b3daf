"""Pushes to any repository, whatever the settings say: for tests of what becomes of them."""

from collections.abc import Iterable

from airside.agent.node import Node
from airside.catalog.pushes import Push, PushedBlob
from airside.oci.digest import Digest, parse_digest
from airside.oci.model import parse_document
from airside.oci.reference import Repository
from support.images import TestBlob, TestImage, TestIndex, compact


def repository_of(name: str) -> Repository:
    host, _, path = name.partition("/")
    return Repository(host, path) if "." in host else Repository("", name)


def push_blobs(node: Node, repository: str, blobs: Iterable[TestBlob]) -> None:
    """Blobs that no manifest speaks of yet."""
    found = list(blobs)
    with node.guard.shared():
        node.store.commit([node.store.put(blob.raw) for blob in found])
        where = repository_of(repository)
        pushed = [PushedBlob(where, blob.digest, blob.size_bytes) for blob in found]
        node.catalog.pushes.record(pushed, node.clock())


def push(node: Node, name: str, blobs: Iterable[TestBlob], *, tag: str = "") -> Digest:
    """Push a manifest, the first of these, after what it needs; by digest where it has no tag."""
    manifest, *others = blobs
    push_blobs(node, name, others)
    put(node, name, manifest, tag=tag)
    return manifest.digest


def put(node: Node, name: str, manifest: TestBlob, *, tag: str = "") -> None:
    """Push a manifest whose blobs are there, to any repository. Raises MissingBlobError."""
    document = parse_document(manifest.raw, manifest.media_type, str(manifest.digest))
    tags = (tag,) if tag else ()
    push = Push(repository_of(name), document, None, tags, document.children, (), "a test")
    with node.guard.shared():
        node.store.commit([node.store.put(manifest.raw)])
        [refused] = node.catalog.pushes.record([push], node.clock())
    if refused is not None:
        raise refused


def push_image(
    node: Node, name: str, image: TestImage | TestIndex, *, tag: str = "", children: bool = False
) -> Digest:
    """An image or an index; `children`: its manifests come first, by digest, as buildx does."""
    if children and isinstance(image, TestIndex):
        for child in image.images:
            push(node, name, child.blobs)
    return push(node, name, image.blobs, tag=tag)


def referrer_of(subject: TestBlob, label: str) -> list[TestBlob]:
    """An artifact that refers to a manifest: its own blobs, the manifest first."""
    config = TestBlob(b"{}", "application/vnd.oci.empty.v1+json")
    layer = TestBlob(label.encode(), "text/plain")
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.example.note",
        "config": config.descriptor,
        "layers": [layer.descriptor],
        "subject": subject.descriptor,
    }
    return [TestBlob(compact(manifest), manifest["mediaType"]), config, layer]


def held(node: Node) -> set[Digest]:
    """What is in the store; the catalog must speak of the same."""
    found = set(node.store.digests())
    assert found == node.catalog.known_blobs()
    return found


def linked(node: Node, name: str) -> set[Digest]:
    """What a repository has."""
    repository = repository_of(name)
    rows = node.catalog._readers.rows(
        "SELECT b.digest FROM repository_blob b JOIN repository r ON r.id = b.repository_id"
        " WHERE r.host = ? AND r.path = ?",
        repository.host,
        repository.path,
    )
    return {parse_digest(row["digest"]) for row in rows}
