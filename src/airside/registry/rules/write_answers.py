"""Answers to pushes and deletions (OCI distribution spec, "Push"). Pure."""

from collections.abc import Sequence
from urllib.parse import quote

from airside.oci.digest import Digest
from airside.oci.model import Document
from airside.registry.rules.answers import Answer, problem
from airside.registry.rules.names import Name


def upload_answer(status: int, name: Name, upload_id: str, offset: int) -> Answer:
    """The state of an upload: its location and the bytes received."""
    return Answer(
        status,
        headers=(
            ("Location", _location(name, f"blobs/uploads/{upload_id}")),
            ("Range", f"0-{max(offset - 1, 0)}"),
            ("Docker-Upload-UUID", upload_id),
        ),
    )


def range_refusal(name: Name, upload_id: str, offset: int, message: str) -> Answer:
    """The refusal of a chunk at a wrong offset; the upload stays usable from `offset`."""
    state = upload_answer(416, name, upload_id, offset)
    refusal = problem(416, "BLOB_UPLOAD_INVALID", message, {"offset": offset})
    return Answer(416, refusal.body, (*refusal.headers, *state.headers))


def blob_answer(name: Name, digest: Digest) -> Answer:
    """The answer for a stored blob."""
    return Answer(
        201,
        headers=(
            ("Location", _location(name, f"blobs/{digest}")),
            ("Docker-Content-Digest", str(digest)),
        ),
    )


def manifest_answer(name: Name, document: Document, tags: Sequence[str]) -> Answer:
    """The answer for a stored manifest; `tags` are those of the query."""
    headers = [
        ("Location", _location(name, f"manifests/{document.digest}")),
        ("Docker-Content-Digest", str(document.digest)),
    ]
    if document.subject is not None:
        headers.append(("OCI-Subject", str(document.subject.digest)))
    headers += [("OCI-Tag", tag) for tag in tags]
    return Answer(201, headers=tuple(headers))


def _location(name: Name, rest: str) -> str:
    ns = f"?ns={quote(name.host, safe='')}" if name.host else ""
    return f"/v2/{quote(name.text)}/{rest}{ns}"
