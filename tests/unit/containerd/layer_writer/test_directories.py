"""Open directories of a tree that a layer is written into."""

import os

import pytest

from airside.containerd.layer_writer.directories import Directory


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
