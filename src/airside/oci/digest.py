"""Digests: `algorithm:hex`, as the OCI image spec defines them (descriptor.md, "Digests").

Only registered algorithms are accepted, so that a digest can always be checked.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from airside.core.errors import DigestInvalidError

BytesLike: TypeAlias = bytes | bytearray | memoryview

HEX_LENGTHS = {"sha256": 64, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+\Z")


class Hasher(Protocol):
    def update(self, data: BytesLike, /) -> None: ...
    def hexdigest(self) -> str: ...


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """The content address of a blob. `str(digest)` is its text in OCI documents."""

    algorithm: str
    hex: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    @property
    def short(self) -> str:
        """The digest abbreviated for messages: `sha256:0123456789ab`."""
        return f"{self.algorithm}:{self.hex[:12]}"


def parse_digest(text: object) -> Digest:
    """Parse `sha256:<64 hex>` or `sha512:<128 hex>`. Raises DigestInvalidError."""
    if not isinstance(text, str):
        raise DigestInvalidError(f"a digest must be a string, found {type(text).__name__}")
    algorithm, _, hexadecimal = text.partition(":")
    length = HEX_LENGTHS.get(algorithm)
    if length is None:
        raise DigestInvalidError(
            f"digest {text[:80]!r} has an unknown algorithm: sha256 and sha512 are supported",
            found=text[:200],
        )
    if len(hexadecimal) != length or not _HEX.match(hexadecimal):
        raise DigestInvalidError(
            f"digest {text[:160]!r} is not {length} lower-case hexadecimal characters",
            found=text[:200],
        )
    return Digest(algorithm, hexadecimal)


def is_digest(text: str) -> bool:
    """Returns True if `parse_digest` accepts the text."""
    try:
        parse_digest(text)
    except DigestInvalidError:
        return False
    return True


def new_hasher(algorithm: str = "sha256") -> Hasher:
    """Returns a hasher for `sha256` or `sha512`."""
    return hashlib.new(algorithm, usedforsecurity=False)


def digest_of(data: BytesLike, algorithm: str = "sha256") -> Digest:
    """Returns the digest of bytes in memory."""
    hasher = new_hasher(algorithm)
    hasher.update(data)
    return Digest(algorithm, hasher.hexdigest())
