"""`airside explain` of an image or an artifact. Reads the catalog and mirror settings."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from airside.catalog.lookup import ClaimRow, IncompleteImport, PartRow
from airside.catalog.source_paths import shown_source
from airside.catalog.view import CatalogView
from airside.core.errors import ManifestInvalidError, NotFoundError
from airside.core.host_root import host_root
from airside.core.rfc3339 import time_text
from airside.diagnostics.absence import Place, same_name
from airside.diagnostics.external_state import kubelet_of, lists_of, mirrors_at
from airside.diagnostics.holders import held_by
from airside.diagnostics.image_states import states_under
from airside.diagnostics.pull_commands import (
    Pulled,
    mirror_url,
    pull_commands,
    served_names,
)
from airside.oci.digest import Digest
from airside.oci.merge import MOST_PARTS, attested_by
from airside.oci.model import OCI_INDEX, OCI_MANIFEST, Document, Index, Manifest
from airside.oci.platform import Platform, best_for, parse_platform
from airside.oci.reference import Reference
from airside.ports.node_manifest import Selector
from airside.ports.publication import NodeContent

_TITLE = "org.opencontainers.image.title"
_NOT_SERVED: dict[str, Any] = {"mirrors": [], "served": [], "mirror": "", "pull": []}


def image_answer(view: CatalogView, name: Reference, digest: str, place: Place) -> dict[str, Any]:
    """The answer for a tag or digest in the catalog. Raises NotFoundError."""
    lookup = view.lookup
    document = lookup.document(digest)
    if document is None:
        raise NotFoundError(f"the document {digest} of {name} is not in the catalog")
    size_bytes, lost = lookup.below(digest)
    parts = {part.platform: part for part in (lookup.parts(name) if name.tag else [])}
    platforms = _platforms(view, document, {p: part.archive for p, part in parts.items()})
    artifact_type = document.kind_of_artifact
    node = _for_node(view, document, platforms, place)
    served = _NOT_SERVED
    if place.address:
        served = _served(name, place, _pulled(view, document, platforms, node))
    return {
        "kind": "image" if not artifact_type else "artifact",
        "reference": str(name),
        "digest": digest,
        "media_type": document.media_type,
        "artifact_type": artifact_type,
        "size_bytes": size_bytes,
        "runtimes": [
            each.report() for each in states_under(view.published(), str(name), place.runtimes)
        ],
        "held_by": [] if name.digest is None else held_by(view, name.repository, name.digest),
        **_tag(view, name, document, parts),
        "platforms": [_backed(item, parts.get(item["platform"])) for item in platforms],
        "node": node,
        "same_digest": [other for other in lookup.same(digest) if other != str(name)],
        "referrers": [{"digest": d, "artifact_type": t} for d, t in lookup.referrers(digest)],
        "lost_blobs": [{"digest": d, "state": state} for d, state in lost],
        "problems": _problems_of(lookup.troubles(), str(name)),
        "lists": lists_of(view, name),
        **served,
        "kubelet": None if artifact_type else _kubelet(view, name, node, served["mirrors"]),
    }


def _kubelet(
    view: CatalogView, name: Reference, node: dict[str, Any], mirrors: list[dict[str, Any]]
) -> dict[str, Any] | None:
    """Returns whether kubelet runs the image without asking a registry; None without a kubelet."""
    document = view.lookup.document(node["digest"]) if node["digest"] else None
    content = document.content if document is not None else None
    image_id = content.config.digest if isinstance(content, Manifest) else None
    mirrored = bool(mirrors) and all(each["set"] for each in mirrors)
    return kubelet_of(name, image_id, host_root(), mirrored=mirrored)


def _tag(
    view: CatalogView, name: Reference, document: Document, parts: dict[str, PartRow]
) -> dict[str, Any]:
    """The catalog's record of the tag; empty for a name by digest."""
    lookup, digest = view.lookup, str(document.digest)
    row, claims = (lookup.tag(name), lookup.claims(name)) if name.tag else (None, [])
    rolled_back = bool(row and row.rolled_back)
    merged = row is not None and not any(c.digest == digest for c in claims) and len(parts) > 1
    return {
        "form": _form(document, merged=merged and not rolled_back),
        "moved_at": time_text(row.moved_at) if row else None,
        "unbacked_since": time_text(row.unbacked_since) if row else None,
        "rolled_back": rolled_back,
        "mixed": any(part.behind for part in parts.values()),
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
    }


