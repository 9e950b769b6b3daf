"""Files that are no archives are told by their first bytes."""

import pytest

from airside.archive.formats.other_files import describe_other

BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"<html><body>404</body></html>", "a web page"),
        (BOM + b"<!DOCTYPE HTML>", "a web page"),
        (BOM + b'{"errors":[]}', "an error message in JSON"),
        (b"404: Not Found", "the text of an error"),
        (b"Not Found", "the text of an error"),
        (b"404 page not found\n", "the text of an error"),
        (b"error code: 1020", "the text of an error"),
        (b"!<arch>\ndebian-binary   ", "a Debian package"),
        (b"\xeb\x63\x90" + bytes(507) + b"\x55\xaa" + bytes(600), "the image of a disk (MBR)"),
    ],
)
def test_a_file_is_told_by_its_first_bytes(head: bytes, what: str) -> None:
    assert describe_other(head).startswith(f"the file is {what}")


@pytest.mark.parametrize("head", [b"", bytes(512), b"404\0", b"403 " + b"x" * 300 + bytes(9)])
def test_other_bytes_are_not_guessed(head: bytes) -> None:
    assert describe_other(head) == ""
