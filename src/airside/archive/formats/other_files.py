"""Tells by their first bytes files that are neither tar nor compressed, and what to do. Pure.

Called only for what is rejected anyway: a guess here never decides what is imported.
"""

import codecs
import re
from dataclasses import dataclass

from airside.archive.formats.text import UTF_16
from airside.archive.formats.unsupported import TEXT, is_text

HEAD_BYTES = 36 * 1024
"""Bytes at the beginning of a file that tell its kind: an ISO 9660 has its mark behind 32 KiB."""

_DECRYPT = "decrypt it, and drop the archive that was in it"
_EXPORT = "it holds a machine or a file system, no image of a container"
_NO_IMAGES = "images are read from tar archives"
_AGAIN = "the download got this instead of the file: download it again"


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a file is, by the pattern at an offset, and what to do."""

    what: str
    advice: str
    pattern: re.Pattern[bytes]
    offset: int = 0


def _kind(what: str, advice: str, pattern: bytes, offset: int = 0) -> _Kind:
    return _Kind(what, advice, re.compile(pattern, re.DOTALL), offset)


_KINDS = (
    _kind("encrypted with age", _DECRYPT, rb"age-encryption\.org/v|-----BEGIN AGE ENCRYPTED"),
    _kind("encrypted with PGP", _DECRYPT, rb"-----BEGIN PGP MESSAGE-----"),
    # a session key for a recipient (version 3) or by a passphrase (version 4 to 6), RFC 9580
    _kind(
        "encrypted with PGP", _DECRYPT, rb"\x84.[\x03\x06]|\x85..[\x03\x06]|\xc1.{1,2}[\x03\x06]"
    ),
    _kind("encrypted with PGP", _DECRYPT, rb"\x8c.[\x04-\x06]|\xc3.[\x04-\x06]"),
    _kind("encrypted with OpenSSL", _DECRYPT, rb"Salted__|U2FsdGVkX1"),
    _kind("encrypted with Ansible Vault", _DECRYPT, rb"\$ANSIBLE_VAULT;"),
    _kind("encrypted with AES Crypt", _DECRYPT, rb"AES[\x00-\x03]\x00"),
    _kind("an encrypted disk (LUKS)", _DECRYPT, rb"LUKS\xba\xbe"),
    _kind("an ISO image of a disk", _EXPORT, rb"CD001", 32769),
    _kind("the image of a disk (qcow2)", _EXPORT, rb"QFI\xfb"),
    _kind("the image of a disk (VMDK)", _EXPORT, rb"KDMV|COWD|# Disk DescriptorFile"),
    _kind("the image of a disk (VHDX)", _EXPORT, rb"vhdxfile"),
    _kind("the image of a disk (VHD)", _EXPORT, rb"conectix"),
    _kind("the image of a disk (VDI)", _EXPORT, rb"\x7f\x10\xda\xbe", 64),
    _kind("the image of a disk (GPT)", _EXPORT, rb"EFI PART", 512),
    _kind("the image of a disk (MBR)", _EXPORT, rb"\x55\xaa", 510),
    _kind("an ext file system", _EXPORT, rb"\x53\xef", 1080),
    _kind("an EROFS file system", _EXPORT, rb"\xe2\xe1\xf5\xe0", 1024),
    _kind("an XFS file system", _EXPORT, rb"XFSB"),
    _kind("a squashfs file system", _EXPORT, rb"hsqs|sqsh"),
    _kind("a Windows program", _NO_IMAGES, rb"MZ.{58}"),
    _kind(
        "a pointer of Git LFS, not the file itself",
        "run `git lfs pull`, and copy the file",
        (rb"version https://(git-lfs\.github\.com|hawser\.github\.com)/spec/"),
    ),
    _kind(
        "a pointer of git-annex, not the file itself",
        "run `git annex get`, and copy the file",
        (rb"/annex/objects/"),
    ),
    _kind("a web page (HTML)", _AGAIN, rb"\s*(<!--.{0,500}-->\s*)?(?i:<(!doctype|html|head|body))"),
    _kind("an answer of a server, not the file", _AGAIN, rb"HTTP/[12][. ]"),
    _kind("an error message in XML", _AGAIN, rb"\s*(<\?xml[^>]*>\s*)?<(Error|error|Fault)\b"),
    _kind(
        "an error message in JSON",
        _AGAIN,
        (
            rb'\s*\{\s*"(errors?|message|code|detail|details|status|statusCode|error_description)"\s*:'
        ),
    ),
    _kind(
        "the text of an error",
        _AGAIN,
        (
            rb"\s*((HTTP )?(Error )?[45]\d\d\b|(?i:not found|forbidden|access denied|unauthorized|"
            rb"bad gateway|gateway time-?out|service unavailable|no healthy upstream|error code:))"
            rb"[^\0]{0,200}\Z"
        ),
    ),
    _kind("a Debian package, or another archive of `ar`", _NO_IMAGES, rb"!<arch>\n"),
    _kind("gzip data in base64", "decode it with `base64 -d`", rb"H4sI[A-Za-z0-9+/\r\n]{60}"),
)
_PROGRAM = re.compile(rb"#!")
_REDIRECTED = (
    "text in UTF-16: PowerShell wrote it, which damages the output of a program that it redirects: "
    "let the program write the file itself (`docker save -o FILE`)"
)


def describe_other(head: bytes) -> str:
    """Returns what a file is that is neither a tar nor compressed, and what to do; or ""."""
    text = head.removeprefix(codecs.BOM_UTF8)
    for kind in _KINDS:
        if kind.pattern.match(head if kind.offset else text, kind.offset):
            return f"the file is {kind.what}: {kind.advice}"
    if head.startswith(UTF_16):
        return f"the file is {_REDIRECTED}"
    return TEXT if is_text(head) and not _PROGRAM.match(head) else ""
