"""Parses pushing and deleting requests. Pure.

OCI distribution spec, "Push" and "Content Management": uploads in one request, in two, or in
chunks; mounts; manifests by tag or digest; deletions. Reads are in `registry.rules.requests`,
answers in `registry.rules.write_answers`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote

from airside.core.errors import DigestInvalidError
from airside.oci.digest import HEX_LENGTHS, Digest, parse_digest
from airside.oci.reference import is_path, is_tag
from airside.registry.rules.answers import Answer, problem
from airside.registry.rules.names import Name
from airside.registry.rules.requests import parse_host, parse_name, parse_query

_UPLOADS = "/blobs/uploads"
_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})\Z")
_MAX_TAGS = 100
_KINDS = frozenset({"uploads", "manifests", "blobs"})


@dataclass(frozen=True, slots=True)
class Chunk:
    """The `Content-Range` of an upload: its first and last byte."""

    first: int
    last: int

    @property
    def count(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class StartUpload:
    """Starts an upload; with a digest, the body is the whole blob."""

    name: Name
    digest: Digest | None
    algorithm: str


@dataclass(frozen=True, slots=True)
class MountBlob:
    """Mounts a blob from `source`, if the client names one. An absent blob starts an upload."""

    name: Name
    digest: Digest
    source: Name | None


@dataclass(frozen=True, slots=True)
class AppendUpload:
    name: Name
    id: str
    chunk: Chunk | None


@dataclass(frozen=True, slots=True)
class FinishUpload:
    name: Name
    id: str
    digest: Digest
    chunk: Chunk | None


@dataclass(frozen=True, slots=True)
class GetUpload:
    name: Name
    id: str


@dataclass(frozen=True, slots=True)
class CancelUpload:
    name: Name
    id: str


@dataclass(frozen=True, slots=True)
class PutManifest:
    """`media_type` is empty if the request has none; `tags` are additional ones."""

    name: Name
    reference: Digest | str
    media_type: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeleteManifest:
    """Deletes a manifest with all its tags, by a digest, or a single tag."""

    name: Name
    reference: Digest | str


@dataclass(frozen=True, slots=True)
class DeleteBlob:
    name: Name
    digest: Digest


Write: TypeAlias = (
    StartUpload
    | MountBlob
    | AppendUpload
    | FinishUpload
    | GetUpload
    | CancelUpload
    | PutManifest
    | DeleteManifest
    | DeleteBlob
)


# --- request → intent


def is_write(method: str, target: str) -> bool:
    """Returns True for requests of this module: all that write, and the status of an upload."""
    return method not in {"GET", "HEAD"} or is_upload(target)


def is_upload(target: str) -> bool:
    head, _, last = unquote(target.partition("?")[0]).rpartition("/")
    return bool(last) and head.endswith(_UPLOADS)


def parse_write(
    method: str, target: str, *, content_type: str = "", content_range: str = ""
) -> Write | Answer:
    """Parses a method, a raw target and two headers; an Answer is a refusal."""
    raw_path, _, raw_query = target.partition("?")
    path, query = unquote(raw_path), parse_query(raw_query)
    text, kind, last = _split(*path.removeprefix("/v2").rpartition("/")[::2])
    if kind not in _KINDS or not path.startswith("/v2/"):
        return _not_allowed(method)
    name = _name(text, _first(query, "ns"))
    if isinstance(name, Answer):
        return name
    if kind == "manifests":
        return _parse_manifest(method, name, last, query, content_type)
    if kind == "blobs":
        return _parse_blob(method, name, last)
    if not last:
        return _parse_start(name, query) if method == "POST" else _not_allowed(method, "POST")
    return _parse_upload(method, name, last, query, content_range)


def _name(text: str, ns: str) -> Name | Answer:
    host = parse_host(ns)
    return host if isinstance(host, Answer) else parse_name(text, host)


def _split(head: str, last: str) -> tuple[str, str, str]:
    """Splits a path, which begins with `/`, into name, kind and last part."""
    if head.endswith(_UPLOADS):
        return head.removesuffix(_UPLOADS)[1:], "uploads", last
    if last == "uploads" and head.endswith("/blobs"):  # without the trailing slash of the spec
        return head.removesuffix("/blobs")[1:], "uploads", ""
    text, _, kind = head[1:].rpartition("/")
    return text, "" if kind == "uploads" else kind, last


def _parse_upload(
    method: str, name: Name, upload_id: str, query: Mapping[str, Sequence[str]], content_range: str
) -> Write | Answer:
    if method in {"GET", "HEAD", "DELETE"}:
        return (CancelUpload if method == "DELETE" else GetUpload)(name, upload_id)
    if method not in {"PATCH", "PUT"}:
        return _not_allowed(method, "GET, HEAD, PATCH, PUT, DELETE")
    chunk = _parse_chunk(content_range)
    digest = _digest(_first(query, "digest")) if method == "PUT" else None
    if isinstance(chunk, Answer):
        return chunk
    if digest is None:
        return AppendUpload(name, upload_id, chunk)
    return digest if isinstance(digest, Answer) else FinishUpload(name, upload_id, digest, chunk)


def _parse_start(name: Name, query: Mapping[str, Sequence[str]]) -> Write | Answer:
    mount = _first(query, "mount")
    if mount:
        digest = _digest(mount)
        if isinstance(digest, Answer):
            return digest
        source = _first(query, "from")
        if source and not is_path(source):
            return problem(400, "NAME_INVALID", f"from is not a repository name: {source[:300]!r}")
        return MountBlob(name, digest, Name(source, name.host) if source else None)
    text = _first(query, "digest")
    whole = _digest(text) if text else None
    if isinstance(whole, Answer):
        return whole
    algorithm = _first(query, "digest-algorithm") or (whole.algorithm if whole else "sha256")
    if algorithm not in HEX_LENGTHS:
        known = ", ".join(HEX_LENGTHS)
        message = f"digest-algorithm {algorithm[:40]!r} is not one of {known}"
        return problem(400, "DIGEST_INVALID", message)
    return StartUpload(name, whole, algorithm)


def _parse_chunk(text: str) -> Chunk | Answer | None:
    """Parses `<first>-<last>`; also accepts the form of HTTP, `bytes 0-9/10`."""
    if not text:
        return None
    bare = text.strip().removeprefix("bytes").strip(" =").partition("/")[0]
    found = _RANGE.match(bare)
    if not found or int(found[2]) < int(found[1]):
        message = f"Content-Range must be FIRST-LAST, not {text[:80]!r}"
        return problem(416, "BLOB_UPLOAD_INVALID", message)
    return Chunk(int(found[1]), int(found[2]))


def _parse_manifest(
    method: str, name: Name, text: str, query: Mapping[str, Sequence[str]], content_type: str
) -> Write | Answer:
    if method not in {"PUT", "DELETE"}:
        return _not_allowed(method, "GET, HEAD, PUT, DELETE")
    reference: Digest | str = text
    if ":" in text:
        digest = _digest(text)
        if isinstance(digest, Answer):
            return digest
        reference = digest
    elif not is_tag(text):
        if method == "DELETE":
            return problem(404, "MANIFEST_UNKNOWN", f"{name} has no manifest {text[:200]!r}")
        return problem(
            400, "TAG_INVALID", f"{text[:200]!r} is not a valid tag", {"tag": text[:200]}
        )
    if method == "DELETE":
        return DeleteManifest(name, reference)
    return _parse_put(name, reference, query, content_type)


def _parse_put(
    name: Name, reference: Digest | str, query: Mapping[str, Sequence[str]], content_type: str
) -> Write | Answer:
    tags = tuple(dict.fromkeys(query.get("tag", ())))
    if len(tags) > _MAX_TAGS:
        return problem(
            414, "TAG_INVALID", f"{len(tags)} tags in one request; at most {_MAX_TAGS} are allowed"
        )
    wrong = next((tag for tag in tags if not is_tag(tag)), None)
    if wrong is not None:
        return problem(
            400, "TAG_INVALID", f"{wrong[:200]!r} is not a valid tag", {"tag": wrong[:200]}
        )
    media_type = content_type.partition(";")[0].strip()
    if media_type in {"application/json", "application/octet-stream", "text/plain"}:
        media_type = ""  # too generic: the manifest's own mediaType decides
    return PutManifest(name, reference, media_type, tags)


def _parse_blob(method: str, name: Name, text: str) -> Write | Answer:
    if method != "DELETE":
        return _not_allowed(method, "GET, HEAD, DELETE")
    digest = _digest(text)
    return digest if isinstance(digest, Answer) else DeleteBlob(name, digest)


def _digest(text: str) -> Digest | Answer:
    try:
        return parse_digest(text)
    except DigestInvalidError as exc:
        message = exc.message if text else "a digest is missing (?digest=ALGORITHM:HEX)"
        return problem(400, "DIGEST_INVALID", message, {"digest": text[:200]})


def _not_allowed(method: str, allowed: str = "GET, HEAD") -> Answer:
    message = f"{method[:20]} is not supported here; supported: {allowed}"
    return problem(405, "UNSUPPORTED", message, None, ("Allow", allowed))


def _first(query: Mapping[str, Sequence[str]], key: str) -> str:
    return next(iter(query.get(key, ())), "")
