"""Compares the names of `manifest.json` with those of `repositories` beside it. Pure (ADR 0032).

`manifest.json` counts, as for `docker load`. A pair of names of which one may be the other with a
flipped bit is a problem, and the name is not created.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from airside.archive.formats.docker_manifest import MANIFEST_JSON, REPOSITORIES, SavedImage
from airside.archive.formats.name_records import flipped_pairs
from airside.core.errors import ReferenceInvalidError
from airside.core.problem import Problem
from airside.oci.reference import Reference, parse_reference

_LISTED = f"the member {REPOSITORIES!r}"
RENAMED = f"{MANIFEST_JSON} has other names than {_LISTED}: {MANIFEST_JSON} counts"


@dataclass(slots=True)
class ListedNames:
    """The result: names not to create, problems and notes.

    `is_lossy`: a name was lost, so that one that several images have may be a damaged other one.
    """

    damaged: set[Reference] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_lossy: bool = False


def compare_listed(images: Iterable[SavedImage], listed: Iterable[str]) -> ListedNames:
    """Compares all names of the images with those that `repositories` lists."""
    images = tuple(images)
    given = {text: _read(text) for image in images for text in image.names}
    there = {text: _read(text) for text in listed}
    known, named = set(there.values()) - {None}, set(given.values()) - {None}
    new = [text for text, name in given.items() if name not in known]
    lost = [text for text, name in there.items() if name not in named]
    found = ListedNames()
    pairs = [(new[n], lost[m]) for n, m in flipped_pairs(_forms(new), _forms(lost))]
    for text, other in pairs:
        _add_flipped(found, text, other)
        new.remove(text)
        lost.remove(other)
    has_unnamed = any(not image.names for image in images)
    is_renamed = any(given[text] is not None for text in new) and not has_unnamed
    if is_renamed:
        found.notes.append(RENAMED)
    for text in filter(_read, lost) if not is_renamed else ():
        reason = f"{_LISTED} has this name, but {MANIFEST_JSON} does not: no image gets it"
        found.problems.append(Problem(reason, image=_shown(text)))
    found.is_lossy = found.is_lossy or bool(found.problems)
    return found


def unknown_names(listed: Iterable[str], known: Collection[Reference]) -> list[Problem]:
    """Returns a problem for each name of a `repositories` beside an index that no table has."""
    reason = f"{_LISTED} has this name, but neither the index nor {MANIFEST_JSON}: no image gets it"
    forms = [(str(reference),) for reference in known]
    return [
        Problem(reason, image=_shown(text))
        for text in listed
        if (reference := _read(text)) not in known
        and (reference is not None or flipped_pairs([(text,)], forms))
    ]


def _read(text: str) -> Reference | None:
    try:
        return parse_reference(text).without_digest
    except ReferenceInvalidError:
        return None


def _shown(text: str) -> str:
    reference = _read(text)
    return text if reference is None else str(reference)


def _forms(texts: Iterable[str]) -> list[tuple[str, ...]]:
    return [(text, _shown(text)) for text in texts]


def _add_flipped(found: ListedNames, given: str, listed: str) -> None:
    reference = _read(given)
    if reference is not None:  # an invalid one is a problem already
        found.damaged.add(reference)
        reason = f"{MANIFEST_JSON} names {given!r}, but {_LISTED} names {listed!r}"
        found.problems.append(Problem(f"{reason}: one of them is damaged", image=given))
    reason = f"{_LISTED} names {listed!r}, but {MANIFEST_JSON} names {given!r}"
    found.problems.append(Problem(f"{reason}: one of them is damaged", image=_shown(listed)))
