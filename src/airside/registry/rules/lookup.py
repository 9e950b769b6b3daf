"""Answers to reading requests, from a `RegistryView`. Pure.

Manifests, lists of tags, repositories and referrers, and the size of a blob (OCI distribution spec,
"Pull" and "Content Discovery"). The view may block: `answer`, `answer_referrers`, `find_blob` and
`absent_blob` belong in a worker thread.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from airside.oci.digest import Digest
from airside.oci.model import OCI_INDEX, Descriptor
from airside.oci.reference import DEFAULT_HOST, Repository, is_tag
from airside.ports.content import RegistryView, StoredDocument
from airside.registry.rules.answers import (
    JSON,
    Answer,
    answer_document,
    json_bytes,
    problem,
    with_reason,
)
from airside.registry.rules.names import (
    Name,
    candidates,
    existing,
    first_found,
    name_in_url,
    other_hosts,
)
from airside.registry.rules.ranges import Conditions
from airside.registry.rules.requests import (
    GetBlob,
    GetManifest,
    Intent,
    ListCatalog,
    ListReferrers,
    ListTags,
    Page,
    Ping,
)


def answer(view: RegistryView, intent: Intent, default_registry: str = DEFAULT_HOST) -> Answer:
    """Answers every request but GetBlob (see `find_blob`). May block in the view."""
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
            raise TypeError("blobs are served from the store")


def _answer_manifest(view: RegistryView, intent: GetManifest, default_registry: str) -> Answer:
    reference = intent.reference

    def look(repository: Repository) -> StoredDocument | None:
        if isinstance(reference, Digest):
            return view.document_by_digest(repository, reference)
        # spec "Pulling manifests": an invalid tag is a 404 like any absent one
        return view.document_by_tag(repository, reference) if is_tag(reference) else None

    document = first_found(view, intent.name, default_registry, look)
    if document is None:
        message = f"{intent.name} has no manifest {str(reference)[:200]!r}"
        return _absent(view, intent.name, default_registry, "MANIFEST_UNKNOWN", message)
    return answer_document(document, reference)


def _answer_tags(view: RegistryView, intent: ListTags, default_registry: str) -> Answer:
    """The tags of every repository that the name may mean: all can be pulled under it."""
    found = existing(view, intent.name, default_registry)
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
    """Lists a page of the referrers of a digest.

    The first page has those of `also` too, which are known elsewhere. Never a 404: that would mean
    that the registry lacks this API (spec, "Listing Referrers").
    """
    elsewhere = {each.digest: each for each in also}
    pages = [
        view.referrers(repository, intent.digest, intent.last)
        for repository in candidates(view, intent.name, default_registry)
    ]
    end = min((str(page.items[-1].digest) for page in pages if page.more), default="")
    here = {
        each.digest: each
        for page in pages
        for each in page.items
        if not end or str(each.digest) <= end
    }
    if intent.last:
        found = {digest: here[digest] for digest in here.keys() - elsewhere.keys()}
    else:
        found = elsewhere | here
    wanted, ordered = intent.artifact_type, sorted(found.values(), key=lambda d: str(d.digest))
    manifests = [_descriptor(each) for each in ordered if wanted in {"", each.artifact_type}]
    body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
    filtered = (("OCI-Filters-Applied", "artifactType"),) if wanted else ()
    link = (("Link", f'<{_referrers_after(intent, end)}>; rel="next"'),) if end else ()
    return Answer(200, json_bytes(body), (("Content-Type", OCI_INDEX), *filtered, *link))


def _referrers_after(intent: ListReferrers, end: str) -> str:
    kind, host = intent.artifact_type, intent.name.host
    query = f"?last={quote(end, safe='')}"
    query += f"&artifactType={quote(kind, safe='')}" if kind else ""
    query += f"&ns={quote(host, safe='')}" if host else ""
    return f"/v2/{quote(intent.name.text)}/referrers/{intent.digest}{query}"


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
    """The page of sorted items, and True if more follow."""
    start = bisect_right(items, page.last) if page.last else 0
    stop = len(items) if page.n is None else start + page.n
    return items[start:stop], stop < len(items)


def _next_page(path: str, host: str, shown: list[str], page: Page) -> str:
    """The target of the page after `shown`; "" if `shown` is empty: n=0, or no page follows."""
    if not shown:
        return ""
    ns = f"&ns={quote(host, safe='')}" if host else ""
    return f"{path}?n={page.n}&last={quote(shown[-1], safe='')}{ns}"


def _listed(body: Mapping[str, Any], next_page: str) -> Answer:
    link = (("Link", f'<{next_page}>; rel="next"'),) if next_page else ()
    return Answer(200, json_bytes(body), (("Content-Type", JSON), *link))


def find_blob(
    view: RegistryView,
    stat: Callable[[Digest], int | None],
    intent: GetBlob,
    default_registry: str = DEFAULT_HOST,
) -> int | Answer:
    """The size in bytes of a stored blob that belongs to the name, or the 404. May block."""

    def look(repository: Repository) -> int | None:
        return stat(intent.digest) if view.holds_blob(repository, intent.digest) else None

    size = first_found(view, intent.name, default_registry, look)
    return size if size is not None else absent_blob(view, intent, default_registry)


def absent_blob(
    view: RegistryView, intent: GetBlob, default_registry: str = DEFAULT_HOST
) -> Answer:
    """The 404 for a blob. May block."""
    message = f"{intent.name} has no blob {intent.digest}"
    return _absent(view, intent.name, default_registry, "BLOB_UNKNOWN", message)


def damaged_blob(absent: Answer, intent: GetBlob, conditions: Conditions) -> Answer:
    """The answer for a blob that is damaged here.

    A client without a range asks elsewhere after a 404; one that continues a blob waits (503).
    """
    why = f"the stored blob {intent.digest} is damaged; it is being repaired"
    if conditions.range:
        return problem(503, "UNKNOWN", why)
    return with_reason(absent, why)


def _absent(
    view: RegistryView, name: Name, default_registry: str, code: str, message: str
) -> Answer:
    """The 404 for content of a known repository, or for an unknown repository."""
    if not existing(view, name, default_registry):
        code, message = "NAME_UNKNOWN", f"repository {name} is unknown to this registry"
    others = other_hosts(view, name, default_registry)
    detail: dict[str, object] = {"name": str(name)}
    if len(others) > 1:
        detail["names"] = [name_in_url(other) or str(other) for other in others]
        message += f"; several registries have this path: use one of {detail['names']}"
    return problem(404, code, message, detail)
