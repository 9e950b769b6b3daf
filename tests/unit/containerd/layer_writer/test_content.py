"""The bytes of files, copied out of a layer's tar."""

import os

from airside.containerd.layer_writer.content import Content


def test_a_file_system_that_copies_nothing_and_says_no_error_gets_the_bytes_written(
    tmp_path, monkeypatch
):
    """Some do; the layer is not damaged by that."""
    monkeypatch.setattr(os, "copy_file_range", lambda *_: 0)
    (tmp_path / "tar").write_bytes(b"0123456789")
    with (tmp_path / "tar").open("rb") as tar, (tmp_path / "file").open("wb") as file:
        Content(memoryview(b"0123456789"), tar.fileno()).copy(2, 5, file.fileno())
    assert (tmp_path / "file").read_bytes() == b"23456"
