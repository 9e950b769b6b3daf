from pathlib import Path

import pytest

from airside.importer.watch import watcher as watch


@pytest.fixture
def nothing_left_open(monkeypatch):
    """A watcher leaves no descriptor; and an absent directory is looked for often."""
    monkeypatch.setattr(watch, "ABSENT_SECONDS", 0.05)
    before = set(Path("/proc/self/fd").iterdir())
    yield
    assert set(Path("/proc/self/fd").iterdir()) <= before


@pytest.fixture
def images(tmp_path):
    directory = tmp_path / "images"
    directory.mkdir()
    return directory
