"""Answers of the registry to its clients, and their errors (OCI distribution spec). Pure.

An `Answer` is complete in memory; a `Part` describes bytes of a blob that are sent later. `failure`
maps exceptions to HTTP statuses and error codes: the only such table.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airside.core.errors import (
    AirsideError,
    ConflictError,
    DigestInvalidError,
    DigestMismatchError,
    InputError,
    ManifestInvalidError,
    MissingBlobError,
    NotFoundError,
    ReferenceInvalidError,
    SizeMismatchError,
    StoppedError,
    StorageFullError,
    StoreCorruptError,
    StoreError,
    UnavailableError,
)
from airside.oci.digest import Digest
from airside.ports.content import StoredDocument

JSON = "application/json"
OCTETS = "application/octet-stream"
IMMUTABLE = ("Cache-Control", "max-age=31536000, immutable")


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer. A HEAD gets the same without the body.

    `headers` are all but the length; `etag` is set if conditional requests apply.
    """

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A 200 or 206 with `count` bytes of a blob from `start`."""

    status: int
    headers: tuple[tuple[str, str], ...]
    start: int
    count: int


def problem(
    status: int,
    code: str,
    message: str,
    detail: Mapping[str, object] | None = None,
    *headers: tuple[str, str],
) -> Answer:
    """An error in the form of the distribution spec ("Error Codes")."""
    error = {"code": code, "message": message, "detail": dict(detail or {})}
    return Answer(status, json_bytes({"errors": [error]}), (("Content-Type", JSON), *headers))


def with_reason(absent: Answer, why: str) -> Answer:
    """Adds to a 404 why no upstream could provide the content; unchanged if `why` is empty."""
    if not why:
        return absent
    [error] = json.loads(absent.body)["errors"]
    return problem(absent.status, error["code"], f"{error['message']}; {why}", error["detail"])


FAILURES: tuple[tuple[type[AirsideError], int, str], ...] = (
    (ReferenceInvalidError, 400, "NAME_INVALID"),
    (DigestInvalidError, 400, "DIGEST_INVALID"),
    (DigestMismatchError, 400, "DIGEST_INVALID"),
    (SizeMismatchError, 400, "SIZE_INVALID"),
    (MissingBlobError, 400, "MANIFEST_BLOB_UNKNOWN"),
    (ManifestInvalidError, 400, "MANIFEST_INVALID"),
    (InputError, 400, "UNKNOWN"),
    (NotFoundError, 404, "BLOB_UNKNOWN"),
    (ConflictError, 409, "UNKNOWN"),
    (StorageFullError, 507, "UNKNOWN"),
    (StoreCorruptError, 500, "UNKNOWN"),
    (StoreError, 503, "UNKNOWN"),
    (UnavailableError, 503, "UNKNOWN"),
    (StoppedError, 503, "UNKNOWN"),
    (AirsideError, 500, "UNKNOWN"),
)
"""Error → (HTTP status, code), the first class that fits."""


def failure(error: Exception) -> Answer:
    """The answer for an exception. Errors of the registry itself reveal no details."""
    fitting = ((status, code) for kind, status, code in FAILURES if isinstance(error, kind))
    status, code = next(fitting, (500, "UNKNOWN"))
    if isinstance(error, AirsideError) and status < 500:
        return problem(status, code, error.message)
    return problem(status, code, "internal error of the registry; its log has the cause")


def answer_document(document: StoredDocument, reference: Digest | str) -> Answer:
    """The answer with a manifest or index, requested by a digest or a tag."""
    headers = [
        ("Content-Type", document.media_type),
        ("Docker-Content-Digest", str(document.digest)),
        ("ETag", f'"{document.digest}"'),
    ]
    if isinstance(reference, Digest):
        headers.append(IMMUTABLE)
    return Answer(200, document.raw, tuple(headers), str(document.digest))


def json_bytes(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
