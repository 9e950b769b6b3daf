"""The free space while containerd writes: grants, and what is cancelled."""

import errno
from pathlib import Path

import pytest

from airside.containerd.snapshot_space import GUARD_BYTES, SnapshotSpace
from airside.core.disk_space import DiskSpace
from airside.core.errors import StoppedError, StorageFullError
from airside.oci.model import OCI_LAYER, Descriptor
from support.images import sha256

MIB = 1 << 20
LAYER = Descriptor(OCI_LAYER, sha256(b"layer"), 10 * MIB)
FLOOR = 16 * MIB


class Disk:
    """A file system with so many bytes free."""

    def __init__(self, monkeypatch, root, free):
        self.free = free
        monkeypatch.setattr("airside.core.disk_space.free_bytes", lambda _: self.free)
        self.space = DiskSpace(FLOOR)
        self.snapshots = SnapshotSpace(root, self.space)

    def apply(self, stop, *, takes, step=MIB):
        """As containerd unpacks, looked at after each step. Gives what was written."""
        for _ in range(takes // step):
            if stop():
                raise StoppedError("stopped")
            self.free -= step


@pytest.fixture
def disk(monkeypatch, tmp_path):
    return Disk(monkeypatch, tmp_path, 200 * MIB)


def running():
    return False


def test_what_fits_its_grant_is_unpacked_to_the_floor(disk):
    disk.free = FLOOR + MIB + LAYER.size_bytes
    with disk.snapshots.unpacking(LAYER, None, running) as stop:
        disk.apply(stop, takes=LAYER.size_bytes)
        assert not stop()
    assert disk.free >= FLOOR


def test_what_takes_more_than_its_grant_is_cancelled_before_the_floor(disk):
    with (
        pytest.raises(StorageFullError),
        disk.snapshots.unpacking(LAYER, None, running) as stop,
    ):
        disk.apply(stop, takes=1000 * MIB)
    assert FLOOR + GUARD_BYTES - 2 * MIB <= disk.free <= FLOOR + GUARD_BYTES + 2 * MIB


def test_what_others_take_cancels_at_the_floor(disk):
    def take(stop):
        disk.free = FLOOR - 1
        disk.apply(stop, takes=MIB)

    with (
        pytest.raises(StorageFullError),
        disk.snapshots.unpacking(LAYER, None, running) as stop,
    ):
        take(stop)


def test_what_does_not_fit_is_not_begun(disk):
    disk.free = FLOOR + LAYER.size_bytes
    with pytest.raises(StorageFullError), disk.snapshots.unpacking(LAYER, None, running):
        raise AssertionError("begun")


def test_a_stop_is_no_lack_of_space(disk):
    with pytest.raises(StoppedError), disk.snapshots.unpacking(LAYER, None, lambda: True) as stop:
        disk.apply(stop, takes=MIB)


def test_a_grant_is_left_by_others_until_it_is_written(disk, tmp_path):
    with disk.snapshots.unpacking(LAYER, None, running) as stop:
        room = disk.space.room_bytes(tmp_path)
        disk.apply(stop, takes=4 * MIB)
        assert disk.space.room_bytes(tmp_path) == room
        with disk.space.writing(tmp_path, MIB):
            disk.free -= MIB
        assert disk.space.room_bytes(tmp_path) == room - MIB
    assert disk.space.room_bytes(tmp_path) == room - MIB + 6 * MIB


def test_without_a_directory_nothing_is_checked(disk):
    with SnapshotSpace(None, disk.space).unpacking(LAYER, None, running) as stop:
        assert stop is running


def test_what_is_below_a_directory_that_may_not_be_searched_counts_as_that(monkeypatch, tmp_path):
    closed, stat = tmp_path / "closed", Path.stat
    closed.mkdir()

    def stat_as_another_user(path, **options):
        if closed in path.parents:
            raise PermissionError(errno.EACCES, "permission denied", path)
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", stat_as_another_user)
    space = Disk(monkeypatch, tmp_path, FLOOR + 10 * MIB).space
    assert space.room_bytes(closed / "io.containerd.snapshotter" / "snapshots") == 9 * MIB
    with pytest.raises(StorageFullError):
        space.check(closed / "io.containerd.snapshotter", 10 * MIB)
    assert space.room_bytes(tmp_path / "absent" / "snapshots") is None
