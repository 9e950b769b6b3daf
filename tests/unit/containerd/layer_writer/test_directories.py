"""Open directories of a tree that a layer is written into."""

import os
from contextlib import closing

import pytest

from airside.containerd.layer_writer.directories import Directories, Directory
from airside.containerd.layer_writer.target import LayerLimits
from airside.core.errors import UnusualLayerError


@pytest.mark.parametrize(
    ("group", "mode", "inherits"),
    [(0, 0o755, False), (0, 0o2755, True), (1, 0o755, True)],
    ids=["ours", "setgid", "mounted with grpid"],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a directory to another group")
def test_a_directory_whose_group_new_files_may_get_is_known(tmp_path, group, mode, inherits):
    os.chown(tmp_path, -1, os.getegid() + group)
    tmp_path.chmod(mode)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        assert Directory(descriptor, b"").inherits is inherits
    finally:
        os.close(descriptor)


def test_only_what_was_entered_is_looked_for_when_a_file_is_replaced(tmp_path):
    """A layer that replaces many files behind many links does not take their product of time."""
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    root = os.open(tmp_path, os.O_RDONLY)
    with closing(Directories(root, LayerLimits())) as directories:
        for path in (b"link/below", b"real/below"):
            directories.of(path)
        directories.forget(b"file")
        with pytest.raises(UnusualLayerError):
            directories.forget(b"link")
        directories.trim()
        (tmp_path / "real" / "below").rmdir()
        directories.forget(b"real/below")
        with pytest.raises(FileNotFoundError):
            directories.of(b"real/below")
    os.close(root)
