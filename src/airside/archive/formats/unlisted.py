"""Finds the images that `manifest.json` has and `index.json` beside it does not list. Pure.

Docker 25.0.2 and newer lists an image without a name in its index only if it lists none before it.
`manifest.json` has all images, and the blobs have their manifests.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from airside.archive.formats.allowance import Allowance
from airside.archive.formats.docker_manifest import SavedImage
from airside.archive.formats.layout_walk import DocumentWalk
from airside.archive.formats.oci_layout import LayoutDraft
from airside.archive.formats.plan import ReadMember
from airside.core.errors import InputError
from airside.oci.digest import Digest, digest_of
from airside.oci.model import Descriptor, Document, Index, Manifest, parse_bare_document

NOTE = "index.json does not list all images: manifest.json has {} more, which is read too"
_BLOBS = "blobs/"


def unlisted_images(layout: LayoutDraft, read: ReadMember) -> tuple[SavedImage, ...]:
    """Returns the entries of `manifest.json` whose config no manifest below the index has."""
    known = {
        document.content.config.digest.hex
        for document in layout.documents.values()
        if isinstance(document.content, Manifest)
    }
    return tuple(image for image in layout.saved if _config_hex(image, layout, read) not in known)


def _config_hex(image: SavedImage, layout: LayoutDraft, read: ReadMember) -> str:
    if image.config_hex or image.config not in layout.present:
        return image.config_hex
    try:
        return digest_of(read(image.config)).hex
    except InputError:
        return ""


def take_unlisted(
    walk: DocumentWalk, unlisted: Sequence[SavedImage], read: ReadMember
) -> tuple[SavedImage, ...]:
    """Adds the manifests of these images to the draft of the walk, if the archive has them.

    Returns the images without one. Raises ArchiveLimitError.
    """
    layout = walk.draft
    wanted = {image.config_hex for image in unlisted if image.config_hex}
    found: dict[str, Document] = {}
    indexes: list[Document] = []
    for document in _loose_documents(layout, read):
        if isinstance(document.content, Index):
            indexes.append(document)
        elif document.content.config.digest.hex in wanted:
            found.setdefault(document.content.config.digest.hex, document)
    tops = _tops(indexes)
    for config, document in found.items():
        root = tops.get(document.digest, document)
        descriptor = Descriptor(root.media_type, root.digest, root.size_bytes)
        if descriptor not in layout.roots:
            walk.add_root(descriptor)
        wanted.discard(config)
    return tuple(image for image in unlisted if not image.config_hex or image.config_hex in wanted)


def _tops(indexes: Iterable[Document]) -> Mapping[Digest, Document]:
    """Returns, by the digest of a manifest, the index that lists it."""
    return {child.digest: index for index in indexes for child in index.children}


def _loose_documents(layout: LayoutDraft, read: ReadMember) -> Iterator[Document]:
    """Yields the manifests and indexes among the blobs that nothing lists."""
    allowance = Allowance(layout.allowance.limits)
    listed = {name for image in layout.saved for name in (image.config, *image.layers)}
    listed |= set(layout.members)
    for name in sorted(layout.present - listed):
        if not name.startswith(_BLOBS):
            continue
        try:
            raw = read(name)
        except InputError:
            continue  # too large for a document, or damaged
        allowance.take_bytes(len(raw), "")
        algorithm = name.split("/")[1]
        try:
            document = parse_bare_document(raw, f"member {name}", algorithm=algorithm)
        except (InputError, ValueError):
            continue
        if f"{_BLOBS}{algorithm}/{document.digest.hex}" == name:
            yield document
