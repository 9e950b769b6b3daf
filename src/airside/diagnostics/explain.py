"""`airside explain`: all that is known of a name, a digest or an archive, as one JSON object.

Reads the catalog; changes nothing. Each answer has `what` (as asked), `kind` and, for something
that is not here, `advice`, which `airside.diagnostics.absence` writes.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from airside.archive.formats.image_list import LIST
from airside.archive.reader import ARCHIVE_SUFFIXES
from airside.catalog.lookup import ClaimRow, Trouble
from airside.catalog.source_paths import shown_source
from airside.catalog.view import CatalogView
from airside.core.errors import ManifestInvalidError, NotFoundError, ReferenceInvalidError
from airside.core.host_root import host_root
from airside.diagnostics.absence import Place, absent_archive, absent_name, advice_for, same_name
from airside.diagnostics.external_state import lists_of, mirrors_of, only_elsewhere
from airside.diagnostics.pull_commands import (
    Pulled,
    mirror_url,
    name_in,
    pull_commands,
    reachable,
    served_names,
)
from airside.diagnostics.reports import archive_report, publication_report, time_text
from airside.oci.digest import Digest
from airside.oci.merge import attested_by
from airside.oci.model import OCI_INDEX, OCI_MANIFEST, Document, Index
from airside.oci.platform import Platform, best_for, parse_platform
from airside.oci.reference import Reference, Repository, parse_reference

_DIGEST = re.compile(r"(?:(sha256|sha512):)?([0-9a-f]{6,128})\Z")
_TITLE = "org.opencontainers.image.title"


def explain(view: CatalogView, what: str, place: Place) -> dict[str, Any]:
    """Explain a path (absolute), a digest (also its first digits) or an image's name.

    Raises ReferenceInvalidError for what is neither.
    """
    head = {"schema": 1, "what": what}
    found = view.lookup.paths(what)
    if what.startswith("/") or len(found) == 1:
        return head | _archive(view, found[0] if found else what, place)
    match = _DIGEST.match(what)
    if match:
        digests = view.lookup.digests(f"{match[1] or 'sha256'}:{match[2]}")
        if digests or match[1]:
            return head | _digest(view, digests, place)
    readings = _readings(what, place)
    for name in readings:
        answer = _name(view, name, place)
        if answer is not None:
            return head | answer
    if what.lower().endswith(ARCHIVE_SUFFIXES):
        return head | absent_archive(view, what, place)
    answer = only_elsewhere(view, readings[0], place.contents, place.read_through)
    if answer is not None:
        return head | answer
    absent = absent_name(view, readings[0], place)
    if match:
        absent["advice"].insert(0, f"no digest here begins with {match[2]}")
    return head | absent


def _readings(what: str, place: Place) -> list[Reference]:
    """What a text may mean as a name: as it is, and as the registry's URL or podman writes it."""
    what = name_in(what)
    texts = [what]
    host, _, rest = what.partition("/")
    if rest and place.address and reachable(host) == place.address:
        texts = [rest]
        host, slash, path = rest.partition("/")
        if slash and "_" in host:
            texts.append(f"{host.replace('_', ':')}/{path}")
    if what.startswith("localhost/"):
        texts.append(what.removeprefix("localhost/"))
    names = []
    for number, text in enumerate(texts):
        try:
            names.append(parse_reference(text, default_tag=""))
        except ReferenceInvalidError:
            if number == len(texts) - 1 and not names:
                raise
    return names


# a name


def _name(view: CatalogView, name: Reference, place: Place) -> dict[str, Any] | None:
    """The answer for a name that is here; without a tag `latest`, else its repository."""
    lookup = view.lookup
    for repository in dict.fromkeys((name.repository, *_elsewhere(view, name))):
        if name.digest is not None:
            if view.document_by_digest(repository, name.digest) is not None:
                exact = Reference(repository, "", name.digest)
                return _image(view, exact, str(name.digest), place)
            continue
        exact = Reference(repository, name.tag or "latest")
        row = lookup.tag(exact)
        if row is not None:
            return _image(view, exact, row.digest, place)
        tags = lookup.tags(repository)
        if tags and not name.tag:
            return {
                "kind": "repository",
                "reference": str(repository),
                "tags": [{"tag": tag, "digest": digest} for tag, digest in tags],
            }
    return None


def _elsewhere(view: CatalogView, name: Reference) -> list[Repository]:
    """The one repository of another registry that has this path (as short names are served)."""
    if name.repository.host not in {"docker.io", ""}:
        return []
    path = name.repository.path.removeprefix("library/")
    found = [r for p in {path, name.repository.path} for r in view.repositories_at(p)]
    return found if len(found) == 1 else []


