"""`index.json` of an OCI layout: its descriptors and the image names in their annotations. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airside.archive.formats.plan import PlannedImage, drop_ambiguous, parse_each
from airside.core.errors import ManifestInvalidError, ReferenceInvalidError
from airside.core.problem import Problem
from airside.oci.digest import Digest
from airside.oci.model import Descriptor, parse_descriptor
from airside.oci.reference import Reference, is_image_id, parse_reference
from airside.oci.strict_json import load_json

INDEX_JSON = "index.json"
IMAGE_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"
_OBJECT = re.compile(r"[:@][^/]*\Z")


def parse_index_json(raw: bytes, problems: list[Problem] | None = None) -> tuple[Descriptor, ...]:
    """Returns the descriptors of `index.json`; none for null. Raises ManifestInvalidError.

    An invalid one rejects its own image only: it is added to `problems`, if any other is valid.
    Without the key `manifests` the document is damaged, which is an error: the caller must not
    fall back to another document.
    """
    value = load_json(raw, INDEX_JSON)
    if not isinstance(value, dict) or value.get("schemaVersion") != 2:
        raise ManifestInvalidError(f"{INDEX_JSON} is not an image index of schemaVersion 2")
    manifests: Any = value.get("manifests", "absent")
    if manifests is None:
        return ()
    if not isinstance(manifests, list):
        raise ManifestInvalidError(f"{INDEX_JSON}: manifests is not a list")
    return parse_each(
        manifests,
        lambda item, n: parse_descriptor(item, f"{INDEX_JSON}: manifests[{n}]"),
        _shown_name,
        [] if problems is None else problems,
    )


def _shown_name(item: Any) -> str:
    """Returns the name in an entry of `index.json` that may be invalid, for messages."""
    annotations = item.get("annotations") if isinstance(item, dict) else None
    found = annotations if isinstance(annotations, dict) else {}
    names = [n for n in (found.get(IMAGE_NAME), found.get(REF_NAME)) if isinstance(n, str)]
    return next(iter(names), "")


def name_images(
    roots: tuple[Descriptor, ...], notes: list[str]
) -> tuple[tuple[PlannedImage, ...], list[Problem]]:
    """Returns an image for each distinct root, with the names of its annotations, and problems.

    A name that is only a tag gets a note.
    """
    images: dict[Digest, _Named] = {}
    problems: list[Problem] = []
    for root in roots:
        names = [n for n in (root.annotations.get(IMAGE_NAME), root.annotations.get(REF_NAME)) if n]
        image = images.setdefault(root.digest, _Named())
        image.shown = image.shown or (names[0] if names else "")
        image.aliases += names
        try:
            reference = _reference_to(root)
        except ReferenceInvalidError as exc:
            problems.append(
                Problem(exc.message, image=names[0] if names else "", blob=str(root.digest))
            )
            continue
        if reference is not None:
            image.references[reference] = None
            continue
        tags = [name for name in names if not is_image_id(name)]
        image.tags += tags
        if tags:
            notes.append(
                f"the name {tags[0]!r:.300} is only a tag: unless the setting `repository` of its "
                "directory completes it, the image is reachable by digest only"
            )
    return tuple(named.planned(root) for root, named in images.items()), problems


@dataclass(slots=True)
class _Named:
    """The names that the entries of one root give it."""

    references: dict[Reference, None] = field(default_factory=dict)
    shown: str = ""
    aliases: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)

    def planned(self, root: Digest) -> PlannedImage:
        references, aliases, tags = tuple(self.references), tuple(self.aliases), tuple(self.tags)
        return PlannedImage(root, references, self.shown, aliases, tags)


def _reference_to(root: Descriptor) -> Reference | None:
    """Returns the name of a root; of one with a tag and a digest, only the tag.

    containerd records names with both for kubelet, and exports them. Raises ReferenceInvalidError
    if the digest is not the root's.
    """
    reference = reference_of(root.annotations)
    if reference is None or reference.digest is None:
        return reference
    comparable = reference.digest.algorithm == root.digest.algorithm
    if comparable and reference.digest != root.digest:
        raise ReferenceInvalidError(
            f"the name {str(reference)!r} has another digest than the document that it names, "
            f"{root.digest}: {INDEX_JSON} is damaged or was edited"
        )
    return reference.without_digest


def check_names(
    images: tuple[PlannedImage, ...], listed: frozenset[str]
) -> tuple[tuple[PlannedImage, ...], list[Problem]]:
    """Compare with the names of `manifest.json`, which may lack some but has none of its own.

    If it has one, one of the two documents is damaged, and a name that only the index has may be
    wrong: such names are dropped (ADR 0009). Returns the images and a problem for each name.
    """
    given = {str(reference) for image in images for reference in image.references}
    if not listed - given:
        return images, []
    checked, problems = drop_ambiguous(
        replace(image, references=tuple(r for r in image.references if str(r) in listed))
        for image in images
    )
    reason = f"{INDEX_JSON} and manifest.json disagree on this name: one of them is damaged"
    return checked, [*problems, *(Problem(reason, image=name) for name in sorted(listed ^ given))]


def reference_of(annotations: Mapping[str, str]) -> Reference | None:
    """Returns the image name in the annotations; None for none or only a tag.

    If both annotations exist they must agree (ADR 0009): `ref.name` is the tag, the same name, or
    the part of the name after the repository. An image ID, which containerd records as a name, is
    not a name. Raises ReferenceInvalidError.
    """
    full, ref_name = annotations.get(IMAGE_NAME, ""), annotations.get(REF_NAME, "")
    if is_image_id(full) or (not full and is_image_id(ref_name)):
        return None
    tag_only = bool(ref_name) and not any(mark in ref_name for mark in "/:@")
    if not full:
        return None if tag_only or not ref_name else parse_reference(ref_name)
    reference = parse_reference(full)
    if ref_name in {"", full, _object_of(full)} or (tag_only and not reference.tag):
        return reference
    if (ref_name != reference.tag) if tag_only else (parse_reference(ref_name) != reference):
        raise ReferenceInvalidError(
            f"the names {full!r} and {ref_name!r} of one image disagree: "
            "one of them is damaged or was edited"
        )
    return reference


def _object_of(name: str) -> str:
    """Returns the part after the repository, as containerd writes it: a tag, `@digest`, or both."""
    found = _OBJECT.search(name)
    return found[0].removeprefix(":") if found else ""
