"""What JSON may ask of the parser, and what it takes to find out."""

import json

import pytest

from airside.core.errors import ManifestInvalidError
from airside.oci import strict_json
from airside.oci.strict_json import count_tokens, load_json, parsed_bytes


@pytest.mark.parametrize(
    "raw",
    [
        b"[" + b"[]," * 300_000 + b"[]]",
        b"[" + b"1," * 300_000 + b"1]",
        b"[" * 300_000,
        b'{"a":' * 300_000,
        b'["' + b'\\"' * 10 + b'"' + b',""' * 300_000 + b"]",
        b'"",' * 300_000,
    ],
    ids=lambda raw: repr(raw[:12]),
)
def test_a_document_of_too_many_tokens_never_reaches_the_parser(raw, monkeypatch):
    def parse(*_args, **_more):
        raise AssertionError("it was parsed")

    monkeypatch.setattr(strict_json.json, "loads", parse)
    with pytest.raises(ManifestInvalidError, match=r"the document.*limits\.names"):
        load_json(raw, "the document")


def test_marks_inside_strings_are_no_tokens():
    text = '[{,"' * 100_000 + "\\"
    raw = json.dumps({"created_by": text}).encode()
    assert count_tokens(raw, strict_json.MAX_TOKENS) == 3  # the object, its key and its value
    assert load_json(raw, "x")["created_by"] == text
    assert count_tokens(b'{"a":["b",1,{}]}', 0) >= 1
    assert load_json(b"[" + b"1," * 300_000 + b"1]", "x", max_tokens=None)


@pytest.mark.parametrize("text", ["9" * 101, "-" + "9" * 101, "1." + "0" * 101, "0." + "0" * 5000])
def test_a_number_of_more_than_a_hundred_digits_is_refused(text):
    with pytest.raises(ManifestInvalidError, match="digits"):
        load_json(f"[{text}]".encode(), "x")


def test_the_memory_of_a_document_counts_wide_texts_and_small_values():
    narrow, wide = b'["' + b"x" * 1000 + b'"]', '["\U0001f600'.encode() + b"x" * 1000 + b'"]'
    assert parsed_bytes(wide) > 3 * parsed_bytes(narrow)
    assert parsed_bytes(b'["\\ud83d\\ude00' + b"x" * 1000 + b'"]') > 2 * parsed_bytes(narrow)
    assert parsed_bytes(b"[" + b"[]," * 1000 + b"[]]") > 100_000
