"""Which mounts of a snapshot are plain directories, and how deletions are recorded in them."""

import pytest

from airside.containerd.layer_writer.snapshot_directories import (
    SnapshotDirectories,
    directories_of,
)
from airside.containerd.layer_writer.target import WhiteoutForm
from airside.containerd.services.snapshots import Mount
from airside.core.errors import UnusualLayerError


def overlay(*options: str) -> list[Mount]:
    return [Mount("overlay", "overlay", "", ("workdir=/s/2/work", *options))]


PLAIN = ("upperdir=/s/2/fs", "lowerdir=/s/1/fs:/s/0/fs")


def test_the_lowest_layer_is_written_where_it_is_bound() -> None:
    found = directories_of([Mount("bind", "/s/1/fs", "", ("rw", "rbind"))])
    assert found == SnapshotDirectories("/s/1/fs", (), WhiteoutForm.DELETION)


@pytest.mark.parametrize(
    ("options", "form"),
    [
        ((), WhiteoutForm.TRUSTED),
        (("index=off",), WhiteoutForm.TRUSTED),
        (("index=off", "userxattr"), WhiteoutForm.USER),
    ],
)
def test_a_layer_above_others_is_written_into_the_upper_directory(options, form) -> None:
    found = directories_of(overlay(*options, *PLAIN))
    assert found == SnapshotDirectories("/s/2/fs", ("/s/1/fs", "/s/0/fs"), form)


@pytest.mark.parametrize(
    "mounts",
    [
        [],
        [Mount("bind", "/a", "", ("rw",)), Mount("bind", "/b", "", ("rw",))],
        [Mount("bind", "/a", "", ("ro", "rbind"))],
        [Mount("bind", "/a", "", ("rw", "rbind", "uidmap=0:100000:65536"))],
        [Mount("erofs", "/a", "", ())],
        overlay("lowerdir=/a"),
        overlay("upperdir=/a"),
        overlay(*PLAIN, "volatile"),
        overlay(*PLAIN, "uidmap=0:100000:65536"),
        overlay("upperdir=/a", "lowerdir=/b\\:c"),
        overlay("upperdir=/a", "lowerdir=/b:"),
        overlay("upperdir=/a", "lowerdir=" + ":".join(f"/{n}" for n in range(300))),
    ],
)
def test_all_else_is_left_to_containerd(mounts: list[Mount]) -> None:
    with pytest.raises(UnusualLayerError):
        directories_of(mounts)


def test_directories_that_are_not_here_are_left_to_containerd(tmp_path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    for name in ("absent", "link"):
        found = SnapshotDirectories(str(tmp_path / "a"), (str(tmp_path / name),), WhiteoutForm.USER)
        with pytest.raises(UnusualLayerError, match=name), found.opened():
            pass
