"""Values of the control socket: what no number, name, path or flag can be is refused by name."""

from pathlib import Path

import pytest

from airside.agent.control_requests import (
    MAX_NUMBER,
    parse_body,
    parse_flag,
    parse_number,
    parse_path,
    parse_text,
)
from airside.core.errors import RequestInvalidError


@pytest.mark.parametrize(
    "text",
    ["", "-1", "+1", " 1", "1_0", "1.0", "1e3", "٣", "²", str(MAX_NUMBER + 1), "9" * 5000, "1\0"],
)
def test_a_number_is_whole_and_fits_into_sqlite(text):
    with pytest.raises(RequestInvalidError, match="after must be a whole number"):
        parse_number({"after": text}, "after", 0)
    assert parse_number({"after": str(MAX_NUMBER)}, "after", 0) == MAX_NUMBER
    assert parse_number({}, "after", 7) == 7


@pytest.mark.parametrize(
    "value", [None, "", 1, True, [], {}, "a\0b", "\0", "x" * 5000, "é" * 2049, "/a\ud800", "\udfff"]
)
def test_a_text_has_no_nul_and_an_end(value):
    with pytest.raises(RequestInvalidError, match="what"):
        parse_text({"what": value}, "what")
    assert parse_text({"what": "é" * 2048}, "what")
    assert parse_text({"what": "\udcff"}, "what") == "\udcff"  # any bytes are a file's name


@pytest.mark.parametrize("value", ["a", "./a", "../a", "/a/../b", "/..", "/a\0b", "/" + "a" * 4096])
def test_a_path_is_absolute_and_does_not_go_up(value):
    with pytest.raises(RequestInvalidError, match="path"):
        parse_path({"path": value}, "path")
    assert parse_path({"path": "/a/..b"}, "path") == Path("/a/..b")


@pytest.mark.parametrize("value", ["true", 1, 0, None, [], {}])
def test_a_flag_is_true_or_false_and_never_guessed(value):
    with pytest.raises(RequestInvalidError, match="dry_run"):
        parse_flag({"dry_run": value}, "dry_run")
    assert parse_flag({"dry_run": True}, "dry_run") is True
    assert parse_flag({}, "dry_run") is False


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff", b"[]", b'[["a", 1]]', b"1", b'{"b": 1}', b"[" * 100_000, b"9" * 5000],
)
def test_a_body_is_an_object_of_known_keys(raw):
    with pytest.raises(RequestInvalidError, match="body"):
        parse_body(raw, "a")
    assert parse_body(b'{"a": [1]}', "a") == {"a": [1]}
