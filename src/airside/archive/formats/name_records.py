"""Compares the texts by which the records of an archive name an image. Pure (ADR 0032).

Tools write one name in several forms: without its registry, as a tag alone, with a digest, with the
transport of a tool. Damage is what one flipped bit makes of a text: another text of the same length
that differs in a few bits. Everything else that differs was written so.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from airside.core.errors import ReferenceInvalidError
from airside.oci.digest import Digest
from airside.oci.reference import Reference, is_image_id, is_tag, looks_like_host, parse_reference

_FEW_BITS = 3
_MOST_PAIRS = 1_024
_ENDS = 4
"""Characters at each end of a text; one flipped bit leaves those of one end as they were."""
_SEPARATORS = "/:@"
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)\Z", re.DOTALL)
_PREFIX = re.compile(r"(docker-daemon|containers-storage|oci-archive|docker-archive|oci|dir|sif):")
_STORAGE_OPTIONS = re.compile(r"\[[^\]]*\]")
_OF_REGISTRIES = frozenset(
    {"docker", "registry", "reg", "oci", "https", "http", "docker-daemon", "containers-storage"}
)
"""Transports after which a name follows."""
_OF_PATHS = frozenset(
    {
        "ocidir",
        "ocifile",
        "file",
        "dir",
        "sif",
        "tarball",
        "ostree",
        "oci-archive",
        "docker-archive",
    }
)
"""Transports after which a path follows, with a tag perhaps; so it is for unknown ones."""
_OBJECT = re.compile(r"[:@][^/]*\Z")


@dataclass(frozen=True, slots=True)
class NameText:
    """The meaning of one text: a whole name, only a tag, or nothing (an image ID, a path)."""

    text: str
    reference: Reference | None = None
    tag: str = ""

    @property
    def has_registry(self) -> bool:
        """True if the text itself says the registry, which readers then need not guess."""
        host, slash, _ = self.text.partition("/")
        return self.reference is not None and bool(slash) and looks_like_host(host)


def read_name(text: str, *, may_be_tag: bool) -> NameText:
    """Read a name; `may_be_tag`: a text without `/`, `:` and `@` is a tag, not a repository.

    Raises ReferenceInvalidError.
    """
    if not text or is_image_id(text.removeprefix("@")):
        return NameText(text)
    if may_be_tag and not any(mark in text for mark in _SEPARATORS):
        return NameText(text, tag=text)
    try:
        return NameText(text, parse_reference(text))
    except ReferenceInvalidError:
        found = _without_transport(text)
        if found is None:
            raise
        return found


def _without_transport(text: str) -> NameText | None:
    """Returns the name after a transport (`docker://`, `ocidir://`, `oci-archive:`), if any."""
    found = _SCHEME.match(text)
    if found is not None:
        transport, rest = found[1], found[2]
        if key_is_damaged([transport], _OF_REGISTRIES | _OF_PATHS):
            return None
    else:
        prefix = _PREFIX.match(text)
        if prefix is None:
            return None
        transport, rest = prefix[1], text[prefix.end() :].removeprefix("//")
    rest = _STORAGE_OPTIONS.sub("", rest, count=1)
    if transport in _OF_REGISTRIES and (transport != "oci" or found is not None):
        return NameText(rest, parse_reference(rest))
    path, colon, tag = rest.rpartition(":")
    return NameText(rest, tag=tag if colon and path and is_tag(tag) else "")


def is_form_of(short: str, name: str) -> bool:
    """Returns True if the text is a name, or the end of that name after a separator."""
    if short == name or short == object_of(name):
        return True
    return name.endswith(short) and name[-len(short) - 1] in _SEPARATORS


def object_of(name: str) -> str:
    """Returns the part after the repository, as containerd writes it: a tag, `@digest`, or both."""
    found = _OBJECT.search(name)
    return found[0].removeprefix(":") if found else ""


def may_be_flipped(one: str, other: str) -> bool:
    """Returns True if two texts are so near that a flipped bit may have made one of the other.

    The shorter may be the end of the longer, as a tag is of its name.
    """
    short, long = sorted((one, other), key=len)
    if not short:
        return False
    tail = long[-len(short) :]
    if (
        len(short) >= 2 * _ENDS
        and short[:_ENDS] != tail[:_ENDS]
        and short[-_ENDS:] != tail[-_ENDS:]
    ):
        return _lost_escape(short, long)
    bits = _bits(short, tail)
    if len(short) < len(long) and short[0] not in _SEPARATORS:
        bits += _bits_from_separator(long[-len(short) - 1])
    return 0 < bits <= _FEW_BITS or _lost_escape(short, long)


def lost_separator(short: str, long: str) -> bool:
    """Returns True if a text ends another one, but what is before it may be a damaged separator."""
    if not short or len(short) >= len(long) or not long.endswith(short):
        return False
    return 0 < _bits_from_separator(long[-len(short) - 1]) <= _FEW_BITS


def _bits_from_separator(mark: str) -> int:
    return min(_bits(mark, each) for each in _SEPARATORS)


def _bits(one: str, other: str) -> int:
    return (_number(one) ^ _number(other)).bit_count()


def _number(text: str) -> int:
    return int.from_bytes(text.encode("utf-32-le", "surrogatepass"), "little")


def _lost_escape(short: str, long: str) -> bool:
    r"""Returns True if a letter before a slash became a backslash: JSON reads `\/` as `/`."""
    return len(short) + 1 == len(long) and any(
        long[n] in "TLX" and long[n + 1] == "/" and long[:n] + long[n + 1 :] == short
        for n in range(len(long) - 1)
    )


def flipped_pairs(
    ones: Sequence[tuple[str, ...]], others: Sequence[tuple[str, ...]]
) -> list[tuple[int, int]]:
    """Returns the positions of names that may be one another with a flipped bit, each at most once.

    Each name is given by its forms: as it is written, and normalised. At most `_MOST_PAIRS` are
    compared: a flipped bit changes one name, so that one of the two lists is short.
    """
    pairs: list[tuple[int, int]] = []
    left = dict(enumerate(others[: max(1, _MOST_PAIRS // max(1, len(ones)))]))
    for n, one in enumerate(ones[:_MOST_PAIRS]):
        for m, other in left.items():
            if any(may_be_flipped(a, b) for a in one for b in other):
                pairs.append((n, m))
                del left[m]
                break
    return pairs


def is_flipped_digest(one: Digest, other: Digest) -> bool:
    """Returns True if two different digests are so near that one is the other, damaged."""
    return one.algorithm == other.algorithm and may_be_flipped(one.hex, other.hex)


def key_is_damaged(keys: Iterable[str], known: Collection[str]) -> bool:
    """Returns True if a key or other word may be a known one with a flipped bit."""
    return any(
        key not in known and len(key) == len(each) and 0 < _bits(key, each) <= _FEW_BITS
        for key in keys
        for each in known
    )
