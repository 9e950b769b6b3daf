"""`airside explain`: everything known of a name, a digest or an archive, as one JSON object.

Reads the catalog; changes nothing. Each answer has `what` (as asked), `kind` and, for something
absent, `advice`, which `airside.diagnostics.absence` writes.
"""

import re
from typing import Any

from airside.archive.reader import ARCHIVE_SUFFIXES
from airside.catalog.view import CatalogView
from airside.core.errors import ReferenceInvalidError
from airside.core.rfc3339 import time_text
from airside.diagnostics.absence import Place, absent_archive, absent_name
from airside.diagnostics.explain_archive import archive_answer
from airside.diagnostics.explain_image import image_answer
from airside.diagnostics.external_state import only_in_runtimes
from airside.diagnostics.pull_commands import (
    name_in,
    reachable,
)
from airside.oci.reference import Reference, Repository, parse_reference

_DIGEST = re.compile(r"(?:(sha256|sha512):)?([0-9a-f]{6,128})\Z")


def explain(view: CatalogView, what: str, place: Place) -> dict[str, Any]:
    """Explains an absolute path, a digest or its first digits, or the name of an image.

    Raises ReferenceInvalidError if `what` is none of these.
    """
    head = {"schema": 1, "what": what}
    found = view.lookup.paths(what)
    if what.startswith("/") or len(found) == 1:
        return head | archive_answer(view, found[0] if found else what, place)
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
    answer = only_in_runtimes(view, readings[0], place.contents, place.read_through)
    if answer is not None:
        return head | answer
    absent = absent_name(view, readings[0], place)
    if match:
        absent["advice"].insert(0, f"no stored digest begins with {match[2]}")
    return head | absent


def _readings(what: str, place: Place) -> list[Reference]:
    """Returns the possible names: as written, from the registry's URL, and as podman writes it."""
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


def _name(view: CatalogView, name: Reference, place: Place) -> dict[str, Any] | None:
    """The answer for a stored name; a name without a tag is `latest`, else its repository."""
    lookup = view.lookup
    for repository in dict.fromkeys((name.repository, *_same_path_elsewhere(view, name))):
        if name.digest is not None:
            if view.document_by_digest(repository, name.digest) is not None:
                exact = Reference(repository, "", name.digest)
                return image_answer(view, exact, str(name.digest), place)
            continue
        exact = Reference(repository, name.tag or "latest")
        row = lookup.tag(exact)
        if row is not None:
            return image_answer(view, exact, row.digest, place)
        tags = lookup.tags(repository)
        if tags and not name.tag:
            return {
                "kind": "repository",
                "reference": str(repository),
                "tags": [{"tag": tag, "digest": digest} for tag, digest in tags],
            }
    return None


def _same_path_elsewhere(view: CatalogView, name: Reference) -> list[Repository]:
    """The repository of another registry with the same path, if there is exactly one."""
    if name.repository.host not in {"docker.io", ""}:
        return []
    path = name.repository.path.removeprefix("library/")
    found = [r for p in {path, name.repository.path} for r in view.repositories_at(p)]
    return found if len(found) == 1 else []


def _digest(view: CatalogView, digests: list[str], place: Place) -> dict[str, Any]:
    if not digests:
        advice = "the store has no blob, manifest or index with this digest"
        return {"kind": "absent", "nearest": [], "troubles": [], "advice": [advice]}
    if len(digests) > 1:
        return {"kind": "ambiguous", "digests": digests}
    digest = digests[0]
    names = view.lookup.same(digest)
    if names:
        name = parse_reference(names[0])
        return image_answer(view, name, digest, place)
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
