import gzip
import tarfile

import pytest

from airside.archive.formats.companions import CHECKSUMS, HEAD_BYTES, companion_of

LINE = b"aa" * 32 + b"  images.tar\n"


@pytest.mark.parametrize(
    "name",
    [
        *("images.tar.asc", "images.tar.sig", "images.tar.minisig", "images.tar.pem", "ca.crt"),
        *("images.tar.aria2", "images.tar.torrent", "images.tar:Zone.Identifier", "desktop.ini"),
        *("README", "README.md", "README.de.txt", "LICENSE", "registries.yaml", "sbom.spdx.json"),
        *("Thumbs.db", "cosign.pub", "install.sh", "SHA256SUMS", "sha256sum-amd64.txt", "a.md5"),
    ],
)
def test_companions_are_known_by_their_names(name):
    assert companion_of(name, b"whatever\n")


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("hashes.txt", LINE),
        ("hashes.txt", LINE.decode().encode("utf-16")),
        ("hashes", LINE * 100),
        ("ca", b"-----BEGIN CERTIFICATE-----\nAAAA\n"),
        ("x.tar.signed", b"-----BEGIN PGP SIGNATURE-----\n\niQEz\n"),
        ("x.minisign", b"untrusted comment: signature\nRWQ\n"),
        ("mark", b"[ZoneTransfer]\r\nZoneId=3\r\n"),
    ],
)
def test_companions_are_known_by_their_first_bytes(name, head):
    assert companion_of(name, head)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("images.tar", LINE),
        ("images.tar.zst", b"-----BEGIN CERTIFICATE-----\n"),
        ("images.json", gzip.compress(b"x", mtime=0)),
        ("README", tarfile.TarInfo("a").tobuf()),
        ("images.txt", b"docker.io/library/a:1\n"),
        ("license-server-images.txt", b"docker.io/library/a:1\n"),
        ("images", b"docker.io/library/a:1\n"),
        ("secret", b"-----BEGIN PGP MESSAGE-----\n"),
        ("noending", b""),
    ],
)
def test_what_may_be_an_archive_or_a_list_is_no_companion(name, head):
    assert companion_of(name, head) == ""


def test_a_list_that_is_longer_than_the_first_bytes_is_known():
    assert companion_of("hashes.txt", (LINE * 1000)[:HEAD_BYTES]) == CHECKSUMS
