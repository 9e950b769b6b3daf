"""A data directory of an earlier version is brought up to date with all that it has.

The catalogs in `upgrade` were written by those versions themselves, one for each version of the
tables (`support.earlier`). 0.1.0 has version 6.
"""

import shutil
import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from airside.catalog.schema import VERSION
from airside.cli.main import main
from airside.core.config import load_settings, setting_rows
from airside.core.errors import ConfigError, StoreError
from airside.diagnostics.reports import status_report
from airside.oci.reference import parse_reference
from support.agent import Agent
from support.earlier import (
    AMD,
    APP,
    ARM,
    GONE,
    GONE_NAME,
    IMAGES,
    MULTI,
    ONE,
    TWO,
    lay_out,
    write_archive,
)
from support.nodes import node_at, visible, wrong_blobs

DUMPS = Path(__file__).parent / "upgrade"
OF_0_1_0 = 6
VERSIONS = sorted(int(path.stem.rpartition("-")[2]) for path in DUMPS.glob("catalog-*.sql"))


def laid_out(tmp_path: Path, version: int) -> tuple[Path, Path]:
    """Gives the data directory of that version, and its watched directory with the archives."""
    images, data = tmp_path / "images", tmp_path / "data"
    images.mkdir()
    lay_out(data, (DUMPS / f"catalog-{version}.sql").read_text(), images)
    return data, images


def dump(data: Path, name: str = "catalog.db") -> list[str]:
    with closing(sqlite3.connect(data / name)) as db:
        return list(db.iterdump())


def test_there_is_a_directory_of_each_version_of_the_tables_that_was_released() -> None:
    assert list(range(1, VERSIONS[-1] + 1)) == VERSIONS
    assert VERSIONS[-1] >= OF_0_1_0


@pytest.mark.parametrize("version", VERSIONS)
def test_names_history_and_events_survive(tmp_path: Path, version: int) -> None:
    data, images = laid_out(tmp_path, version)
    with closing(sqlite3.connect(data / "catalog.db")) as db:
        events = db.execute("SELECT id, kind, path, reference FROM event ORDER BY id").fetchall()
    with node_at(data) as node:
        found = visible(node)
        assert set(found) == {APP, GONE_NAME, MULTI}
        assert found[GONE_NAME] == GONE.digest
        assert found[APP] == (TWO if version == 1 else ONE).digest  # 1 had no rollback
        rows = {row.reference: row for row in node.catalog.images()}
        assert rows[GONE_NAME].unbacked_since is not None
        assert rows[APP].archives == (str(images / "app.tar"),)
        app = parse_reference(APP)
        versions = [each.digest for each in node.catalog.generations()[app.repository, app.tag]]
        assert set(versions) == {str(ONE.digest), str(TWO.digest)}
        if version > 1:
            assert rows[APP].rolled_back
            assert {part.digest for part in rows[MULTI].parts} == {
                str(AMD.digest),
                str(ARM.digest),
            }
        kept = [
            (row.id, row.kind, row.path, row.reference) for row in node.catalog.events(limit=99)
        ]
        assert kept[: len(events)] == events
        assert wrong_blobs(node) == []
        assert status_report(node.catalog)["lost_records"] is None
    assert (data / f"catalog-v{version}.db").exists() == (version < VERSION)


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_of_it_is_collected(tmp_path: Path, version: int) -> None:
    data, _ = laid_out(tmp_path, version)
    with node_at(data) as node:
        before = visible(node)
        node.clean(dry_run=False)
        assert visible(node) == before
        held = {path.name for path in (data / "oci/blobs/sha256").iterdir()}
        for image in (ONE, TWO, GONE, AMD):
            assert {blob.digest.hex for blob in image.blobs} <= held


@pytest.mark.parametrize("version", [1, OF_0_1_0])
def test_an_agent_goes_on_with_it_and_with_its_archives(tmp_path: Path, version: int) -> None:
    data, images = laid_out(tmp_path, version)
    write_archive(images, "app.tar", APP, TWO)
    write_archive(images, "multi-amd64.tar", MULTI, AMD)
    write_archive(images, "multi-arm64.tar", MULTI, ARM)
    environ = {"AIRSIDE_UNBACKED_AFTER_SECONDS": str(10**9)}
    with Agent(images, data, environ=environ) as agent:
        agent.wait_idle()
        found = agent.images()
        assert set(found) == {APP, GONE_NAME, MULTI}
        assert found[GONE_NAME]["digest"] == str(GONE.digest)
        assert sorted(found[MULTI]["platforms"]) == ["linux/amd64", "linux/arm64"]
        assert agent.status()["lost_records"] is None
        assert agent.complaints() == []


@pytest.mark.parametrize("version", [v for v in VERSIONS if v < VERSION])
def test_a_command_without_an_agent_says_that_the_agent_must_upgrade_it_first(
    tmp_path: Path, version: int, capsys: pytest.CaptureFixture[str]
) -> None:
    data, _ = laid_out(tmp_path, version)
    code = main(["images", "--data", str(data)])
    _, err = capsys.readouterr()
    assert code == 1
    assert f"version {version}" in err
    assert "start the agent" in err
    assert not (data / f"catalog-v{version}.db").exists()


# Back to the version before


def test_the_copy_that_the_upgrade_made_is_the_catalog_from_before(tmp_path: Path) -> None:
    data, _ = laid_out(tmp_path, 5)
    before = dump(data)
    with node_at(data):
        pass
    assert dump(data, "catalog-v5.db") == before


def test_a_command_does_not_read_a_catalog_of_a_newer_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, _ = laid_out(tmp_path, VERSIONS[-1])
    with closing(sqlite3.connect(data / "catalog.db")) as db:
        db.execute(f"PRAGMA user_version={VERSION + 1}")
    assert main(["images", "--data", str(data)]) == 1
    assert "install a newer Airside" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["catalog", "format"])
def test_a_directory_of_a_newer_version_is_refused_unchanged(tmp_path: Path, what: str) -> None:
    data, _ = laid_out(tmp_path, VERSIONS[-1])
    if what == "catalog":
        with closing(sqlite3.connect(data / "catalog.db")) as db:
            db.execute(f"PRAGMA user_version={VERSION + 1}")
    else:
        (data / "format").write_text("2\n")
    before = dump(data)
    with pytest.raises((StoreError, ConfigError), match="install a newer Airside"), node_at(data):
        pass
    assert dump(data) == before


# Settings


def test_every_setting_of_0_1_0_is_accepted_with_its_default(tmp_path: Path) -> None:
    text = (DUMPS / "settings-0.1.0.toml").read_text()
    (tmp_path / "airside.toml").write_text(text)
    effective = load_settings(file=tmp_path / "airside.toml", environ={}, flags={})
    known = {key for key, _, _ in setting_rows()}
    values = tomllib.loads(text)
    written = {*values, *(f"limits.{key}" for key in values["limits"])} - {"limits"}
    assert written <= known
    assert all(effective.origins[key].startswith("file") for key in written)


def test_the_images_of_the_dumps_are_those_that_the_generator_makes(tmp_path: Path) -> None:
    data, _ = laid_out(tmp_path, VERSIONS[-1])
    with closing(sqlite3.connect(data / "catalog.db")) as db:
        documents = {row[0] for row in db.execute("SELECT digest FROM document")}
    assert {str(image.digest) for image in IMAGES} <= documents
    shutil.rmtree(data)
