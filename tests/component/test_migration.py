"""A catalog of an earlier version is copied, then brought up to date, or left as it was."""

import sqlite3

import pytest

from airside.catalog import database
from airside.catalog.catalog import Catalog
from airside.catalog.model import ClaimedName, Import
from airside.catalog.schema import MIGRATIONS
from airside.core.errors import StoreError
from airside.oci.model import Document, parse_document
from airside.oci.platform import Platform
from airside.oci.reference import Repository
from support.images import random_image, random_index
from support.nodes import not_held


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "catalog.db"
    catalog = Catalog(made, not_held)
    catalog.source_states.settle([("/images/a.tar", "1:1:1:1", 1)], 1.0)
    catalog.close()
    return made


def next_version(monkeypatch, script):
    """Let there be one more version than there is."""
    migrations = (*database.MIGRATIONS, script)
    monkeypatch.setattr(database, "MIGRATIONS", migrations)
    monkeypatch.setattr(database, "VERSION", len(migrations))
    return len(migrations)


def version_of(path):
    with sqlite3.connect(path) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
    db.close()
    return version


def test_an_earlier_catalog_is_copied_and_migrated(path, monkeypatch):
    before = version_of(path)
    version = next_version(monkeypatch, "ALTER TABLE source ADD COLUMN extra TEXT;")
    catalog = Catalog(path, not_held)
    assert [row.path for row in catalog.sources()] == ["/images/a.tar"]
    catalog.close()
    assert version_of(path) == version
    assert version_of(path.with_name(f"catalog-v{before}.db")) == before
    Catalog(path, not_held).close()  # a second time there is nothing to do


def test_a_migration_that_fails_leaves_the_catalog_as_it_was(path, monkeypatch):
    before = version_of(path)
    broken = "ALTER TABLE source ADD COLUMN extra TEXT; SELECT * FROM nothing;"
    with monkeypatch.context() as patch:
        next_version(patch, broken)
        with pytest.raises(StoreError):
            Catalog(path, not_held)
    assert version_of(path) == before
    catalog = Catalog(path, not_held)
    assert [row.path for row in catalog.sources()] == ["/images/a.tar"]
    catalog.close()


# From version 1

NAME = Repository("registry.example", "app")


def version_1(path, index):
    """A catalog as version 1 wrote it: an archive with an index of which one platform is held."""
    image = index.images[0]
    documents = [
        (str(image.manifest.digest), image.manifest.media_type, image.manifest.raw, "linux/amd64"),
        (str(index.index.digest), index.index.media_type, index.index.raw, ""),
    ]
    with sqlite3.connect(path) as db:
        db.executescript(MIGRATIONS[0] + "PRAGMA user_version=1;")
        db.execute(
            "INSERT INTO source (id, kind, path, stat_key, sequence, state, settled_at, changed_at)"
            " VALUES (1, 'archive', '/images/a.tar', '1:1:1:1', 7, 'imported', 1.0, 1.0)"
        )
        db.execute("INSERT INTO repository VALUES (1, ?, ?)", (NAME.host, NAME.path))
        for digest, media_type, raw, platform in documents:
            row = (digest, media_type, raw, "", "", platform, "{}")
            db.execute("INSERT INTO document VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        root = str(index.index.digest)
        children = [(root, n, str(i.manifest.digest)) for n, i in enumerate(index.images)]
        db.executemany("INSERT INTO edge VALUES (?, 'manifest', ?, ?)", children)
        db.execute("INSERT INTO claim VALUES (1, 0, 1, '1', ?, 7, '')", (root,))
        db.execute("INSERT INTO tag VALUES (1, '1', ?, 1, 7, 1.0, NULL)", (root,))
        db.execute(
            "INSERT INTO tag_generation (repository_id, tag, sequence, digest, source_path,"
            " platforms, at) VALUES (1, '1', 7, ?, '/images/a.tar', '[\"linux/amd64\"]', 1.0)",
            (root,),
        )
    db.close()


def test_claims_of_version_1_get_their_parts(tmp_path):
    index = random_index("old", layers=1, layer_bytes=600)
    version_1(tmp_path / "catalog.db", index)
    catalog = Catalog(tmp_path / "catalog.db", not_held)
    [row] = catalog.images()
    assert (row.digest, row.platforms) == (str(index.index.digest), ("linux/amd64",))
    assert [v.digest for v in catalog.generations()[NAME, "1"]] == [row.digest]
    assert row.parts == ()
    catalog.settle_tags(1.5)
    [row] = catalog.images()
    assert [(p.platform, p.archive) for p in row.parts] == [("linux/amd64", "/images/a.tar")]
    assert row.moved_at == 1.0
    held: list[Document] = []
    catalog.imports._hold = held.append
    source_id = catalog.source_states.settle([("/images/b.tar", "2:1:1:1", 1)], 2.0)[
        "/images/b.tar"
    ]
    arm = random_image("new", layers=1, layer_bytes=600, platform="linux/arm64")
    manifest = parse_document(arm.manifest.raw, arm.manifest.media_type, "test")
    catalog.imports.record(
        Import(
            source_id,
            "imported",
            "2:1:1:1",
            plan_digest="",
            format="",
            compression="",
            seconds=0.0,
            claims=(ClaimedName(NAME, "1", manifest.digest),),
            documents=(manifest,),
            platforms={manifest.digest: Platform("linux", "arm64")},
            blobs={manifest.digest: 1},
        ),
        2.0,
    )
    [row] = catalog.images()
    assert row.merged
    assert {(p.platform, p.digest) for p in row.parts} == {
        ("linux/amd64", str(index.images[0].manifest.digest)),
        ("linux/arm64", str(manifest.digest)),
    }
    assert [str(document.digest) for document in held] == [row.digest]
    catalog.close()
