"""A catalog of an earlier version is copied, then brought up to date, or left as it was."""

import sqlite3

import pytest

from airside.catalog import database
from airside.catalog.record import Catalog
from airside.errors import StoreError
from support.nodes import not_held


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "catalog.db"
    catalog = Catalog(made, not_held)
    catalog.settle([("/images/a.tar", "1:1:1:1", 1)], 1.0)
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
