"""Parses lists of checksums: `sha256sum` and its siblings, BSD's form, OpenSSL's, certutil's. Pure.

What always holds: a text is a list of checksums only if most of its lines are; a digest counts for
each algorithm that it may be by its length, unless the line or the list's name says which one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from airside.archive.formats.text import decode_text

LONGEST_BYTES = 1 << 20
"""More than a list of 10,000 checksums has; a longer file is none."""

_BY_LENGTH: dict[int, tuple[str, ...]] = {
    32: ("md5",),
    40: ("sha1",),
    56: ("sha224",),
    64: ("sha256",),
    96: ("sha384",),
    128: ("sha512", "blake2b"),
}
_SPELLINGS = {
    "md5": "md5",
    "sha1": "sha1",
    "sha224": "sha224",
    "sha256": "sha256",
    "sha384": "sha384",
    "sha512": "sha512",
    "sha2224": "sha224",
    "sha2256": "sha256",
    "sha2384": "sha384",
    "sha2512": "sha512",
    "blake2b": "blake2b",
    "blake2b512": "blake2b",
    "b2": "blake2b",
}
"""Names of algorithms as the forms write them, without `-` and `_`."""
_HEX = r"(?P<digest>[0-9A-Fa-f]{32,128})"
_FORMS = (
    re.compile(rf"(?P<algorithm>[A-Za-z0-9/_-]+) ?\((?P<name>.+)\) ?= ?{_HEX}"),  # BSD, OpenSSL
    re.compile(rf"(?P<algorithm>(?:MD|SHA)[0-9]+)[ \t]+{_HEX}[ \t]+(?P<name>\S.*)"),  # Get-FileHash
    re.compile(rf"\\?{_HEX}(?:[ \t]+[*?^]?|[*])(?P<name>\S.*)"),  # coreutils, with `*` for binary
    re.compile(  # as registries write digests
        rf"(?P<algorithm>(?:md|sha)-?[0-9]+|blake2b):{_HEX}(?:[ \t]+[*]?(?P<name>\S.*))?",
        re.IGNORECASE,
    ),
    re.compile(_HEX),  # alone, in a file that is named after the other
)
_LONGEST_LINE = 1000
_CERTUTIL = re.compile(r"(?P<algorithm>(?:MD|SHA)[0-9]+) hash of (?:file )?(?P<name>.+):")
_SPACED_HEX = re.compile(r"(?:[0-9A-Fa-f]{2} ){15,63}[0-9A-Fa-f]{2}")
_NO_SUM = re.compile(r"[#;]|-----|Hash: |CertUtil:|Algorithm\s+Hash|[-\s]+$|Path\s*:|\s*$")
_ARMOUR = "-----BEGIN PGP SIGNATURE-----"
_SUM_IN_NAME = re.compile(
    r"(?<![a-z])(?P<algorithm>md5|sha-?1|sha-?224|sha-?256|sha-?384|sha-?512|blake2b?|blake3|blake2s|b2|b3|"
    r"sha3|crc32|cksum|sfv)(?:sums?)?(?![0-9])",
    re.IGNORECASE,
)
_SUFFIX = re.compile(
    r"[._-](?:md5|sha-?(?:1|224|256|384|512)|b2|b3|blake2b?|blake3|sum|digest|checksum)"
    r"(?:sums?|s)?(?:\.txt)?$",
    re.IGNORECASE,
)
_OF_CHECKSUMS = re.compile(
    r".*[._-](?:(?:md5|sha-?[0-9]{1,3}|sha3-?[0-9]*|b2|b3|blake2[bs]?|blake3|crc32|ck)(?:sums?)?"
    r"|sums?|checksums?|digests?|sfv)"
    r"|(?:md5|sha[0-9]{0,3}|b2|b3|blake2b?|blake3|ck|check)[_-]?sums?(?:[._-].*)?"
    r"|checksum[._-].*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Checksum:
    """A line: the digest in lower case, the algorithms that it may be of, and the file's name.

    `name` is empty for a digest alone. No algorithms: one that is not known here.
    """

    algorithms: tuple[str, ...]
    digest: str
    name: str

    def is_of(self, file_name: str, list_name: str) -> bool:
        """Returns True if the line is about this file beside the list, in whatever directory."""
        return self.file_name(list_name) == file_name

    def file_name(self, list_name: str) -> str:
        """Returns the name of the file beside the list that the line is about, without a path."""
        if not self.name:
            return _SUFFIX.sub("", list_name)
        return re.split(r"[/\\\0]", self.name)[-1]


def is_checksums_name(name: str) -> bool:
    """Returns True if a file of this name holds checksums, as people and tools name them."""
    return bool(_OF_CHECKSUMS.fullmatch(name.removesuffix(".txt").removesuffix(".TXT")))


def parse_checksums(data: bytes, list_name: str) -> tuple[Checksum, ...]:
    """Returns the checksums of a list; none if the text is no such list. Never raises."""
    text = decode_text(data[:LONGEST_BYTES])
    if text is None:
        return ()
    said = _algorithm(_SUM_IN_NAME, list_name)
    found, others = [], 0
    for line in _lines(text):
        checksum = _parse_line(line, said)
        if checksum is None:
            others += 1
        else:
            found.append(checksum)
    if others >= len(found):
        return ()
    if any(not each.name for each in found) and len(found) > 1:  # digests of nothing
        found = [each for each in found if each.name]
    return tuple(found)


def _algorithm(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return match["algorithm"] if match else None


def _lines(text: str) -> Iterator[str]:
    """Yields the lines that may be checksums; certutil's two lines as one of BSD's form."""
    title = None
    for raw in text.split(_ARMOUR, maxsplit=1)[0].splitlines():
        line = raw.strip()
        begun = _CERTUTIL.fullmatch(line)
        if begun:
            title = begun
            continue
        if _NO_SUM.match(line):
            continue
        if title is not None:
            digest = line.replace(" ", "") if _SPACED_HEX.fullmatch(line) else line
            line, title = f"{title['algorithm']} ({title['name']}) = {digest}", None
        yield line


def _parse_line(line: str, said: str | None) -> Checksum | None:
    if len(line) > _LONGEST_LINE:
        return None
    first, _, last = line.rpartition(" ")
    if first and len(last) in _BY_LENGTH and re.fullmatch(_HEX, last) and "(" not in first:
        line = f"{last}  {first.rstrip(' :=')}"  # the name first
    for form in _FORMS:
        match = form.fullmatch(line)
        if match is None:
            continue
        groups = match.groupdict()
        digest = groups["digest"].lower()
        if len(digest) not in _BY_LENGTH:
            continue
        name = (groups.get("name") or "").strip()
        name = "" if name == "-" else name  # of the standard input
        return Checksum(_algorithms(digest, groups.get("algorithm") or said), digest, name)
    return None


def _algorithms(digest: str, said: str | None) -> tuple[str, ...]:
    by_length = _BY_LENGTH[len(digest)]
    if said is None:
        return by_length
    spelled = _SPELLINGS.get(re.sub(r"[/_-]", "", said.lower()))
    if spelled == "blake2b" and len(digest) != 128:
        return ()
    if spelled is None:
        return ()
    return (spelled,) if spelled in by_length else by_length