def _image(view: CatalogView, name: Reference, digest: str, place: Place) -> dict[str, Any]:
    lookup = view.lookup
    document = lookup.document(digest)
    if document is None:
        raise NotFoundError(f"the document {digest} of {name} is not in the catalog")
    row, claims = (lookup.tag(name), lookup.claims(name)) if name.tag else (None, [])
    size_bytes, lost = lookup.below(digest)
    parts = {part.platform: part for part in (lookup.parts(name) if name.tag else [])}
    platforms = _platforms(view, document, {p: part.archive for p, part in parts.items()})
    merged = row is not None and not any(c.digest == digest for c in claims) and len(parts) > 1
    artifact_type = document.kind_of_artifact
    node = _for_node(platforms, place)
    return {
        "kind": "image" if not artifact_type else "artifact",
        "reference": str(name),
        "digest": digest,
        "media_type": document.media_type,
        "artifact_type": artifact_type,
        "form": _form(document, merged=merged and not (row and row.rolled_back)),
        "size_bytes": size_bytes,
        "moved_at": time_text(row.moved_at) if row else None,
        "runtimes": [
            publication_report(each) for each in view.published() if each.reference == str(name)
        ],
        "unbacked_since": time_text(row.unbacked_since) if row else None,
        "rolled_back": bool(row and row.rolled_back),
        "mixed": any(part.behind for part in parts.values()),
        "platforms": [
            item
            | {
                "backed": parts[item["platform"]].backed if item["platform"] in parts else None,
                "behind": item["platform"] in parts and parts[item["platform"]].behind,
            }
            for item in platforms
        ],
        "node": node,
        "archives": [_claim(claim, digest, parts_of=_whose(parts)) for claim in claims],
        "history": [
            {
                "digest": version,
                "source": shown_source(path),
                "at": time_text(at),
                "platforms": list(names),
                "current": number == 0,
            }
            for number, (version, path, at, names) in enumerate(
                lookup.versions(name) if name.tag else []
            )
        ],
        "aliases": sorted({a for c in claims for a in c.alias.split() if a != str(name)}),
        "same_digest": [other for other in lookup.same(digest) if other != str(name)],
        "referrers": [{"digest": d, "artifact_type": t} for d, t in lookup.referrers(digest)],
        "lost_blobs": [{"digest": d, "state": state} for d, state in lost],
        "problems": _problems_of(lookup.troubles(), str(name)),
        "lists": lists_of(view, name),
        "mirrors": mirrors_of(name.repository.host or place.address, place.address, host_root())
        if place.address
        else [],
        "served": served_names(name, place.address) if place.address else [],
        "mirror": mirror_url(name, place.address) if place.address else "",
        "pull": [
            {"client": client, "command": command}
            for client, command in (
                pull_commands(name, place.address, _pulled(view, document, platforms, node))
                if place.address
                else []
            )
        ],
    }


def _pulled(
    view: CatalogView, document: Document, platforms: list[dict[str, Any]], node: dict[str, Any]
) -> Pulled:
    """What commands for it depend on."""
    held = list(_parsed(item["platform"] for item in platforms if item["present"]))
    taken = next(_parsed([node["takes"] or ""]), None)
    below = list(_below(view, document))
    content = document.content
    layers = () if isinstance(content, Index) else content.layers
    return Pulled(
        artifact_type=document.kind_of_artifact,
        platform=taken or next(iter(held), None),
        sparse=None in below,
        other=bool(held) and taken is None,
        files=any(_TITLE in layer.annotations for layer in layers),
        oci=all(d is None or d.media_type in {OCI_MANIFEST, OCI_INDEX} for d in below),
    )


def _parsed(texts: Iterable[str]) -> Iterator[Platform]:
    for text in texts:
        with contextlib.suppress(ManifestInvalidError):
            yield parse_platform(text)


def _below(view: CatalogView, document: Document) -> Iterator[Document | None]:
    """A document and all that its index lists, at any depth, once; None for what is not here."""
    todo: list[Document | None] = [document]
    seen = {document.digest}
    while todo:
        found = todo.pop()
        yield found
        if found is not None and isinstance(found.content, Index):
            new = {child.digest for child in found.content.manifests} - seen
            seen |= new
            todo += [view.lookup.document(str(digest)) for digest in new]


def _form(document: Document, *, merged: bool) -> str:
    if merged:
        return "index merged here"
    return "index" if isinstance(document.content, Index) else "manifest"


def _whose(parts: dict[str, Any]) -> dict[str, list[str]]:
    """Archive → platforms that the tag has of it."""
    found: dict[str, list[str]] = {}
    for platform, part in parts.items():
        found.setdefault(part.archive, []).append(platform)
    return found


def _claim(claim: ClaimRow, digest: str, *, parts_of: dict[str, list[str]]) -> dict[str, Any]:
    """One archive's word about the tag, and what has become of it."""
    followed = parts_of.get(claim.path, [])
    if followed:
        role = "followed"
    elif claim.digest == digest:
        role = "same" if claim.present else "removed"
    else:
        role = "superseded" if claim.present else "removed"
    return {
        "path": shown_source(claim.path),
        "kind": claim.kind,
        "origin": claim.origin,
        "state": claim.state,
        "role": role,
        "digest": claim.digest,
        "sequence": claim.sequence,
        "settled_at": time_text(claim.settled_at),
        "imported_at": time_text(claim.imported_at),
        "platforms": list(claim.platforms),
        "followed_for": followed,
    }


