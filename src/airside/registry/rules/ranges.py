"""Conditional requests and ranges of the registry (RFC 9110, sections 13 and 14): pure.

ETags are digests. Ranges that are not supported (several, other units, malformed) are ignored, as
the RFC says, and the whole blob is sent; a range whose end is before its start is refused.
"""

import re
from dataclasses import dataclass, replace

from airside.oci.digest import Digest
from airside.registry.rules.answers import IMMUTABLE, OCTETS, Answer, Part, problem

_ETAG = re.compile(r'(W/)?"([^"]*)"')
_RANGE = re.compile(r"[ \t]*bytes=([0-9]*)-([0-9]*)[ \t]*\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditional and range headers of a request; repeated headers are joined by commas."""

    if_match: str | None = None
    if_none_match: str | None = None
    range: str | None = None
    if_range: str | None = None


def conditional(found: Answer, conditions: Conditions) -> Answer:
    """Applies If-Match and If-None-Match, in this order (RFC 9110, 13.2.2)."""
    if not found.etag:
        return found
    if conditions.if_match is not None and not _matches(
        conditions.if_match, found.etag, weak=False
    ):
        return problem(
            412, "UNKNOWN", f"the current content is {found.etag}, which If-Match does not list"
        )
    if conditions.if_none_match is not None and _matches(
        conditions.if_none_match, found.etag, weak=True
    ):
        return replace(found, status=304, body=b"")
    return found


def plan_blob(method: str, digest: Digest, size: int, conditions: Conditions) -> Part | Answer:
    """Decides which bytes of a blob to send: all, a range, or none."""
    headers = (
        ("Content-Type", OCTETS),
        ("Docker-Content-Digest", str(digest)),
        ("ETag", f'"{digest}"'),
        ("Accept-Ranges", "bytes"),
        IMMUTABLE,
    )
    whole = Answer(200, headers=headers, etag=str(digest))
    checked = conditional(whole, conditions)
    if checked is not whole:
        return checked
    wanted = _ranged(method, str(digest), size, conditions)
    if wanted is None:
        return Part(200, headers, 0, size)
    if not wanted:
        message = f"the blob has {size} bytes, none of them in {str(conditions.range)[:80]!r}"
        span = ("Content-Range", f"bytes */{size}")
        return problem(416, "RANGE_INVALID", message, None, span, ("Accept-Ranges", "bytes"))
    span = ("Content-Range", f"bytes {wanted.start}-{wanted.stop - 1}/{size}")
    return Part(206, (*headers, span), wanted.start, len(wanted))


def _ranged(method: str, etag: str, size: int, conditions: Conditions) -> range | None:
    if method != "GET" or conditions.range is None:
        return None
    if conditions.if_range is not None:
        strong = _ETAG.fullmatch(conditions.if_range.strip())
        if strong is None or strong[1] or strong[2] != etag:
            return None
    return select_range(conditions.range, size)


def select_range(header: str, size: int) -> range | None:
    """Parses a Range header (RFC 9110, 14). None: the whole blob; empty: not satisfiable.

    Unsupported ranges (several, other units, malformed) are ignored. An end before the start is not
    satisfiable: 14.2 allows to reject it, and OCI's conformance suite requires that.
    """
    match = _RANGE.match(header)
    if match is None:
        return None
    first, last = _position(match[1]), _position(match[2])
    if first is None:
        if last is None or (last > 0 and size == 0):
            return None
        return range(max(0, size - last), size) if last else range(0)
    if last is not None and last < first:
        return range(0)
    return range(first, size if last is None else min(last + 1, size))


def _position(digits: str) -> int | None:
    """Parses a number of any length; numbers past every possible size become one."""
    significant = digits.lstrip("0")
    return None if not digits else int(significant or "0") if len(significant) < 19 else 10**19


def _matches(header: str, etag: str, *, weak: bool) -> bool:
    """Returns True if a list of entity tags contains this one. A bare digest counts as quoted."""
    if header.strip() in {"*", etag}:
        return True
    return any(tag == etag and (weak or not mark) for mark, tag in _ETAG.findall(header))
