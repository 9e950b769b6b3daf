"""What a request to the registry means, and what its answer is: pure.

Decides the intent of a method and a target, which repository a name in a URL means, pages, and
the form of answers and errors (OCI distribution spec). Conditional requests and ranges are in
`registry.ranges`.

Names in URLs, first that has what is asked for:

1. `?ns=<host>` with the path, as containerd's mirrors ask: exactly that repository, no other.
2. The path as it was pushed, without a host.
3. The full name, a port's `:` written `_` (`registry.example_5000/foo`).
4. The path at the default registry (`library/` is added for docker.io).
5. The path at the only other host that has it. With two such hosts the 404 names both.

Always holds: no clock, path, socket or log here. A `RegistryView` is asked, which may block; so
`answer` and `find_blob` belong into a worker thread. Sending, caching and logging are left to
`registry.app`, pushing and access rules to later.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote, unquote

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
from airside.oci.digest import Digest, parse_digest
from airside.oci.model import OCI_INDEX, Descriptor
from airside.oci.reference import (
    DEFAULT_HOST,
    Repository,
    is_host,
    is_path,
    is_tag,
    looks_like_host,
)
from airside.ports.content import RegistryView, StoredDocument

Found = TypeVar("Found")

METHODS = ("GET", "HEAD")
ALLOW = ", ".join(METHODS)
KINDS = frozenset({"manifests", "blobs", "tags", "referrers"})
JSON = "application/json"
OCTETS = "application/octet-stream"
IMMUTABLE = ("Cache-Control", "max-age=31536000, immutable")

_PORT = re.compile(r"_(?=[0-9]{1,5}\Z)")
_NUMBER = re.compile(r"[0-9]{1,18}\Z")


# --- intents


@dataclass(frozen=True, slots=True)
class Name:
    """A repository as a URL names it: the spec's `<name>`, and the host of `?ns=` or ""."""

    text: str
    host: str = ""

    def __str__(self) -> str:
        return f"{self.host}/{self.text}" if self.host else self.text


@dataclass(frozen=True, slots=True)
class Page:
    """`n` entries (None: all) after `last`."""

    n: int | None = None
    last: str = ""


@dataclass(frozen=True, slots=True)
class Ping:
    """Whether this is a registry."""


@dataclass(frozen=True, slots=True)
class GetManifest:
    """`reference` is a digest, or a tag; one that is no valid tag is simply not here."""

    name: Name
    reference: Digest | str


@dataclass(frozen=True, slots=True)
class GetBlob:
    name: Name
    digest: Digest


@dataclass(frozen=True, slots=True)
class ListTags:
    name: Name
    page: Page


@dataclass(frozen=True, slots=True)
class ListCatalog:
    """All names; with a host, the paths there."""

    host: str
    page: Page


@dataclass(frozen=True, slots=True)
class ListReferrers:
    name: Name
    digest: Digest
    artifact_type: str


Intent: TypeAlias = Ping | GetManifest | GetBlob | ListTags | ListCatalog | ListReferrers


# --- answers


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose body is at hand. A HEAD gets the same without the body.

    `headers` are those besides the length; `etag` is set where conditions apply.
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
    return Answer(status, _json({"errors": [error]}), (("Content-Type", JSON), *headers))


def with_reason(absent: Answer, why: str) -> Answer:
    """A 404 that also says why no upstream registry could help; the same without a reason."""
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
    """The answer for an exception. What is not the client's fault is not told to it."""
    fitting = ((status, code) for kind, status, code in FAILURES if isinstance(error, kind))
    status, code = next(fitting, (500, "UNKNOWN"))
    if isinstance(error, AirsideError) and status < 500:
        return problem(status, code, error.message)
    return problem(status, code, "the registry failed; its log says why")


# --- request → intent


