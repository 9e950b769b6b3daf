"""What an OCI image layout in a tar means (image-layout.md). Pure.

Documents are walked from `index.json` down; each is checked against the digest and size of the
descriptor that names it and kept as the bytes that were read. A child document that is absent is
an absent platform; the judgement what is complete is left to `airside.archive.completeness`.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airside.archive.formats.plan import (
    OCI_LAYOUT,
    Facts,
    Plan,
    PlannedImage,
    ReadHeld,
    ReadMember,
    drop_ambiguous,
    is_compressed,
    judged_alone,
    layer_compression,
    not_runnable_note,
)
from airside.core.errors import (
    ArchiveLimitError,
    InputError,
    ManifestInvalidError,
    ReferenceInvalidError,
)
from airside.core.problem import Problem
from airside.core.settings import Limits
from airside.oci.digest import Digest, digest_of
from airside.oci.model import (
    DOCUMENT_TYPES,
    OCI_LAYER,
    Descriptor,
    Document,
    ImageConfig,
    Index,
    Manifest,
    load_json,
    parse_config,
    parse_descriptor,
    parse_document,
)
from airside.oci.platform import Platform
from airside.oci.reference import Reference, is_image_id, parse_reference

INDEX_JSON = "index.json"
LAYOUT_FILE = "oci-layout"
IMAGE_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"
_OBJECT = re.compile(r"[:@][^/]*\Z")


def blob_member(digest: Digest) -> str:
    """The member name of a blob."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


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


@dataclass(slots=True)
class LayoutDraft:
    """The documents below `index.json`, before the blobs are hashed."""

    roots: tuple[Descriptor, ...]
    documents: dict[Digest, Document] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    present: frozenset[str] = frozenset()
    bad: set[Digest] = field(default_factory=set)
    listed_names: frozenset[str] = frozenset()

    @property
    def members(self) -> tuple[str, ...]:
        wanted = dict.fromkeys(
            blob_member(child.digest)
            for document in self.documents.values()
            for child in document.children
        )
        wanted |= dict.fromkeys(blob_member(digest) for digest in self.documents)
        return tuple(name for name in wanted if name in self.present)

    def expected(self, read: ReadMember) -> dict[str, Digest]:
        """Nothing beyond what the members' names promise."""
        del read
        return {}

    def assemble(self, facts: Mapping[str, Facts], read: ReadMember) -> Plan:
        blobs: dict[Digest, str] = {}
        for name in self.members:
            found = facts[name].digest
            if blob_member(found) == name:
                blobs[found] = name
            else:
                expected = name.removeprefix("blobs/").replace("/", ":")
                reason = f"member {name} hashes to {found}: its bytes are damaged"
                self.problems.append(Problem(reason, blob=expected))
        platforms, rejected = self._read_configs(blobs, facts, read)
        images, problems = _name_images(self.roots, self.notes)
        images, disagreed = _check_names(images, self.listed_names)
        return Plan(
            format=OCI_LAYOUT,
            images=images,
            documents=self.documents,
            blobs=blobs,
            problems=(*self.problems, *problems, *disagreed),
            notes=tuple(self.notes),
            platforms=platforms,
            rejected=frozenset(rejected),
        )

    def _read_configs(
        self, blobs: Mapping[Digest, str], facts: Mapping[str, Facts], read: ReadMember
    ) -> tuple[dict[Digest, Platform], set[Digest]]:
        """The platform of each image manifest whose config is here, and manifests to reject."""
        platforms: dict[Digest, Platform] = {}
        rejected: set[Digest] = set()
        configs: dict[str, ImageConfig | InputError] = {}  # many manifests may list a large one
        for digest, document in self.documents.items():
            manifest = document.content
            if not isinstance(manifest, Manifest) or not document.is_image:
                continue
            member = blobs.get(manifest.config.digest)
            if member is None:
                continue
            if member not in configs:
                configs[member] = _config(read, member, manifest.config.digest)
            config = configs[member]
            try:
                if isinstance(config, InputError):
                    raise config
                _check_diff_ids(config, manifest, facts)
            except InputError as exc:
                blob = exc.context.get("blob", str(manifest.config.digest))
                self.problems.append(Problem(exc.message, blob=blob))
                rejected.add(digest)
                continue
            self.notes += _not_runnable(document, manifest, config, facts)
            if config.platform is not None:
                platforms[digest] = config.platform
        return platforms, rejected


def _config(read: ReadMember, member: str, digest: Digest) -> ImageConfig | InputError:
    try:
        return parse_config(read(member), f"config {digest}")
    except InputError as exc:
        return exc


def _check_diff_ids(config: ImageConfig, manifest: Manifest, facts: Mapping[str, Facts]) -> None:
    """An uncompressed layer's digest is its diff ID: checked for free (config.md, rootfs)."""
    if len(config.diff_ids) != len(manifest.layers):
        return
    for diff_id, layer in zip(config.diff_ids, manifest.layers, strict=True):
        known = facts.get(blob_member(layer.digest))
        plain = known is not None and not is_compressed(known.head)
        comparable = plain and layer.digest.algorithm == diff_id.algorithm
        if comparable and layer.media_type.endswith(".tar") and layer.digest != diff_id:
            raise ManifestInvalidError(
                f"layer {layer.digest} is not compressed, yet the config's diff ID is {diff_id}",
                blob=layer.digest,
            )


