"""Suggests existing names similar to an absent one. Pure."""

import difflib
from collections.abc import Iterable

from airside.oci.reference import Reference

_SHOWN = 5
_COMPARED = 2000
_SIMILAR = 0.72
_ENDS_SIMILAR = 0.6


def nearest_names(wanted: Reference, names: Iterable[Reference]) -> list[str]:
    """Returns at most five: other tags, then the same path elsewhere, then similar spellings."""
    ranked: list[tuple[int, float, str]] = []
    path = wanted.repository.path
    last = path.rpartition("/")[2]
    others: list[Reference] = []
    for name in names:
        if name.repository == wanted.repository:
            ranked.append((0, -_ratio(name.tag, wanted.tag), str(name)))
        elif name.repository.path == path:
            ranked.append((1, float(name.tag != wanted.tag), str(name)))
        elif name.repository.path.rpartition("/")[2] == last:
            ranked.append((2, float(name.tag != wanted.tag), str(name)))
        else:
            others.append(name)
    if len(ranked) < _SHOWN:
        ranked += _similar(wanted, others)
    return [text for _, _, text in sorted(ranked)[:_SHOWN]]


def _similar(wanted: Reference, names: list[Reference]) -> Iterable[tuple[int, float, str]]:
    """Yields names with a similar spelling, above all of the last path segment."""
    path = wanted.repository.path
    last = path.rpartition("/")[2]
    near = sorted(names, key=lambda n: n.repository.path.rpartition("/")[2][:2] != last[:2])
    for name in near[:_COMPARED]:
        other = name.repository.path
        ends = _ratio(other.rpartition("/")[2], last)
        ratio = max(_ratio(other, path), ends)
        if ratio >= _SIMILAR and ends >= _ENDS_SIMILAR:
            yield 3, -ratio, str(name)


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()
