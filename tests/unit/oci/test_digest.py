"""Digests: text and value, and what is no digest."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airside.core.errors import DigestInvalidError
from airside.oci.digest import Digest, digest_of, is_digest, new_hasher, parse_digest

GOOD = [f"sha256:{'0a' * 32}", f"sha512:{'f9' * 64}"]
BAD = [
    "",
    "sha256",
    "sha256:",
    f"sha256:{'0a' * 31}",
    f"sha256:{'0a' * 33}",
    f"sha256:{'0A' * 32}",
    f"sha256:{'0g' * 32}",
    f"sha256:{'0a' * 32}\n",
    f" sha256:{'0a' * 32}",
    f"sha256:{chr(0x0663) * 64}",  # digits, but not those of ASCII
    f"sha512:{'0a' * 32}",
    f"sha384:{'0a' * 48}",
    f"SHA256:{'0a' * 32}",
    f"sha256+b64:{'0a' * 32}",
    "../../../etc/passwd",
    f"sha256:../{'a' * 61}",
]


@pytest.mark.parametrize("text", GOOD)
def test_text_and_value_are_the_same(text):
    digest = parse_digest(text)
    assert str(digest) == text
    assert parse_digest(str(digest)) == digest
    assert is_digest(text)
    assert digest.short == text[:19]


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_digest_is_refused(text):
    assert not is_digest(text)
    with pytest.raises(DigestInvalidError) as caught:
        parse_digest(text)
    assert caught.value.context["found"] == text[:200]


@pytest.mark.parametrize("value", [None, 3, b"sha256:", [], {}])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(DigestInvalidError):
        parse_digest(value)


@given(st.from_regex(r"(sha256|sha512|md5)?:?[0-9a-fA-F]{60,66}", fullmatch=True) | st.text())
def test_a_text_that_is_accepted_is_given_back(text):
    if is_digest(text):
        assert str(parse_digest(text)) == text


@given(st.binary(max_size=3000), st.sampled_from(["sha256", "sha512"]), st.integers(1, 700))
def test_any_chunking_gives_the_same_digest(data, algorithm, size):
    hasher = new_hasher(algorithm)
    for start in range(0, len(data), size):
        hasher.update(memoryview(data)[start : start + size])
    assert Digest(algorithm, hasher.hexdigest()) == digest_of(data, algorithm)
    assert digest_of(data, algorithm).hex == hashlib.new(algorithm, data).hexdigest()


def test_digests_are_ordered_by_their_text():
    digests = [digest_of(bytes([n]), alg) for n in range(5) for alg in ("sha512", "sha256")]
    assert sorted(digests) == sorted(digests, key=str)