def _not_runnable(
    document: Document, manifest: Manifest, config: ImageConfig, facts: Mapping[str, Facts]
) -> Iterator[str]:
    """Why an image, though it is kept and served, cannot be run anywhere."""
    if config.diff_ids and len(config.diff_ids) != len(manifest.layers):
        yield (
            f"{document.digest} lists {len(manifest.layers)} layers, its config "
            f"{len(config.diff_ids)} diff IDs: the image is stored and served, but containerd and "
            "Docker cannot run it"
        )
    for layer in manifest.layers:
        known = facts.get(blob_member(layer.digest))
        note = not_runnable_note(str(layer.digest), layer_compression(known.head)) if known else ""
        if note:
            yield note


def has_disordered_layers(draft: LayoutDraft, read: ReadMember) -> bool:
    """Whether an image lists its layers in another order than its config, or only some of them.

    Told for plain layers, whose digests are the config's diff IDs.
    """
    for document in draft.documents.values():
        manifest = document.content
        if not isinstance(manifest, Manifest) or not document.is_image:
            continue
        member = blob_member(manifest.config.digest)
        layers = [layer.digest for layer in manifest.layers if layer.media_type == OCI_LAYER]
        if member not in draft.present or len(layers) != len(manifest.layers):
            continue
        config = _config(read, member, manifest.config.digest)
        wanted = [] if isinstance(config, InputError) else list(config.diff_ids)
        if layers != wanted and not Counter(layers) - Counter(wanted):
            return True
    return False


def draft_layout(
    index_json: bytes,
    *,
    present: frozenset[str],
    read: ReadMember,
    held: ReadHeld,
    nesting: int,
    documents_bytes: int = Limits().documents_bytes,
    listed_names: frozenset[str] = frozenset(),
) -> LayoutDraft:
    """Walk the documents from `index.json` down.

    `present` has the names of all members, `listed_names` the image names that a `manifest.json`
    beside the index records too. Raises ManifestInvalidError for `index.json` itself;
    what is wrong below becomes a problem. `nesting` bounds indexes within indexes,
    `documents_bytes` all documents together, which are kept in memory.
    """
    problems: list[Problem] = []
    roots = parse_index_json(index_json, problems)
    draft = LayoutDraft(roots=roots, problems=problems, present=present, listed_names=listed_names)
    walk = _Walk(draft, read, held, nesting, documents_bytes)
    for root in roots:
        walk.visit(root, 0, root.annotations.get(IMAGE_NAME) or root.annotations.get(REF_NAME, ""))
    return draft


@dataclass(slots=True)
class _Walk:
    draft: LayoutDraft
    read: ReadMember
    held: ReadHeld
    nesting: int
    room_bytes: int

    def visit(self, descriptor: Descriptor, level: int, shown: str) -> None:
        digest = descriptor.digest
        if digest in self.draft.documents or digest in self.draft.bad:
            return
        if level > self.nesting:
            raise ArchiveLimitError(
                f"indexes are nested more than {self.nesting} deep (limits.nesting)", image=shown
            )
        try:
            document = self._document(descriptor, level=level)
        except InputError as exc:
            self.draft.bad.add(digest)
            self.draft.problems.append(Problem(exc.message, image=shown, blob=str(digest)))
            return
        if document is None:
            return
        self.room_bytes -= document.size_bytes
        if self.room_bytes < 0:
            raise ArchiveLimitError(
                "the manifests and indexes of the archive have more bytes together than "
                "limits.documents_bytes allows; raise it if the archive is to be trusted",
                image=shown,
            )
        self.draft.documents[digest] = document
        if isinstance(document.content, Index):
            for child in document.content.manifests:
                self.visit(child, level + 1, shown)

    def _document(self, descriptor: Descriptor, *, level: int) -> Document | None:
        """Read and check one document; None if it is absent or no document."""
        member = blob_member(descriptor.digest)
        if descriptor.media_type not in DOCUMENT_TYPES:
            if level == 0:
                raise ManifestInvalidError(
                    f"{INDEX_JSON} lists {descriptor.digest.short} as "
                    f"{descriptor.media_type!r:.120}, which is no manifest or index",
                    blob=descriptor.digest,
                )
            return None
        raw = self.read(member) if member in self.draft.present else self.held(descriptor.digest)
        if raw is None:
            return None
        found = digest_of(raw, descriptor.digest.algorithm)
        if found != descriptor.digest:
            raise ManifestInvalidError(f"member {member} hashes to {found}: its bytes are damaged")
        if len(raw) != descriptor.size_bytes:
            raise ManifestInvalidError(
                f"document {descriptor.digest} has {len(raw)} bytes, "
                f"its descriptor says {descriptor.size_bytes}"
            )
        return parse_document(
            raw,
            descriptor.media_type,
            f"document {descriptor.digest}",
            algorithm=descriptor.digest.algorithm,
        )


def _name_images(
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


def _check_names(
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