def parse_request(method: str, target: str) -> Intent | Answer:
    """Parse a method and a raw request target (`/v2/...?...`); an Answer is a refusal."""
    if method not in METHODS:
        message = f"{method[:20]} is not supported: this registry is read-only"
        return problem(405, "UNSUPPORTED", message, None, ("Allow", ALLOW))
    raw_path, _, raw_query = target.partition("?")
    path, query = unquote(raw_path), {k: v[0] for k, v in parse_query(raw_query).items()}
    if path in {"/v2", "/v2/"}:
        return Ping()
    host = parse_host(query.get("ns", ""))
    if isinstance(host, Answer):
        return host
    if path == "/v2/_catalog":
        page = _parse_page(query)
        return page if isinstance(page, Answer) else ListCatalog(host, page)
    if path.startswith("/v2/"):
        return _parse_path(path.removeprefix("/v2/"), host, query)
    return _no_endpoint(path)


def parse_host(text: str) -> str | Answer:
    """The registry that `?ns=` names; none for an empty text."""
    if text and not is_host(text):
        return problem(400, "NAME_INVALID", f"ns is no registry host: {text[:300]!r}")
    return normal_host(text)


def parse_name(text: str, host: str) -> Name | Answer:
    """The name of a repository at a host."""
    if is_path(text):
        return Name(text, host)
    hint = "a name is lower case, and has a port's : written _"
    message = f"{text[:300]!r} is no repository name: {hint}"
    return problem(400, "NAME_INVALID", message, {"name": text[:300]})


def _parse_path(path: str, host: str, query: Mapping[str, str]) -> Intent | Answer:
    """`<name>/<kind>/<last>`, read from the end: a name may hold the word `manifests`."""
    head, _, last = path.rpartition("/")
    name_text, _, kind = head.rpartition("/")
    if kind not in KINDS or (kind == "tags" and last != "list"):
        return _no_endpoint(f"/v2/{path}")
    name = parse_name(name_text, host)
    if isinstance(name, Answer):
        return name
    if kind == "tags":
        page = _parse_page(query)
        return page if isinstance(page, Answer) else ListTags(name, page)
    if kind == "manifests" and ":" not in last:
        return GetManifest(name, last)
    return _parse_digest(kind, name, last, query)


def _parse_digest(kind: str, name: Name, text: str, query: Mapping[str, str]) -> Intent | Answer:
    try:
        digest = parse_digest(text)
    except DigestInvalidError as exc:
        return problem(400, "DIGEST_INVALID", exc.message, {"digest": text[:200]})
    if kind == "manifests":
        return GetManifest(name, digest)
    if kind == "blobs":
        return GetBlob(name, digest)
    return ListReferrers(name, digest, query.get("artifactType", ""))


def _no_endpoint(path: str) -> Answer:
    return problem(404, "UNSUPPORTED", f"no such endpoint: {path[:300]!r}")


def parse_query(text: str) -> dict[str, list[str]]:
    """All values of each key. A `+` stays one: media types have it and clients don't escape it."""
    query: dict[str, list[str]] = {}
    for part in text.split("&") if text else ():
        key, _, value = part.partition("=")
        query.setdefault(unquote(key), []).append(unquote(value))
    return query


def _parse_page(query: Mapping[str, str]) -> Page | Answer:
    n = query.get("n", "")
    if n and not _NUMBER.match(n):
        message = f"n must be a number of entries, found {n[:40]!r}"
        return problem(400, "PAGINATION_NUMBER_INVALID", message, {"n": n[:40]})
    return Page(int(n) if n else None, query.get("last", ""))


# --- names


def normal_host(host: str) -> str:
    return DEFAULT_HOST if host == "index.docker.io" else host


def repository_at(host: str, path: str) -> Repository:
    """The repository of a path at a host, as Docker completes it."""
    host = normal_host(host)
    return Repository(host, f"library/{path}" if host == DEFAULT_HOST and "/" not in path else path)


def any_repository(_repository: Repository) -> bool:
    """Which repositories a client may read where there are no rules."""
    return True


def push_target(name: Name) -> Repository:
    """Where a push to a name goes: to the registry that it names, else to that without a host."""
    if name.host:
        return repository_at(name.host, name.text)
    return _by_full_name(name) or Repository("", name.text)


