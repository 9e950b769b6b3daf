"""`airside explain` of an archive or a list. Reads the catalog."""

from typing import Any

from airside.archive.formats.image_list import LIST
from airside.catalog.view import CatalogView
from airside.diagnostics.absence import Place, absent_archive, advice_for
from airside.diagnostics.reports import archive_report
from airside.oci.reference import Reference


def archive_answer(view: CatalogView, path: str, place: Place) -> dict[str, Any]:
    """The answer for an archive in the catalog, else the reason it is absent."""
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
    shown = archive_report(rows[0], view.unpublished())
    if shown["format"] == LIST:
        images = [_of_list(name) for name in rows[0].images]
    advice = advice_for(shown["state"], shown["kind"])
    how = {"kind": "archive", "archive_kind": shown["kind"]}
    return {**shown, **how, "images": images, "advice": advice}


def _of_list(name: str) -> dict[str, Any]:
    """An image of a list. Only the runtime knows its state after the pull."""
    return {
        "reference": name,
        "digest": "",
        "role": "pulled by the container runtime",
        "followed_for": [],
        "platforms": [],
        "rolled_back": False,
    }


def _role(view: CatalogView, name: Reference, digest: str, parts: list[str], path: str) -> str:
    """The archive's role for a tag now, as text."""
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