def _backed(item: dict[str, Any], part: PartRow | None) -> dict[str, Any]:
    """A platform, with the state of its archive."""
    return item | {
        "backed": part.backed if part is not None else None,
        "behind": part is not None and part.behind,
    }


def _served(name: Reference, place: Place, pulled: Pulled) -> dict[str, Any]:
    """The names, mirror settings and commands to pull an image from the registry."""
    address = place.address
    mirrors = mirrors_at(name.repository.host or address, place.url, place.sockets)
    certs = mirrors[0]["directory"] if mirrors and place.sockets else ""
    return {
        "mirrors": mirrors,
        "served": served_names(name, address),
        "mirror": mirror_url(name, address),
        "pull": [
            {"client": client, "command": command}
            for client, command in pull_commands(name, address, pulled, certs)
        ],
    }


def _pulled(
    view: CatalogView, document: Document, platforms: list[dict[str, Any]], node: dict[str, Any]
) -> Pulled:
    """The properties of the image that change the pull commands."""
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
    """Yields a document and all descendants of its index, each once; None for an absent one."""
    seen = {document.digest}
    todo = [document.digest]
    while todo:
        digest = todo.pop()
        found = document if digest == document.digest else view.lookup.document(str(digest))
        yield found
        if found is not None and isinstance(found.content, Index):
            new = {child.digest for child in found.content.manifests} - seen
            seen |= new
            todo += new


def _form(document: Document, *, merged: bool) -> str:
    if merged:
        return "index merged here"
    return "index" if isinstance(document.content, Index) else "manifest"


def _whose(parts: dict[str, PartRow]) -> dict[str, list[str]]:
    """Returns the platforms of the tag by archive."""
    found: dict[str, list[str]] = {}
    for platform, part in parts.items():
        found.setdefault(part.archive, []).append(platform)
    return found


def _claim(claim: ClaimRow, digest: str, *, parts_of: dict[str, list[str]]) -> dict[str, Any]:
    """An archive that has the tag, and its role for the tag now."""
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
    """Each platform of the document: its manifest, True if stored, and its archive.

    Each once, and at most as many as a document has parts.
    """
    lookup = view.lookup
    if not isinstance(document.content, Index):
        platform = lookup.platform(str(document.digest))
        if not platform or document.kind_of_artifact:
            return []
        return [_platform(view, platform, str(document.digest), archives)]
    found: dict[tuple[Digest, str], dict[str, Any]] = {}
    indexes: dict[Digest, Index] = {document.digest: document.content}
    todo = list(indexes)
    while todo:
        for child in indexes[todo.pop(0)].manifests:
            inner = None if child.digest in indexes else lookup.document(str(child.digest))
            if inner is not None and isinstance(inner.content, Index):
                indexes[child.digest] = inner.content
                todo.append(child.digest)
            elif child.digest not in indexes and attested_by(child) is None:
                declared = child.platform.key if child.platform is not None else ""
                platform = declared or lookup.platform(str(child.digest))
                key = (child.digest, platform)
                if platform and not platform.startswith("unknown") and key not in found:
                    found[key] = _platform(view, platform, str(child.digest), archives)
                if len(found) >= MOST_PARTS:
                    return list(found.values())
    return list(found.values())


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


def _for_node(
    view: CatalogView, document: Document, platforms: list[dict[str, Any]], place: Place
) -> dict[str, Any]:
    """The platform of the image that this node uses, with a note if it is not the node's."""
    held: dict[Platform, dict[str, Any]] = {}
    for item in platforms:
        if item["present"]:
            try:
                held.setdefault(parse_platform(item["platform"]), item)
            except ManifestInvalidError:
                continue
    best, note = best_for(place.node, held), ""
    if best is None:
        selector = Selector(
            place.node,
            lambda child: view.lookup.document(str(child.digest)),
            lambda manifest: next(_parsed([view.lookup.platform(str(manifest.digest))]), None),
            lambda _manifest: True,
            place.other_platforms,
        )
        chosen = selector.choose(document)
        if isinstance(chosen, NodeContent):
            digest, note = str(chosen.manifest.digest), chosen.note
            best = next((p for p, item in held.items() if item["digest"] == digest), None)
    return {
        "platform": str(place.node),
        "digest": held[best]["digest"] if best is not None else None,
        "takes": best.key if best is not None else None,
        "note": note,
    }


def _problems_of(troubles: list[IncompleteImport], reference: str) -> list[dict[str, str]]:
    """Problems that archives reported for this name."""
    return [
        {"archive": t.path, "blob": p.blob, "reason": p.reason}
        for t in troubles
        for p in t.problems
        if p.image and same_name(p.image, reference)
    ]
