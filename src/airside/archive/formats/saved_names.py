"""Compares the names of an index with those of the `manifest.json` beside it. Pure (ADR 0032).

An entry of `manifest.json` and a root of the index are one image if they have one config. A name
that may be one of the index's with a flipped bit is a problem, and neither is created. Any other is
a name of the image too, unless the index says more: see the table of `docs/formats.md`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from airside.archive.formats.allowance import over
from airside.archive.formats.docker_manifest import SavedImage
from airside.archive.formats.entry_names import EntryName, NamedRoot
from airside.archive.formats.name_records import (
    flipped_pairs,
    is_form_of,
    lost_separator,
    may_be_flipped,
    read_name,
)
from airside.core.errors import ReferenceInvalidError
from airside.core.problem import Problem
from airside.core.settings import Limits
from airside.oci.digest import Digest
from airside.oci.model import Document, Index
from airside.oci.reference import Reference

_STEPS_TIMES = 4
_MADE_UP = "latest"
"""The tag that regctl makes up for an image that it saves by its digest."""
_MADE_UP_HOST = "localhost/"
"""The host that regctl makes up for an image of a layout directory."""
DISAGREE = "index.json and manifest.json disagree on this name: one of them is damaged"

AMBIGUOUS = (
    "only manifest.json has this name, and index.json lists {} images with its config and without "
    "a name: which of them is meant is not told"
)
NOT_TAKEN = (
    "only manifest.json has this name: index.json may have lost it, as it has problems, or "
    "annotations without a name"
)


@dataclass(frozen=True, slots=True)
class SavedName:
    """A name in `manifest.json`: as it is written, and parsed, without a digest."""

    text: str
    reference: Reference
    has_registry: bool = True

    @property
    def forms(self) -> tuple[str, ...]:
        return (self.text, str(self.reference))


@dataclass(frozen=True, slots=True)
class Place:
    """A manifest at or below a root."""

    root: Digest
    manifest: Digest


def places_by_config(
    roots: Iterable[Digest], documents: Mapping[Digest, Document], limits: Limits
) -> dict[str, list[Place]]:
    """Returns, by the hex of each config, the manifests that have it, with their roots.

    Raises ArchiveLimitError (`limits.records`) where indexes list more than the catalog may record.
    """
    found: dict[str, list[Place]] = {}
    steps = 0
    for root in roots:
        seen, todo = {root}, [root]
        while todo:
            document = documents.get(todo.pop())
            if document is None:
                continue
            if not isinstance(document.content, Index):
                config = document.content.config.digest.hex
                found.setdefault(config, []).append(Place(root, document.digest))
                continue
            for child in document.content.manifests:
                steps += 1
                if child.digest not in seen:
                    seen.add(child.digest)
                    todo.append(child.digest)
            if steps > _STEPS_TIMES * limits.records:
                raise over("the indexes of the archive list more manifests", "records", limits)
    return found


@dataclass(slots=True)
class SavedNames:
    """Gives the roots of an index the names that `manifest.json` has for their configs.

    A name that the index gives to one root is never given to another.
    """

    named: dict[Digest, NamedRoot]
    places: Mapping[str, Sequence[Place]]
    notes: list[str]
    is_sound: bool = True
    """False if documents or entries of the index are damaged or absent: it may have lost names."""
    problems: list[Problem] = field(default_factory=list)
    _given: frozenset[Reference] = field(init=False)
    _texts: dict[str, dict[str, None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._given = frozenset(name for root in self.named.values() for name in root.names)

    def compare(self, saved: Iterable[SavedImage]) -> None:
        """Compares every entry with the roots of its config."""
        for image in saved:
            if image.config_hex in self.places:
                texts = self._texts.setdefault(image.config_hex, {})
                texts |= dict.fromkeys(image.names)
        for config, texts in self._texts.items():
            self._compare(self.places[config], tuple(texts))

    def known(self, saved: Iterable[SavedImage]) -> set[Reference]:
        """Returns all names of the index and of these entries."""
        given = {name for root in self.named.values() for name in root.names}
        read = (self._read(text) for image in saved for text in image.names)
        return given | {name.reference for name in read if name is not None}

    def _compare(self, places: Sequence[Place], texts: Sequence[str]) -> None:
        read = [name for name in map(self._read, texts) if name is not None]
        roots = [self.named[place.root] for place in places]
        given = {reference for root in roots for reference in root.names}
        new = [name for name in read if name.reference not in given]
        confirmed = {name.reference for name in read}
        for root in roots:
            self.problems += _drop_flipped(root, new, confirmed)
        free = {place.root for place in places if not self.named[place.root].names}
        for name in new:
            if len(free) > 1:
                self.problems.append(Problem(AMBIGUOUS.format(len(free)), str(name.reference)))
            else:
                self._add(self._owner(places, free, name), name)

    def _read(self, text: str) -> SavedName | None:
        try:
            found = read_name(text, may_be_tag=False)
        except ReferenceInvalidError as exc:
            self.problems.append(Problem(exc.message, image=text, code=exc.code))
            return None
        if found.reference is None:
            return None
        return SavedName(text, found.reference.without_digest, found.has_registry)

    def _owner(self, places: Sequence[Place], free: set[Digest], name: SavedName) -> NamedRoot:
        """Returns the root that a name goes to: the one without a name, if any.

        A name that not all platforms of an index have is that of its manifest alone.
        """
        place = next((place for place in places if place.root in free), places[0])
        if place.root == place.manifest or self._is_of_all(place.root, name.text):
            return self.named[place.root]
        return self.named.setdefault(place.manifest, NamedRoot(place.manifest))

    def _is_of_all(self, root: Digest, text: str) -> bool:
        return all(
            text in texts
            for config, texts in self._texts.items()
            if any(place.root == root for place in self.places[config])
        )

    def _add(self, root: NamedRoot, name: SavedName) -> None:
        """Gives the root a name that only `manifest.json` has, or adds a problem."""
        reference = name.reference
        if root.is_doubtful or _contradicts(root, name):
            self.problems.append(Problem(DISAGREE, image=str(reference)))
            return
        if not self.is_sound or (root.is_annotated and not root.names):
            self.problems.append(Problem(NOT_TAKEN, image=str(reference)))
            return
        if reference in self._given:
            self.notes.append(f"{name.text!r} is another image in index.json, which counts")
            return
        if not name.has_registry and _names_more(root, name):
            return
        by_digest = [each for each in root.names if each.digest is not None]
        if any(each.repository == reference.repository for each in by_digest):
            if reference.tag != _MADE_UP:
                root.names[reference] = EntryName(reference)
            return
        _drop_guessed(root, name)
        if root.names:
            self.notes.append(f"only manifest.json names the image {root.shown!r} {name.text!r}")
        root.names[reference] = EntryName(reference)
        root.tags = [tag for tag in root.tags if tag != reference.tag]
        root.shown = root.shown or name.text
        root.aliases.append(name.text)


def _drop_flipped(
    root: NamedRoot, new: list[SavedName], confirmed: set[Reference]
) -> list[Problem]:
    """Drops each pair of names of which one may be the other, damaged. Returns the problems."""
    problems: list[Problem] = []
    doubtful = [reference for reference in root.names if reference not in confirmed]
    forms = [_forms(root.names[reference], reference) for reference in doubtful]
    pairs = flipped_pairs([name.forms for name in new], forms)
    for saved, reference in [(new[n], doubtful[m]) for n, m in pairs]:
        new.remove(saved)
        del root.names[reference]
        root.is_doubtful = True
        problems += [Problem(DISAGREE, str(each)) for each in (saved.reference, reference)]
    return problems


def _forms(name: EntryName, reference: Reference) -> tuple[str, ...]:
    """Returns the texts of a name in the index with which a name of `manifest.json` is compared."""
    texts = (*(text for text in name.texts if "/" in text or ":" in text), str(reference))
    if reference.digest is None:
        return texts
    of_digest = f"{reference.digest.algorithm}-{reference.digest.hex}"
    return (*texts, *(f"{reference.repository}:{tag}" for tag in (_MADE_UP, of_digest)))


def _names_more(root: NamedRoot, name: SavedName) -> bool:
    """Returns True if a name of the root is this one with its registry."""
    return any(
        is_form_of(name.text, text)
        for entry in root.names.values()
        if entry.is_sure
        for text in entry.texts
    )


def _drop_guessed(root: NamedRoot, name: SavedName) -> None:
    """Drops the names of the root that are this one without its registry."""
    for reference, entry in tuple(root.names.items()):
        if not entry.is_sure and all(is_form_of(text, name.text) for text in entry.texts):
            del root.names[reference]


def _contradicts(root: NamedRoot, name: SavedName) -> bool:
    """Returns True if a tag or path of the root may be a part of the name, but for a flipped bit.

    So may a host that is nearly the one that tools make up for a path.
    """
    host = name.text[: len(_MADE_UP_HOST)]
    if root.paths and may_be_flipped(host, _MADE_UP_HOST):
        return True
    tag = name.reference.tag
    tags = (each for each in root.tags if each != tag)
    if any(
        (len(t) == len(tag) and may_be_flipped(t, tag)) or lost_separator(t, name.text)
        for t in tags
    ):
        return True
    return any(
        not is_form_of(path, name.text) and may_be_flipped(path, name.text) for path in root.paths
    )
