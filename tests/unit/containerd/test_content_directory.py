"""Why a blob is copied into containerd's directory instead of linked."""

import errno
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from airside.containerd.content_directory import COPY, LINK, ContentDirectory
from airside.oci.digest import Digest, digest_of

RAW = b"a blob"
DIGEST = digest_of(RAW)


class OneBlob:
    """A store of one blob."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_bytes(RAW)

    def path(self, _digest: Digest) -> Path:
        return self._path

    def open(self, _digest: Digest) -> BinaryIO:
        return self._path.open("rb")

    def is_right(self, _digest: Digest) -> bool:
        return True

    def suspect(self, _digest: Digest) -> None: ...


@pytest.fixture
def directory(tmp_path: Path) -> ContentDirectory:
    (tmp_path / "content").mkdir()
    return ContentDirectory(tmp_path / "content", OneBlob(tmp_path / "blob"), "airside-test")


def test_a_blob_that_is_linked_needs_no_reason(directory: ContentDirectory) -> None:
    assert directory.link(DIGEST) == LINK
    assert directory.why_copied == ""


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EXDEV, "different file systems or mounts"),
        (errno.EPERM, "not permitted"),
        (errno.EMLINK, "as many hard links"),
        (errno.EOPNOTSUPP, "no hard links"),
    ],
)
def test_a_copy_says_why_it_is_no_link(
    directory: ContentDirectory, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    assert directory.link(DIGEST) == COPY
    assert words in directory.why_copied
    assert str(directory.root) in directory.why_copied
    assert directory.path(DIGEST).read_bytes() == RAW


def test_an_error_that_a_copy_would_meet_too_is_no_reason_to_copy(
    directory: ContentDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "link", refuse)
    assert directory.link(DIGEST) == ""
    assert directory.why_copied == ""


def test_why_blobs_are_sent_is_logged_once_until_a_link_succeeds(
    directory: ContentDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(os, "link", refuse)
            assert [directory.link(DIGEST) for _ in range(3)] == ["", "", ""]
        assert directory.link(DIGEST) == LINK
        directory.path(DIGEST).unlink()
    assert [r.message.count("Read-only file system") for r in caplog.records] == [1, 1]
