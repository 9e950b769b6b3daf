"""A thread opens files with the rights of another user, and has its own again at once."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airside.archive.beneath import Beneath, Credentials, acting, can_act, directory
from airside.archive.beneath.acting import acting_as

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")

USER = Credentials(54_321, 54_322, (54_323,))


def _file(path: Path, uid: int, gid: int, mode: int) -> Path:
    path.write_text("text")
    os.chown(path, uid, gid)
    path.chmod(mode)
    return path


def _can_open(path: Path, reader: Credentials) -> bool:
    try:
        with Beneath(None, "any", reader).open(path):
            return True
    except PermissionError:
        return False


@pytest.mark.parametrize(
    ("uid", "gid", "mode", "can"),
    [
        (0, 0, 0o600, False),
        (0, 0, 0o644, True),
        (54_321, 0, 0o400, True),
        (54_321, 0, 0o044, False),
        (0, 54_322, 0o640, True),
        (0, 54_323, 0o640, True),
        (0, 54_323, 0o604, False),
        (0, 54_324, 0o640, False),
        (0, 54_324, 0o604, True),
    ],
)
def test_the_kernel_decides_by_user_and_all_groups(
    top: Path, uid: int, gid: int, mode: int, *, can: bool
) -> None:
    path = _file(top / "file", uid, gid, mode)
    assert _can_open(path, USER) is can
    with path.open() as own:  # and this thread is root again
        assert own.read() == "text"


def test_other_threads_keep_their_rights_meanwhile(top: Path) -> None:
    path = _file(top / "file", 0, 0, 0o600)
    with ThreadPoolExecutor(1) as other:
        assert other.submit(_reads, path).result()  # the thread has begun
        with acting_as(USER):
            assert not _reads(path)
            assert other.submit(_reads, path).result()
    assert _reads(path)


def _reads(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY))
    except PermissionError:
        return False
    return True


def test_without_the_right_to_act_nothing_is_opened(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _file(top / "file", 0, 0, 0o644)
    monkeypatch.setattr(acting.os, "geteuid", lambda: 1000)
    assert not _can_open(path, USER)
    monkeypatch.undo()
    monkeypatch.setattr(acting.platform, "machine", lambda: "m68k")
    assert not _can_open(path, USER)


def test_a_kernel_without_openat2_is_walked_with_the_same_rights(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: object) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(directory, "openat2", absent)
    (top / "link").symlink_to(_file(top / "file", 0, 0, 0o600))
    (top / "open").symlink_to(_file(top / "shown", 0, 0, 0o644))
    assert not _can_open(top / "link", USER)
    assert _can_open(top / "open", USER)
    descriptor = os.open(top / "file", os.O_RDONLY)
    try:
        assert not _can_open(Path(f"/proc/self/fd/{descriptor}"), USER)
    finally:
        os.close(descriptor)


@pytest.mark.needs("setpriv")
def test_root_without_capabilities_cannot_act_and_keeps_its_rights() -> None:
    script = "from airside.archive.beneath import can_act; raise SystemExit(can_act())"
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", script]
    assert subprocess.run(command, check=False).returncode == 0
    assert can_act()
