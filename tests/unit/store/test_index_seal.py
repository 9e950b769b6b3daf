"""The generation in `index.json`: of a sealed file, of one of an earlier version, of a damaged."""

import pytest

from airside.store.index_seal import index_generation, sealed

HEAD = b'{"schemaVersion":2,"manifests":[\n'
TAIL = b'\n],"annotations":{"dev.airside.generation":"7"'


@pytest.mark.parametrize("entries", [b"", b'{"a":"]"},\n{}', b"never parsed"])
def test_the_generation_of_a_sealed_file_needs_none_of_its_entries(entries: bytes) -> None:
    assert index_generation(sealed(HEAD + entries + TAIL)) == 7


def test_a_file_of_an_earlier_version_is_parsed_whole() -> None:
    assert index_generation(HEAD + b"{}" + TAIL + b"}}\n") == 7
    assert index_generation(HEAD + b"no JSON" + TAIL + b"}}\n") == -1


def test_a_changed_byte_of_a_sealed_file_is_noticed() -> None:
    raw = sealed(HEAD + b"{}" + TAIL)
    assert index_generation(raw.replace(b'"7"', b'"8"')) == -1
    assert index_generation(None) == index_generation(b"") == -1
