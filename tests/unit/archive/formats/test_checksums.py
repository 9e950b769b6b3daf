import pytest
from hypothesis import given
from hypothesis import strategies as st

from airside.archive.formats.checksums import (
    LONGEST_BYTES,
    Checksum,
    is_checksums_name,
    parse_checksums,
)

MD5, SHA1, SHA256, SHA512 = ("0123456789abcdef" * 8)[:32], "ab" * 20, "cd" * 32, "ef" * 64


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("SHA256SUMS", f"{SHA256}  images.tar\n", ("sha256", SHA256, "images.tar")),
        ("SHA256SUMS", f"{SHA256} *images.tar\r\n", ("sha256", SHA256, "images.tar")),
        ("SHA256SUMS", f"{SHA256} *./a/images.tar", ("sha256", SHA256, "./a/images.tar")),
        ("SHA256SUMS", f"\\{SHA256}  a\\\\b.tar\n", ("sha256", SHA256, "a\\\\b.tar")),
        ("x.txt", f"{SHA256.upper()}  a b.tar\n", ("sha256", SHA256, "a b.tar")),
        ("x.txt", f"# made today\n\n{SHA1}  a.tar\n", ("sha1", SHA1, "a.tar")),
        ("x.txt", f"a.tar: {SHA256}\n", ("sha256", SHA256, "a.tar")),
        ("x.txt", f"MD5 (a (1).tar) = {MD5}\n", ("md5", MD5, "a (1).tar")),
        ("x.txt", f"SHA2-256(a.tar)= {SHA256}\n", ("sha256", SHA256, "a.tar")),
        ("x.txt", f"SHA256(a.tar)= {SHA256}\n", ("sha256", SHA256, "a.tar")),
        ("x.txt", f"BLAKE2b (a.tar) = {SHA512}\n", ("blake2b", SHA512, "a.tar")),
        ("B2SUMS", f"{SHA512}  a.tar\n", ("blake2b", SHA512, "a.tar")),
        ("a.tar.sha512", f"{SHA512}  a.tar\n", ("sha512", SHA512, "a.tar")),
        ("a.tar.sha256", f"{SHA256}\n", ("sha256", SHA256, "")),
        (
            "x.txt",
            f"SHA256 hash of a.tar:\r\n{SHA256}\r\nCertUtil: -hashfile command completed.\r\n",
            ("sha256", SHA256, "a.tar"),
        ),
        (
            "x.txt",
            f"Algorithm  Hash  Path\r\n---------  ----  ----\r\nSHA256  {SHA256}  C:\\d\\a.tar\r\n",
            ("sha256", SHA256, "C:\\d\\a.tar"),
        ),
        (
            "SHA256SUMS.asc",
            (
                f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{SHA256}  a.tar\n"
                "-----BEGIN PGP SIGNATURE-----\n\niQEz\n=abcd\n-----END PGP SIGNATURE-----\n"
            ),
            ("sha256", SHA256, "a.tar"),
        ),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_each_form_of_a_line_is_read(name, text, found, encoding):
    algorithm, digest, file = found
    assert parse_checksums(text.encode(encoding), name) == (Checksum((algorithm,), digest, file),)


def test_a_digest_of_an_unknown_algorithm_is_compared_with_nothing():
    [checksum] = parse_checksums(f"{SHA256}  a.tar\n".encode(), "a.tar.b3")
    assert checksum.algorithms == ()
    [checksum] = parse_checksums(f"BLAKE3 (a.tar) = {SHA256}\n".encode(), "sums.txt")
    assert checksum.algorithms == ()


def test_a_digest_that_two_algorithms_may_have_made_counts_for_both():
    [checksum] = parse_checksums(f"{SHA512}  a.tar\n".encode(), "checksums.txt")
    assert checksum.algorithms == ("sha512", "blake2b")


@pytest.mark.parametrize(
    ("name", "list_name", "is_of"),
    [
        ("a.tar", "SHA256SUMS", True),
        ("./a.tar", "SHA256SUMS", True),
        ("/build/dist/a.tar", "SHA256SUMS", True),
        ("C:\\build\\a.tar", "SHA256SUMS", True),
        ("aa.tar", "SHA256SUMS", False),
        ("", "a.tar.sha256", True),
        ("", "a.tar.sha256sum", True),
        ("", "a.tar.sha256.txt", True),
        ("", "b.tar.sha256", False),
    ],
)
def test_a_line_is_about_the_file_of_its_name_in_whatever_directory(name, list_name, is_of):
    assert Checksum(("sha256",), SHA256, name).is_of("a.tar", list_name) == is_of


@pytest.mark.parametrize(
    "text",
    [
        "",
        "docker.io/library/a:1\n",
        f"docker.io/library/a@sha256:{SHA256}\n",
        f"{SHA256}  a.tar\nwhat is\nthis\n",
        "a" * 5000,
        "x " * 5000 + SHA256,
        "x\0y",
    ],
)
def test_another_text_is_no_list_of_checksums(text):
    assert parse_checksums(text.encode(), "x.txt") == ()


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode), st.text(max_size=20))
def test_no_bytes_raise(data, name):
    assert len(parse_checksums(data, name)) <= 300


def test_a_huge_text_is_read_to_its_bound():
    line = f"{SHA256}  a.tar\n".encode()
    assert len(parse_checksums(line * 40_000, "x")) <= LONGEST_BYTES // len(line) + 1


@pytest.mark.parametrize(
    "name",
    [
        *("sha256sum-amd64.txt", "checksums.txt", "SHA256SUMS", "MD5SUMS", "B2SUMS", "a.tar.sha1"),
        *("a.tar.sha256", "a.tar.sha256sum", "a.tar.md5sum", "a.tar.sha256.txt", "a.tar.sfv"),
        *("CHECKSUMS", "checksum.sha256", "a-checksums.txt", "a.tar.digest", "a_SHA512SUMS"),
    ],
)
def test_names_of_lists_of_checksums_are_known(name):
    assert is_checksums_name(name)


@pytest.mark.parametrize("name", ["images.txt", "a.tar", "sum", "consumer.txt", "assumptions.txt"])
def test_other_names_are_not(name):
    assert not is_checksums_name(name)
