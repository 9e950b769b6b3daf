"""From the names of an archive's members to a draft of its plan: which format is it? Pure."""

from collections.abc import Mapping

from airside.archive.docker import (
    MANIFEST_JSON,
    REPOSITORIES,
    DockerDraft,
    normalised,
    parse_manifest_json,
    parse_repositories,
)
from airside.archive.layout import INDEX_JSON, LAYOUT_FILE, draft_layout, parse_index_json
from airside.archive.plan import Draft, ReadHeld, ReadMember
from airside.config import Limits
from airside.errors import ArchiveFormatError, InputError

_LINKS_FOLLOWED = 16


def make_draft(
    *,
    files: frozenset[str],
    links: Mapping[str, str],
    read: ReadMember,
    held: ReadHeld,
    nesting: int,
    documents_bytes: int = Limits().documents_bytes,
) -> Draft:
    """Recognise the format by its documents; an OCI index is preferred over `manifest.json`.

    `files` are the names of members with content, `links` those of links with their targets.
    Raises ArchiveFormatError where there are no images, ManifestInvalidError.
    """
    if INDEX_JSON in files:
        index_json = read(INDEX_JSON)
        if parse_index_json(index_json):
            return draft_layout(
                index_json,
                present=files,
                read=read,
                held=held,
                nesting=nesting,
                documents_bytes=documents_bytes,
                listed_names=_names_beside(files, read),
            )
        if MANIFEST_JSON not in files:
            raise ArchiveFormatError(f"the archive holds no images: {INDEX_JSON} lists none")
    if MANIFEST_JSON in files:
        return _draft_docker(files, links, read)
    raise ArchiveFormatError(_why_no_images(files))


def index_may_follow(files: frozenset[str]) -> bool:
    """Whether an archive that ends early with these members may lack only its OCI index.

    Then its `manifest.json` must not be taken for all that it says: the digests would be others.
    """
    is_layout = LAYOUT_FILE in files or any(name.startswith("blobs/") for name in files)
    return is_layout and INDEX_JSON not in files


def _names_beside(files: frozenset[str], read: ReadMember) -> frozenset[str]:
    """The image names of a `manifest.json` beside an index; none if it is not understood."""
    if MANIFEST_JSON not in files:
        return frozenset()
    try:
        images = parse_manifest_json(read(MANIFEST_JSON))
    except InputError:
        return frozenset()
    return frozenset(name for image in images for name in normalised(image.names))


def _draft_docker(files: frozenset[str], links: Mapping[str, str], read: ReadMember) -> DockerDraft:
    raw = read(MANIFEST_JSON)
    if raw.lstrip()[:1] == b"{":
        raise ArchiveFormatError(
            f"{MANIFEST_JSON} is a single manifest: a `dir:` copy is not supported, "
            "make a docker-archive or an OCI layout"
        )
    images = parse_manifest_json(raw)
    resolved = {name: resolve_link(name, links) for name in links}
    wanted = {resolved.get(n, n) for image in images for n in (image.config, *image.layers)}
    listed = parse_repositories(read(REPOSITORIES)) if REPOSITORIES in files else None
    return DockerDraft(images, resolved, frozenset(wanted - files), listed or None)


def resolve_link(name: str, links: Mapping[str, str]) -> str:
    """Follow links to the member with the content; a loop ends at some link."""
    for _ in range(_LINKS_FOLLOWED):
        if name not in links:
            break
        name = links[name]
    return name


def _why_no_images(files: frozenset[str]) -> str:
    text = f"the archive holds no images: there is neither {INDEX_JSON} nor {MANIFEST_JSON}"
    if REPOSITORIES in files:
        return text + f" (only {REPOSITORIES!r}, the format of Docker before 1.10: save it again)"
    if LAYOUT_FILE in files or any(name.startswith("blobs/") for name in files):
        return text + " (an OCI layout without its index)"
    nested = sorted(
        name for name in files if name.endswith((f"/{INDEX_JSON}", f"/{MANIFEST_JSON}"))
    )
    if nested:
        folder = nested[0].rpartition("/")[0]
        return text + f" at the top (found in {folder!r}: pack the contents of that directory)"
    return text
