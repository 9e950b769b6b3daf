"""Says which files beside archives are none: checksums, signatures, certificates, notes. Pure.

A file is a companion by its name, as the tools that write it name it, or by its first bytes. What
always holds: a file that begins as a tar or as compressed data is an archive whatever its name, and
a name that ends as those of archives is never ignored, so that a damaged archive is told.
"""

import re

from airside.archive.formats.checksums import is_checksums_name, parse_checksums
from airside.archive.formats.image_list import is_tar
from airside.archive.formats.text import decode_text
from airside.archive.tar.compression import compression_name

CHECKSUMS = "a list of checksums"
HEAD_BYTES = 4096
"""Bytes at the beginning of a file from which its kind is told."""

ARCHIVE_SUFFIXES = (
    *(".tar", ".gz", ".tgz", ".zst", ".tzst", ".zstd", ".lz4", ".tlz4"),
    *(".bz2", ".tbz", ".tbz2", ".xz", ".txz"),
)

_SIGNATURE = "a signature or an attestation"
_CERTIFICATE = "a certificate or a key"
_TEXT = "a text for people"
_SETTINGS = "settings or a script"
_DOWNLOAD = "the record of a download"
_SBOM = "a list of contents (SBOM)"
_DESKTOP = "a file of the desktop"
_ORIGIN = "the mark of Windows on a downloaded file"

_SUFFIXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (_SIGNATURE, (".asc", ".sig", ".sign", ".signature", ".minisig", ".p7s", ".p7b")),
    (_SIGNATURE, (".sigstore", ".bundle", ".cosign", ".intoto.jsonl", ".att", ".tsr", ".tsq")),
    (_SIGNATURE, (".sigstore.json", ".provenance", ".rekor")),
    (_CERTIFICATE, (".pem", ".crt", ".cer", ".der", ".key", ".pub", ".csr", ".crl", ".p12")),
    (_SBOM, (".spdx", ".spdx.json", ".cdx.json", ".cdx", ".sbom", ".sbom.json", ".cdx.xml")),
    (_SETTINGS, (".json", ".jsonl", ".yaml", ".yml", ".toml", ".ini", ".conf", ".cfg", ".xml")),
    (_SETTINGS, (".env", ".properties", ".sh", ".bash", ".ps1", ".bat", ".cmd", ".service", ".py")),
    (
        _DOWNLOAD,
        (".aria2", ".torrent", ".metalink", ".meta4", ".zsync", ".st", ".lftp-pget-status"),
    ),
    (_TEXT, (".md", ".markdown", ".rst", ".adoc", ".nfo", ".log", ".pdf", ".rtf", ".doc", ".docx")),
    (_DESKTOP, (".lnk", ".url", ".webloc", ".desktop")),
    (_ORIGIN, (":zone.identifier", ".zone.identifier")),
)
_NAMES = {
    "desktop.ini": _DESKTOP,
    "thumbs.db": _DESKTOP,
    "ehthumbs.db": _DESKTOP,
    "autorun.inf": _DESKTOP,
    "icon\r": _DESKTOP,
}
_NOTES = re.compile(
    r"(readme|read[_-]me|licen[cs]e|copying|copyright|notice|changelog|release[_-]?notes|eula)"
    r"([._-][a-z]{2})?(\.[a-z]{1,4})?",
    re.IGNORECASE,
)
_HEADS: tuple[tuple[str, re.Pattern[str]], ...] = (
    (_SIGNATURE, re.compile(r"-----BEGIN (PGP SIGNATURE|SIGNATURE|PKCS7|CMS|SSH SIGNATURE)")),
    (_CERTIFICATE, re.compile(r"-----BEGIN (?!PGP MESSAGE|AGE )")),
    (_SIGNATURE, re.compile(r"untrusted comment:")),
    (_ORIGIN, re.compile(r"\s*\[ZoneTransfer\]")),
    (_DESKTOP, re.compile(r"\s*\[(\.ShellClassInfo|InternetShortcut|Desktop Entry)\]")),
)


def companion_of(name: str, head: bytes) -> str:
    """Returns what kind of companion a file is, by its name and first bytes; "" for an archive."""
    lower = name.lower()
    if lower.endswith(ARCHIVE_SUFFIXES) or is_tar(head) or compression_name(head):
        return ""
    return _by_name(name, lower) or _by_content(name, head)


def _by_name(name: str, lower: str) -> str:
    if lower in _NAMES:
        return _NAMES[lower]
    for kind, suffixes in _SUFFIXES:
        if lower.endswith(suffixes):
            return kind
    if is_checksums_name(name):
        return CHECKSUMS
    return _TEXT if _NOTES.fullmatch(name) else ""


def _by_content(name: str, head: bytes) -> str:
    text = decode_text(head)
    if text is None:
        return ""
    for kind, pattern in _HEADS:
        if pattern.match(text):
            return kind
    whole = head if len(head) < HEAD_BYTES else head[: head.rfind(b"\n") + 1]
    return CHECKSUMS if parse_checksums(whole, name) else ""
