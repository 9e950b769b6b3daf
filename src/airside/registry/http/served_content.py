"""The content that the registry serves, and the places where a request may look for it.

A request looks in this order: catalog and store, then container runtimes (`read_through`), then the
registries upstream (`pull_through`). Each place shows only what the client may see.
"""

from dataclasses import dataclass

from aiohttp import web

from airside.ports.content import ContentStore, RegistryView
from airside.registry.http.blob_guard import BlobGuard
from airside.registry.http.request_access import ACCESS
from airside.registry.proxy.pull_through import PullThrough
from airside.registry.rules.answers import Answer
from airside.registry.rules.read_through import ReadThrough, RuntimeLookup
from airside.registry.rules.requests import (
    GetBlob,
    GetManifest,
    Intent,
    ListReferrers,
    parse_request,
)
from airside.registry.rules.upstream import upstream_repository

_NO_RUNTIMES = ReadThrough(policy="false")


@dataclass(frozen=True, slots=True)
class ServedContent:
    """Catalog, store, container runtimes and upstreams. The caller owns and closes them all."""

    view: RegistryView
    store: ContentStore
    default_registry: str
    read_through: ReadThrough = _NO_RUNTIMES
    """Container runtimes that are asked for content that the view lacks."""
    pull_through: PullThrough | None = None
    """Registries upstream that are asked last."""
    guard: BlobGuard | None = None
    """Verifies blobs of the store as they are sent; None: they are trusted."""

    def view_for(self, request: web.Request) -> RegistryView:
        """The view as the client may see it."""
        access = request.get(ACCESS)
        return self.view if access is None else access.view(self.view)

    def runtimes_for(self, request: web.Request) -> RuntimeLookup:
        """A lookup in the container runtimes, of the repositories that the client may see."""
        access = request.get(ACCESS)
        read = self.read_through if access is None else access.through(self.read_through)
        return RuntimeLookup(self.view_for(request), read, self.default_registry)

    def upstream_for(self, request: web.Request, target: str) -> tuple[PullThrough, Intent] | None:
        """The upstreams and the parsed request; None if no upstream must be asked.

        None for requests that write, for registries without an upstream, and for repositories that
        the client may not pull.
        """
        if self.pull_through is None or request.method not in {"GET", "HEAD"}:
            return None
        intent = parse_request(request.method, target)
        if isinstance(intent, Answer) or not self.pull_through.serves(intent):
            return None
        assert isinstance(intent, GetManifest | GetBlob | ListReferrers)
        access = request.get(ACCESS)
        repository = upstream_repository(intent.name, self.default_registry)
        if access is not None and not access.rights.may("pull", repository):
            return None
        return self.pull_through, intent