def _platforms(
    view: CatalogView, document: Document, archives: dict[str, str]
) -> list[dict[str, Any]]:
    """Each platform that the document lists: its manifest, held or not, and whose it is."""
    lookup = view.lookup
    if not isinstance(document.content, Index):
        platform = lookup.platform(str(document.digest))
        if not platform or not document.is_image:
            return []
        return [_platform(view, platform, str(document.digest), archives)]
    found: list[dict[str, Any]] = []
    indexes: dict[Digest, Index] = {document.digest: document.content}
    todo = list(indexes)
    while todo:
        for child in indexes[todo.pop(0)].manifests:
            inner = None if child.digest in indexes else lookup.document(str(child.digest))
            if inner is not None and isinstance(inner.content, Index):
                indexes[child.digest] = inner.content
                todo.append(child.digest)
            elif child.digest not in indexes and attested_by(child) is None:
                told = child.platform.key if child.platform is not None else ""
                platform = told or lookup.platform(str(child.digest))
                if platform and not platform.startswith("unknown"):
                    found.append(_platform(view, platform, str(child.digest), archives))
    return found


def _platform(
    view: CatalogView, platform: str, digest: str, archives: dict[str, str]
) -> dict[str, Any]:
    present = view.lookup.document(digest) is not None
    return {
        "platform": platform,
        "digest": digest,
        "present": present,
        "size_bytes": view.lookup.below(digest)[0] if present else 0,
        "archive": shown_source(archives.get(platform, "")),
    }


def _for_node(platforms: list[dict[str, Any]], place: Place) -> dict[str, Any]:
    """What this node takes of the image."""
    held: dict[Platform, dict[str, Any]] = {}
    for item in platforms:
        if item["present"]:
            try:
                held.setdefault(parse_platform(item["platform"]), item)
            except ManifestInvalidError:
                continue
    best = best_for(place.node, held)
    return {
        "platform": str(place.node),
        "digest": held[best]["digest"] if best is not None else None,
        "takes": best.key if best is not None else None,
    }


def _problems_of(troubles: list[Trouble], reference: str) -> list[dict[str, str]]:
    """What archives tell of this name."""
    return [
        {"archive": t.path, "blob": p.blob, "reason": p.reason}
        for t in troubles
        for p in t.problems
        if p.image and same_name(p.image, reference)
    ]


# a digest


def _digest(view: CatalogView, digests: list[str], place: Place) -> dict[str, Any]:
    if not digests:
        advice = "no blob, manifest or index with this digest is here"
        return {"kind": "absent", "nearest": [], "troubles": [], "advice": [advice]}
    if len(digests) > 1:
        return {"kind": "ambiguous", "digests": digests}
    digest = digests[0]
    names = view.lookup.same(digest)
    if names:
        name = parse_reference(names[0])
        return _image(view, name, digest, place)
    size_bytes, state, verified_at = view.lookup.blob(digest) or (0, "", 0.0)
    tags, archives = view.lookup.users(digest)
    document = view.lookup.document(digest)
    return {
        "kind": "blob",
        "digest": digest,
        "media_type": document.media_type if document is not None else "",
        "size_bytes": size_bytes,
        "state": state,
        "verified_at": time_text(verified_at),
        "images": tags,
        "archives": archives,
    }


# an archive


def _archive(view: CatalogView, path: str, place: Place) -> dict[str, Any]:
    rows = view.sources(path=path)
    if not rows:
        return absent_archive(view, path, place)
    images = []
    for name, digest in view.lookup.claimed_by(path):
        claim = next((c for c in view.lookup.claims(name) if c.path == path), None)
        current = view.lookup.tag(name) if name.tag else None
        parts = [p.platform for p in view.lookup.parts(name) if p.archive == path]
        images.append(
            {
                "reference": str(name) if name.tag else f"{name.repository}@{digest}",
                "digest": digest,
                "role": _role(view, name, digest, parts, path) if name.tag else "by digest only",
                "followed_for": parts,
                "platforms": list(claim.platforms) if claim is not None else [],
                "rolled_back": bool(current and current.rolled_back),
            }
        )
    shown = archive_report(rows[0])
    if shown["format"] == LIST:
        images = [_of_list(name) for name in rows[0].images]
    advice = advice_for(shown["state"], shown["kind"])
    return {"kind": "archive", **shown, "images": images, "advice": advice}


def _of_list(name: str) -> dict[str, Any]:
    """An image of a list: what became of it since is the runtime's matter."""
    return {
        "reference": name,
        "digest": "",
        "role": "pulled by the container runtime",
        "followed_for": [],
        "platforms": [],
        "rolled_back": False,
    }


def _role(view: CatalogView, name: Reference, digest: str, parts: list[str], path: str) -> str:
    """What the archive is for a tag now."""
    current = view.lookup.tag(name)
    if current is None:
        return "the tag is gone"
    if current.rolled_back and current.digest != digest:
        return "the tag was rolled back"
    if parts:
        return "followed"
    newer = next((c.path for c in view.lookup.claims(name) if c.present), "")
    if current.digest == digest:
        return "the same as what the tag is" + (f", from {newer}" if newer != path else "")
    return f"superseded by {newer}" if newer else "superseded"
