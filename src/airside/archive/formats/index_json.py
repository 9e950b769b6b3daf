"""`index.json` of an OCI layout: its descriptors and the image names in their annotations. Pure."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airside.archive.formats.plan import PlannedImage, drop_ambiguous, judged_alone
from airside.core.errors import ManifestInvalidError, ReferenceInvalidError
from airside.core.problem import Problem
from airside.oci.digest import Digest
from airside.oci.model import Descriptor, load_json, parse_descriptor
from airside.oci.reference import Reference, is_image_id, parse_reference

INDEX_JSON = "index.json"
IMAGE_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"
_OBJECT = re.compile(r"[:@][^/]*\Z")


def parse_index_json(raw: bytes, problems: list[Problem] | None = None) -> tuple[Descriptor, ...]:
    """The descriptors of `index.json`; none for null. Raises ManifestInvalidError.

    One that is wrong costs its own image: it goes to `problems`, if any other is right. Without
    the key the document is damaged: nobody may fall back to another one then.
    """
    value = load_json(raw, INDEX_JSON)
    if not isinstance(value, dict) or value.get("schemaVersion") != 2:
        raise ManifestInvalidError(f"{INDEX_JSON} is not an image index of schemaVersion 2")
    manifests: Any = value.get("manifests", "absent")
    if manifests is None:
        return ()
    if not isinstance(manifests, list):
        raise ManifestInvalidError(f"{INDEX_JSON}: manifests is not a list")
    return judged_alone(
        manifests,
        lambda item, n: parse_descriptor(item, f"{INDEX_JSON}: manifests[{n}]"),
        _shown_name,
        [] if problems is None else problems,
    )


def _shown_name(item: Any) -> str:
    """The name in an entry of `index.json` that may be wrong, for messages."""
    annotations = item.get("annotations") if isinstance(item, dict) else None
    found = annotations if isinstance(annotations, dict) else {}
    names = [n for n in (found.get(IMAGE_NAME), found.get(REF_NAME)) if isinstance(n, str)]
    return next(iter(names), "")


def name_images(
    roots: tuple[Descriptor, ...], notes: list[str]
) -> tuple[tuple[PlannedImage, ...], list[Problem]]:
    images: dict[Digest, PlannedImage] = {}
    problems: list[Problem] = []
    for root in roots:
        names = [n for n in (root.annotations.get(IMAGE_NAME), root.annotations.get(REF_NAME)) if n]
        reference: Reference | None = None
        tags: tuple[str, ...] = ()
        try:
            reference = _reference_to(root)
            tags = tuple(n for n in names if not is_image_id(n)) if reference is None else ()
        except ReferenceInvalidError as exc:
            problems.append(
                Problem(exc.message, image=names[0] if names else "", blob=str(root.digest))
            )
        if tags:
            notes.append(
                f"the name {tags[0]!r} is only a tag: without a repository from the settings "
                "the image is reachable by digest"
            )
        before = images.get(root.digest, PlannedImage(root.digest))
        new = (reference,) if reference and reference not in before.references else ()
        images[root.digest] = PlannedImage(
            root.digest,
            (*before.references, *new),
            before.shown or (names[0] if names else ""),
            (*before.aliases, *names),
            (*before.tags, *tags),
        )
    return tuple(images.values()), problems


def _reference_to(root: Descriptor) -> Reference | None:
    """The name of a root; with a tag without the digest that it may have beside it.

    containerd keeps such names for kubelet, and exports them. Raises ReferenceInvalidError.
    """
    reference = reference_of(root.annotations)
    if reference is None or reference.digest is None:
        return reference
    comparable = reference.digest.algorithm == root.digest.algorithm
    if comparable and reference.digest != root.digest:
        raise ReferenceInvalidError(
            f"the name {str(reference)!r} has another digest than the document that it names, "
            f"{root.digest}: it is damaged or was edited"
        )
    return reference.without_digest


def check_names(
    images: tuple[PlannedImage, ...], listed: frozenset[str]
) -> tuple[tuple[PlannedImage, ...], list[Problem]]:
    """Compare with the names of `manifest.json`, which may lack some but has none of its own.

    If it has, one of the two is damaged, and a name that only the index has may be a wrong one.
    """
    given = {str(reference) for image in images for reference in image.references}
    if not listed - given:
        return images, []
    kept, problems = drop_ambiguous(
        replace(image, references=tuple(r for r in image.references if str(r) in listed))
        for image in images
    )
    reason = f"{INDEX_JSON} and manifest.json disagree on this name: one of them is damaged"
    return kept, [*problems, *(Problem(reason, image=name) for name in sorted(listed ^ given))]


def reference_of(annotations: Mapping[str, str]) -> Reference | None:
    """The image name that annotations give; None for none or only a tag (design 4.11).

    Where both annotations are there they must agree: `ref.name` is the tag, the same name, or
    what follows the repository in it. An image ID, which containerd keeps as a name, is none.
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
    """What follows the repository: a tag, `@` and a digest, or both, as containerd writes it."""
    found = _OBJECT.search(name)
    return found[0].removeprefix(":") if found else ""