def _by_full_name(name: Name) -> Repository | None:
    """What a name means whose first part is a host, its port's `:` written `_`."""
    first, _, path = name.text.partition("/")
    host = _PORT.sub(":", first)
    if path and looks_like_host(host) and is_host(host):
        return repository_at(host, path)
    return None


def candidates(view: RegistryView, name: Name, default_registry: str) -> Iterator[Repository]:
    """The repositories that a name may mean, in order; not all of them need exist."""
    if name.host:
        yield repository_at(name.host, name.text)
        return
    yield Repository("", name.text)
    full = _by_full_name(name)
    if full is not None:
        yield full
    yield repository_at(default_registry, name.text)
    others = _others(view, name, default_registry)
    if len(others) == 1:
        yield others[0]


def _others(view: RegistryView, name: Name, default_registry: str) -> list[Repository]:
    if name.host:
        return []
    known = {"", normal_host(default_registry)}
    return [found for found in view.repositories_at(name.text) if found.host not in known]


def name_in_url(repository: Repository) -> str:
    """The full name as it can be asked for; "" where a host fits no URL (IPv6, upper case)."""
    name = str(repository).replace(":", "_") if repository.host else repository.path
    return name if is_path(name) else ""


def _first(
    view: RegistryView,
    name: Name,
    default_registry: str,
    look: Callable[[Repository], Found | None],
) -> Found | None:
    looked = (look(repository) for repository in candidates(view, name, default_registry))
    return next((found for found in looked if found is not None), None)


def _existing(view: RegistryView, name: Name, default_registry: str) -> list[Repository]:
    asked = candidates(view, name, default_registry)
    return [found for found in asked if found in view.repositories_at(found.path)]


def _absent(
    view: RegistryView, name: Name, default_registry: str, code: str, message: str
) -> Answer:
    """The 404 that fits: of the thing in a known repository, or of the repository."""
    if not _existing(view, name, default_registry):
        code, message = "NAME_UNKNOWN", f"repository {name} is not here"
    others = _others(view, name, default_registry)
    detail: dict[str, object] = {"name": str(name)}
    if len(others) > 1:
        detail["names"] = [name_in_url(other) or str(other) for other in others]
        message += f"; several registries have this path, ask for one of {detail['names']}"
    return problem(404, code, message, detail)


# --- intent → answer


def answer(view: RegistryView, intent: Intent, default_registry: str = DEFAULT_HOST) -> Answer:
    """Answer every intent but GetBlob (see `find_blob`). May block in the view."""
    match intent:
        case Ping():
            headers = (("Content-Type", JSON), ("Docker-Distribution-API-Version", "registry/2.0"))
            return Answer(200, b"{}", headers)
        case GetManifest():
            return _answer_manifest(view, intent, default_registry)
        case ListTags():
            return _answer_tags(view, intent, default_registry)
        case ListCatalog():
            return _answer_catalog(view, intent)
        case ListReferrers():
            return answer_referrers(view, intent, default_registry)
        case GetBlob():
            raise TypeError("blobs are answered from the store")


def _answer_manifest(view: RegistryView, intent: GetManifest, default_registry: str) -> Answer:
    reference = intent.reference

    def look(repository: Repository) -> StoredDocument | None:
        if isinstance(reference, Digest):
            return view.document_by_digest(repository, reference)
        # spec "Pulling manifests": what can't be a tag is a 404 like any other that isn't here
        return view.document_by_tag(repository, reference) if is_tag(reference) else None

    document = _first(view, intent.name, default_registry, look)
    if document is None:
        message = f"{intent.name} has no manifest {str(reference)[:200]!r}"
        return _absent(view, intent.name, default_registry, "MANIFEST_UNKNOWN", message)
    return answer_document(document, reference)


def answer_document(document: StoredDocument, reference: Digest | str) -> Answer:
    """The answer with a manifest or index that was asked for by a digest or a tag."""
    headers = [
        ("Content-Type", document.media_type),
        ("Docker-Content-Digest", str(document.digest)),
        ("ETag", f'"{document.digest}"'),
    ]
    if isinstance(reference, Digest):
        headers.append(IMMUTABLE)
    return Answer(200, document.raw, tuple(headers), str(document.digest))


