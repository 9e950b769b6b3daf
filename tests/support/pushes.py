"""What a push leaves in store and catalog, written directly: for tests of what becomes of it."""

from collections.abc import Iterable

from airside.catalog.documents import (
    link_referrers,
    record_claim,
    record_documents,
    repository_id_of,
)
from airside.catalog.model import ClaimedName, Import
from airside.catalog.tags import TagName, Tags
from airside.node import Node
from airside.oci.digest import Digest, parse_digest
from airside.oci.merge import parts_of
from airside.oci.model import parse_document
from airside.oci.reference import Repository
from support.images import TestBlob, TestImage, TestIndex, compact


def repository_of(name: str) -> Repository:
    host, _, path = name.partition("/")
    return Repository(host, path) if "." in host else Repository("", name)


def push_blobs(node: Node, repository: str, blobs: Iterable[TestBlob]) -> None:
    """Blobs that no manifest speaks of yet."""
    blobs, now = list(blobs), node.clock()
    with node.guard.shared():
        node.store.commit([node.store.put(blob.raw) for blob in blobs])
        with node.catalog._transaction("push blobs") as db:
            number = repository_id_of(db, repository_of(repository))
            for blob in blobs:
                digest = str(blob.digest)
                db.execute(
                    "INSERT INTO blob VALUES (?, ?, ?, 'held') ON CONFLICT DO UPDATE"
                    " SET state = 'held', verified_at = excluded.verified_at",
                    (digest, blob.size_bytes, now),
                )
                db.execute("INSERT OR IGNORE INTO repository_blob VALUES (?, ?)", (number, digest))
                db.execute("INSERT OR REPLACE INTO pushed VALUES (?, ?, ?)", (number, digest, now))
            node.catalog._changed(db)


def push(node: Node, name: str, blobs: Iterable[TestBlob], *, tag: str = "") -> Digest:
    """Push a manifest, the first of these, after what it needs; by digest where it has no tag."""
    manifest, *others = blobs
    push_blobs(node, name, [*others, manifest])
    put(node, name, manifest, tag=tag)
    return manifest.digest


def put(node: Node, name: str, manifest: TestBlob, *, tag: str = "") -> None:
    """PUT of a manifest whose blobs are there: refused where the repository lacks one."""
    now, repository = node.clock(), repository_of(name)
    document = parse_document(manifest.raw, manifest.media_type, str(manifest.digest))
    path = f"{repository}:{tag}" if tag else f"{repository}@{manifest.digest}"
    with node.guard.shared():
        node.store.commit([node.store.put(manifest.raw)])
        with node.catalog._transaction("push a manifest") as db:
            number = repository_id_of(db, repository)
            for child in document.children:
                found = db.execute(
                    "SELECT 1 FROM repository_blob WHERE repository_id = ? AND digest = ?",
                    (number, str(child.digest)),
                ).fetchone()
                assert found, f"{path}: {child.digest} is not there"
            sequence = 1 + db.execute("SELECT coalesce(max(sequence), 0) FROM source").fetchone()[0]
            row = db.execute(
                "INSERT INTO source (kind, path, sequence, state, settled_at, changed_at)"
                " VALUES ('push', ?, ?, 'imported', ?, ?) ON CONFLICT (kind, path) DO UPDATE SET"
                " sequence = excluded.sequence, changed_at = excluded.changed_at RETURNING id",
                (path, sequence, now, now),
            ).fetchone()
            claim = ClaimedName(repository, tag, manifest.digest)
            result = Import(
                source_id=row["id"],
                state="imported",
                stat_key="",
                plan_digest="",
                format="",
                compression="",
                seconds=0.0,
                claims=(claim,),
                documents=(document,),
                platforms={},
                blobs={manifest.digest: manifest.size_bytes},
            )
            record_documents(db, result, now)
            db.execute("DELETE FROM claim WHERE source_id = ?", (row["id"],))
            parts = parts_of(manifest.digest, {document.digest: document}, {})
            record_claim(db, row["id"], 0, claim, sequence, parts)
            link_referrers(db, [str(manifest.digest)])
            if tag:
                Tags(db, now, node.catalog._hold).settle(TagName(number, tag), "keep")
            node.catalog._changed(db)


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
