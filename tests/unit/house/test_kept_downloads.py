"""What the frozen build has fetched is used again, but never for another list of packages."""

import pytest
from frozen import debian_runtime, wheels
from frozen.architectures import ARCHITECTURES

AMD64, ARM64 = ARCHITECTURES["amd64"], ARCHITECTURES["arm64"]


@pytest.fixture
def fetched(monkeypatch):
    """The packages that apt was asked for, each time."""
    asked = []

    def run(*words, **_):
        if "download" in words:
            asked.append(words[words.index("download") + 1 :])
        return ""

    monkeypatch.setattr(debian_runtime, "_run", run)
    monkeypatch.setattr(debian_runtime, "_configure", lambda *_: "apt.conf")
    return asked


@pytest.fixture
def installed(monkeypatch):
    """The architectures that pip was asked for, each time."""
    asked = []

    def pip(arch, target, _):
        asked.append(arch.name)
        assert not target.exists()
        target.mkdir()

    monkeypatch.setattr(wheels, "_pip", pip)
    return asked


def test_packages_of_debian_are_fetched_once_for_each_list(fetched, tmp_path):
    for names in (["a", "b"], ["a", "b"], ["a", "c"], ["a", "c"]):
        assert debian_runtime.unpack_runtime(AMD64, tmp_path, names).is_dir()
    assert fetched == [("a", "b"), ("a", "c")]


def test_a_root_that_was_left_without_its_list_is_made_again(fetched, tmp_path):
    (tmp_path / "root").mkdir()
    debian_runtime.unpack_runtime(AMD64, tmp_path, ["a"])
    assert fetched == [("a",)]


def test_wheels_are_installed_once_for_each_lock_file(installed, tmp_path):
    lock, target = tmp_path / "a.lock", tmp_path / "wheels"
    for arch, text in ((AMD64, "a==1"), (AMD64, "a==1"), (AMD64, "a==2"), (ARM64, "a==2")):
        lock.write_text(text)
        assert wheels.install_locked(arch, lock, target) == target
    assert installed == ["amd64", "amd64", "arm64"]
