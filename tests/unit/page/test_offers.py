import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airside.core.errors import RequestInvalidError
from airside.importer.watch.directories import is_candidate
from airside.page.uploads.offers import (
    NAME_BYTES,
    Offer,
    parse_count,
    parse_metadata,
    parse_name,
    parse_offer,
)


@pytest.mark.parametrize(
    "name", ["app.tar", "a b.tar.zst", "日本語.tar", "x", "<img onerror=1>.tar"]
)
def test_a_plain_name_is_taken_as_it_is(name: str) -> None:
    assert parse_name(name) == name


@pytest.mark.parametrize("name", [
    "", ".", "..", "a/b.tar", "..\\b.tar", ".hidden.tar", "a.part", "a.tar.crdownload", "a\nb.tar",
    "a\0.tar", "a\x7f.tar", "evil\u202erat.exe", "a\u2028.tar", "\udce4.tar", "x" * 256, "é" * 128,
])  # fmt: skip
def test_a_name_that_leads_elsewhere_or_is_not_shown_or_not_imported_is_refused(name: str) -> None:
    with pytest.raises(RequestInvalidError):
        parse_name(name)


@given(st.text())
def test_every_name_that_is_taken_is_one_visible_component_that_the_watcher_looks_at(
    text: str,
) -> None:
    try:
        name = parse_name(text)
    except RequestInvalidError:
        return
    assert "/" not in name
    assert name not in {"", ".", ".."}
    assert is_candidate(name)
    assert len(name.encode()) <= NAME_BYTES
    assert name.isprintable() or " " in name or "\xad" in name or not name.isascii()


def test_metadata_is_pairs_of_a_key_and_a_text_in_base64() -> None:
    name = base64.b64encode("ä,b c.tar".encode()).decode()
    assert parse_metadata(f"filename {name},replace MQ==, empty") == {
        "filename": "ä,b c.tar",
        "replace": "1",
        "empty": "",
    }
    assert parse_metadata("") == {}


@pytest.mark.parametrize("text", ["filename a", "filename /w==", "a " + "A" * 8192])
def test_metadata_that_is_no_base64_or_no_utf8_or_too_long_is_refused(text: str) -> None:
    with pytest.raises(RequestInvalidError):
        parse_metadata(text)


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "0x1", "1" * 19, "٣"])
def test_only_digits_are_a_number_of_bytes(text: str) -> None:
    with pytest.raises(RequestInvalidError):
        parse_count(text, "Upload-Length")
    assert parse_count("0012", "Upload-Length") == 12


def test_a_checksum_has_64_hexadecimal_digits() -> None:
    digest = "AB" * 32
    assert parse_offer("a.tar", 1, sha256=f"sha256:{digest}") == Offer("a.tar", 1, digest.lower())
    with pytest.raises(RequestInvalidError):
        parse_offer("a.tar", 1, sha256="ab")


@pytest.mark.parametrize(
    ("text", "replaces"), [("1", True), ("on", True), ("", False), ("no", False)]
)
def test_a_file_is_replaced_only_if_the_client_says_so(text: str, replaces: int) -> None:
    assert parse_offer("a.tar", None, replace=text).replace == bool(replaces)
