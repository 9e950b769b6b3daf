"""Detects an archive's format from its members' names, and drafts its plan. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from airside.archive.formats.allowance import Allowance
from airside.archive.formats.docker import DockerDraft
from airside.archive.formats.docker_legacy import draft_legacy, is_legacy
from airside.archive.formats.docker_manifest import (
    MANIFEST_JSON,
    REPOSITORIES,
    SavedImage,
    parse_manifest_json,
    parse_repositories,
)
from airside.archive.formats.index_json import INDEX_JSON, parse_index_json
from airside.archive.formats.joined import JoinedDraft
from airside.archive.formats.layout_walk import DocumentWalk, walk_layout
from airside.archive.formats.oci_layout import LAYOUT_FILE, has_disordered_layers
from airside.archive.formats.plan import Draft, ReadHeld, ReadMember
from airside.archive.formats.unlisted import NOTE as UNLISTED
from airside.archive.formats.unlisted import take_unlisted, unlisted_images
from airside.archive.formats.unsupported import (
    describe_foreign_list,
    describe_single_manifest,
    guess_contents,
)
from airside.core.errors import (
    ArchiveFormatError,
    ArchiveLimitError,
    InputError,
    ManifestInvalidError,
)
from airside.core.problem import Problem

DISORDERED = (
    "the manifests in index.json list the layers in a wrong order, as Docker 25.0.0 writes them: "
    "manifest.json is read instead"
)
_LINKS_FOLLOWED = 16


def make_draft(
    *,
    files: frozenset[str],
    links: Mapping[str, str],
    read: ReadMember,
    held: ReadHeld,
    allowance: Allowance,
) -> Draft:
    """Detect the format by its documents; an OCI index is preferred over `manifest.json`.

    The exception is an index of Docker 25.0.0, whose manifests list the layers in a wrong order.
    `files` are the names of members with content, `links` those of links with their targets.
    Raises ArchiveFormatError if there are no images, ManifestInvalidError, ArchiveLimitError.
    """
    resolved = {name: resolve_link(name, links) for name in links}
    if INDEX_JSON in files:
        index_json = read(INDEX_JSON)
        if parse_index_json(index_json):
            saved, problems = _saved_beside(files, read, allowance)
            listed = _listed(files, read, allowance, problems)
            walk = walk_layout(
                index_json,
                present=files,
                read=read,
                held=held,
                allowance=allowance,
                saved=saved,
                listed=listed,
                problems=problems,
            )
            if not saved or not has_disordered_layers(walk.draft, read):
                return _with_unlisted(walk, files, resolved, read)
            docker = _draft_docker(files, resolved, read, allowance.again())
            return replace(docker, notes=(DISORDERED,))
        if MANIFEST_JSON not in files:
            raise ArchiveFormatError(f"the archive holds no images: {INDEX_JSON} lists none")
    if MANIFEST_JSON in files:
        return _draft_docker(files, resolved, read, allowance)
    if is_legacy(files):
        return draft_legacy(files=files, links=resolved, read=read, allowance=allowance)
    raise ArchiveFormatError(_no_images_reason(files))


def index_may_follow(files: frozenset[str]) -> bool:
    """Returns True if an archive that ends early may lack the document that defines its images.

    If it lacks its OCI index, its `manifest.json` must not be read instead, which would give other
    digests. If it lacks its `manifest.json`, the older form beside it must not be read.
    """
    is_layout = LAYOUT_FILE in files or any(name.startswith("blobs/") for name in files)
    return INDEX_JSON not in files and (is_layout or MANIFEST_JSON not in files)


def _saved_beside(
    files: frozenset[str], read: ReadMember, allowance: Allowance
) -> tuple[tuple[SavedImage, ...], list[Problem]]:
    """Returns the entries of a `manifest.json` beside an index, and problems with them.

    Other tools have documents of this name beside a layout, which are no lists.
    """
    raw = read(MANIFEST_JSON) if MANIFEST_JSON in files else b""
    if raw.lstrip()[:1] != b"[":
        return (), []
    problems: list[Problem] = []
    try:
        images = parse_manifest_json(raw, problems)
    except InputError as exc:
        reason = f"{exc.message}: images that only it lists are not read"
        return (), [Problem(reason, code=exc.code)]
    Allowance(allowance.limits).take_names(_count_names(images), "")
    return images, problems


def _with_unlisted(
    walk: DocumentWalk, files: frozenset[str], links: Mapping[str, str], read: ReadMember
) -> Draft:
    """Returns the draft of a layout, with the images that only its `manifest.json` lists."""
    unlisted = unlisted_images(walk.draft, read)
    if not unlisted:
        return walk.draft
    walk.draft.notes.append(UNLISTED.format(len(unlisted)))
    left = take_unlisted(walk, unlisted, read)
    if not left:
        return walk.draft
    allowance = walk.draft.allowance.again()
    return JoinedDraft(
        (walk.draft, _docker_draft(left, files, links, allowance)), first_counts=True
    )


def _count_names(images: Iterable[SavedImage]) -> int:
    return sum(max(1, len(image.names)) for image in images)


def _draft_docker(
    files: frozenset[str], links: Mapping[str, str], read: ReadMember, allowance: Allowance
) -> DockerDraft:
    raw, problems = b"", list[Problem]()
    try:
        raw = read(MANIFEST_JSON)
        if raw.lstrip()[:1] == b"{":
            raise ArchiveFormatError(describe_single_manifest(raw, files, read))
        images = parse_manifest_json(raw, problems)
    except (ManifestInvalidError, ArchiveLimitError) as exc:
        foreign = describe_foreign_list(raw, files)
        if foreign:
            raise ArchiveFormatError(foreign) from exc
        raise
    listed = _listed(files, read, allowance, problems)
    draft = _docker_draft(images, files, links, allowance)
    return replace(draft, listed=listed, problems=tuple(problems))


def _listed(
    files: frozenset[str], read: ReadMember, allowance: Allowance, problems: list[Problem]
) -> tuple[str, ...]:
    """Returns the names in `repositories`; none, perhaps with a problem, if it cannot be read."""
    raw = read(REPOSITORIES) if REPOSITORIES in files else b""
    listed = parse_repositories(raw)
    if listed is None and raw.lstrip()[:1] == b"{":
        reason = f"the member {REPOSITORIES!r} cannot be read: names are not compared with it"
        problems.append(Problem(reason))
    Allowance(allowance.limits).take_names(len(listed or ()), "")
    return listed or ()


def _docker_draft(
    images: tuple[SavedImage, ...],
    files: frozenset[str],
    links: Mapping[str, str],
    allowance: Allowance,
) -> DockerDraft:
    """Returns the draft of entries of `manifest.json`. Raises ArchiveLimitError."""
    allowance.take_names(_count_names(images), "")
    allowance.take_descriptors(sum(1 + len(image.layers) for image in images), "")
    wanted = {links.get(n, n) for image in images for n in (image.config, *image.layers)}
    return DockerDraft(images, links, frozenset(wanted - files), allowance=allowance)


def resolve_link(name: str, links: Mapping[str, str]) -> str:
    """Follow links to the member with the content. A loop ends at any of its links."""
    for _ in range(_LINKS_FOLLOWED):
        if name not in links:
            break
        name = links[name]
    return name


def _no_images_reason(files: frozenset[str]) -> str:
    text = f"the archive holds no images: there is neither {INDEX_JSON} nor {MANIFEST_JSON}"
    if LAYOUT_FILE in files or any(name.startswith("blobs/") for name in files):
        return f"{text}; it is an OCI layout without its index"
    if REPOSITORIES in files:
        return f"{text}; it has {REPOSITORIES!r}, but lacks what that member names"
    instead = guess_contents(files)
    return f"{text}; {instead}" if instead else f"{text} at its top"