def _answer_tags(view: RegistryView, intent: ListTags, default_registry: str) -> Answer:
    """The tags that can be pulled under this name: of every repository that it may mean."""
    found = _existing(view, intent.name, default_registry)
    if not found:
        message = f"repository {intent.name} is not here"
        return _absent(view, intent.name, default_registry, "NAME_UNKNOWN", message)
    tags = sorted({tag for repository in found for tag in view.tags(repository)})
    page, more = _cut(tags, intent.page)
    body = {"name": intent.name.text, "tags": page}
    path = f"/v2/{quote(intent.name.text)}/tags/list"
    return _listed(body, _next_page(path, intent.name.host, page if more else [], intent.page))


def _answer_catalog(view: RegistryView, intent: ListCatalog) -> Answer:
    held = view.repositories()
    if intent.host:
        names = sorted(found.path for found in held if found.host == intent.host)
    else:
        names = sorted({name for found in held if (name := name_in_url(found))})
    page, more = _cut(names, intent.page)
    body = {"repositories": page}
    return _listed(body, _next_page("/v2/_catalog", intent.host, page if more else [], intent.page))


def answer_referrers(
    view: RegistryView,
    intent: ListReferrers,
    default_registry: str,
    also: Iterable[Descriptor] = (),
) -> Answer:
    """Never a 404 (spec, "Listing Referrers"): that would mean that there is no such API here.

    `also`: what is known elsewhere.
    """
    found: dict[Digest, Descriptor] = {}
    for repository in candidates(view, intent.name, default_registry):
        for descriptor in view.referrers(repository, intent.digest):
            found.setdefault(descriptor.digest, descriptor)
    for descriptor in also:
        found.setdefault(descriptor.digest, descriptor)
    wanted = intent.artifact_type
    manifests = [_descriptor(d) for d in found.values() if wanted in {"", d.artifact_type}]
    body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
    filtered = (("OCI-Filters-Applied", "artifactType"),) if wanted else ()
    return Answer(200, _json(body), (("Content-Type", OCI_INDEX), *filtered))


def _descriptor(descriptor: Descriptor) -> dict[str, Any]:
    value: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size_bytes,
    }
    if descriptor.artifact_type:
        value["artifactType"] = descriptor.artifact_type
    if descriptor.annotations:
        value["annotations"] = dict(descriptor.annotations)
    return value


def _cut(items: list[str], page: Page) -> tuple[list[str], bool]:
    """The page of sorted items, and whether more follow it."""
    start = bisect_right(items, page.last) if page.last else 0
    stop = len(items) if page.n is None else start + page.n
    return items[start:stop], stop < len(items)


def _next_page(path: str, host: str, shown: list[str], page: Page) -> str:
    """The target of the page after the one shown; "" where nothing was shown (n=0) or follows."""
    if not shown:
        return ""
    ns = f"&ns={quote(host, safe='')}" if host else ""
    return f"{path}?n={page.n}&last={quote(shown[-1], safe='')}{ns}"


def _listed(body: Mapping[str, Any], next_page: str) -> Answer:
    link = (("Link", f'<{next_page}>; rel="next"'),) if next_page else ()
    return Answer(200, _json(body), (("Content-Type", JSON), *link))


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


# --- blobs


def find_blob(
    view: RegistryView,
    stat: Callable[[Digest], int | None],
    intent: GetBlob,
    default_registry: str = DEFAULT_HOST,
) -> int | Answer:
    """The size in bytes of a blob that belongs to the name and is held, or the 404. May block."""

    def look(repository: Repository) -> int | None:
        return stat(intent.digest) if view.holds_blob(repository, intent.digest) else None

    size = _first(view, intent.name, default_registry, look)
    return size if size is not None else absent_blob(view, intent, default_registry)


def absent_blob(
    view: RegistryView, intent: GetBlob, default_registry: str = DEFAULT_HOST
) -> Answer:
    """The 404 of a blob. May block."""
    message = f"{intent.name} has no blob {intent.digest}"
    return _absent(view, intent.name, default_registry, "BLOB_UNKNOWN", message)
