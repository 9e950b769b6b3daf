"""Names the images of `index.json` by the annotations of its entries. Pure (ADR 0032).

`io.containerd.image.name` is a whole name, `org.opencontainers.image.ref.name` one of its forms, a
whole name, or a tag. The first counts, as for containerd, unless the two may differ by damage.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from airside.archive.formats.index_json import IMAGE_NAME, INDEX_JSON, REF_NAME
from airside.archive.formats.name_records import (
    NameText,
    is_flipped_digest,
    is_form_of,
    key_is_damaged,
    lost_separator,
    may_be_flipped,
    object_of,
    read_name,
)
from airside.archive.formats.plan import PlannedImage
from airside.core.errors import ReferenceInvalidError
from airside.core.problem import Problem
from airside.oci.digest import Digest
from airside.oci.model import Descriptor
from airside.oci.reference import Reference, is_image_id

KIND = "kind"
"""The annotation by which Hauler and cosign tell an image from what belongs to it."""
_SUPPLEMENTS = ("/sigs", "/atts", "/sboms", "/referrers")


@dataclass(frozen=True, slots=True)
class EntryName:
    """The name in one entry: a reference, or only a tag, or neither.

    `texts` are its forms as they are written. The registry of one that is not `is_sure` is only
    the default: the entry does not name it.
    """

    reference: Reference | None = None
    tag: str = ""
    texts: tuple[str, ...] = ()
    is_sure: bool = True
    note: str = ""


@dataclass(slots=True)
class NamedRoot:
    """A root document, with the names of all its entries."""

    root: Digest
    names: dict[Reference, EntryName] = field(default_factory=dict)
    shown: str = ""
    aliases: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    """Texts that name a path, from which other records may have made a name."""
    is_supplement: bool = False
    is_annotated: bool = False
    """True if an entry has annotations, but none that names an image."""
    is_doubtful: bool = False
    """True if a name of the root was refused: no other record names it then."""

    def planned(self) -> PlannedImage:
        return PlannedImage(
            self.root,
            tuple(self.names),
            self.shown,
            tuple(self.aliases),
            tuple(self.tags),
            is_supplement=self.is_supplement,
        )


def name_roots(
    roots: Iterable[Descriptor], notes: list[str]
) -> tuple[dict[Digest, NamedRoot], list[Problem]]:
    """Returns the distinct roots with the names of their entries, and a problem for each bad name.

    What is unusual about a name gets a note.
    """
    found: dict[Digest, NamedRoot] = {}
    problems: list[Problem] = []
    for root in roots:
        texts = [n for n in (root.annotations.get(IMAGE_NAME), root.annotations.get(REF_NAME)) if n]
        named = found.setdefault(root.digest, NamedRoot(root.digest, is_supplement=True))
        keys = root.annotations.keys()
        named.is_annotated |= bool(keys) and not keys & {IMAGE_NAME, REF_NAME}
        named.shown = named.shown or next(iter(texts), "")
        named.aliases += texts
        named.is_supplement = named.is_supplement and _is_supplement(root)
        try:
            name = _of_root(name_of(root.annotations), root.digest)
        except ReferenceInvalidError as exc:
            named.is_doubtful = True
            shown = next(iter(texts), "")
            problems.append(Problem(exc.message, shown, str(root.digest), exc.code))
            continue
        if name.note:
            notes.append(name.note)
        if name.reference is not None:
            named.names.setdefault(name.reference, name)
            continue
        named.paths += name.texts
        if name.tag:
            named.tags.append(name.tag)
    return found, problems


def note_tags(roots: Iterable[NamedRoot], notes: list[str]) -> None:
    """Add a note for each root whose name is only a tag."""
    notes += [
        f"the name {root.tags[0]!r:.300} is only a tag: unless the setting `repository` of its "
        "directory completes it, the image is reachable by digest only"
        for root in roots
        if root.tags
    ]


def _is_supplement(root: Descriptor) -> bool:
    kind = root.annotations.get(KIND, "")
    return any(kind.endswith(each) or f"{each}/" in kind for each in _SUPPLEMENTS)


def _of_root(name: EntryName, root: Digest) -> EntryName:
    """Returns the name without its digest if it has a tag; without a tag, with the root's digest.

    containerd records names with both for kubelet, and exports them. A converted image keeps the
    digest of before in its name. Raises ReferenceInvalidError for a damaged digest.
    """
    found = name.reference.digest if name.reference is not None else None
    if name.reference is None or found is None:
        return name
    if is_flipped_digest(found, root):
        raise ReferenceInvalidError(
            f"the name {str(name.reference)!r} has another digest than the document that it names, "
            f"{root}: {INDEX_JSON} is damaged or was edited"
        )
    if found.algorithm == root.algorithm and found != root:
        note = (
            f"the name {str(name.reference)!r} has the digest of before a conversion: the image "
            f"has the digest {root}"
        )
        name = replace(name, reference=replace(name.reference, digest=root), note=note)
    assert name.reference is not None
    return replace(name, reference=name.reference.without_digest)


def name_of(annotations: Mapping[str, str]) -> EntryName:
    """Returns the name in the annotations of an entry. An image ID is not a name.

    Raises ReferenceInvalidError for a name that is invalid or may be damaged.
    """
    full, ref_name = annotations.get(IMAGE_NAME, ""), annotations.get(REF_NAME, "")
    lacking = [key for key in (IMAGE_NAME, REF_NAME) if key not in annotations]
    if key_is_damaged(annotations, lacking):
        raise ReferenceInvalidError(
            f"an annotation of {INDEX_JSON} is nearly named {' or '.join(lacking)}: it is damaged"
        )
    if is_image_id(full):
        return EntryName()
    first = read_name(full, may_be_tag=False)
    second = _read_second(ref_name, first, full)
    if first.reference is None and second.reference is not None:
        return EntryName(second.reference, "", (ref_name,), second.has_registry)
    texts = tuple(text for text in (full, ref_name) if text)
    if not first.has_registry and second.has_registry and is_form_of(first.text, second.text):
        return EntryName(second.reference, "", texts)
    if first.reference is None:
        return EntryName(tag=first.tag or second.tag, texts=(first.text,) if first.text else ())
    return EntryName(first.reference, "", texts, first.has_registry, _differ(first, second))


def _read_second(ref_name: str, first: NameText, full: str) -> NameText:
    """Returns `ref.name`, compared with the full name. Raises ReferenceInvalidError."""
    if ref_name == full or (ref_name and ref_name == object_of(full)):
        return NameText(ref_name)
    try:
        second = read_name(ref_name, may_be_tag=True)
    except ReferenceInvalidError:
        if first.reference is None or _is_flipped(first, NameText(ref_name)):
            raise
        return NameText(ref_name)
    if _is_flipped(first, second):
        raise ReferenceInvalidError(
            f"the names {full!r} and {ref_name!r} of one image disagree: "
            "one of them is damaged or was edited"
        )
    return second


def _is_flipped(first: NameText, second: NameText) -> bool:
    if not first.text or not second.text or _agree(first, second):
        return False
    if first.reference is not None and second.reference is not None:
        one, other = str(first.reference), str(second.reference)
        if may_be_flipped(one, other):
            return True
    if is_form_of(second.text, first.text):
        return False
    if not second.tag:
        return may_be_flipped(first.text, second.text)
    tag = first.tag or object_of(first.text).partition("@")[0]
    is_near = len(tag) == len(second.tag) and may_be_flipped(tag, second.tag)
    return is_near or lost_separator(second.tag, first.text)


def _agree(first: NameText, second: NameText) -> bool:
    """Returns True if the texts mean the same name or tag."""
    if first.reference is not None and second.tag:
        return second.tag == first.reference.tag
    return first.reference is not None and first.reference == second.reference


def _differ(first: NameText, second: NameText) -> str:
    """Returns the note on two names that differ lawfully and are no forms of each other."""
    if first.reference is None or not second.text or _agree(first, second):
        return ""
    is_digest = second.reference is None and not second.tag and is_image_id(second.text.lstrip("@"))
    if is_digest or first.reference.digest is not None or is_form_of(second.text, first.text):
        return ""
    return f"an image has the names {first.text!r:.300} and {second.text!r:.300}: the first counts"
