"""The catalog and the container runtimes as a client with limited rights sees them. Pure.

Repositories that the client may not pull are absent: the same code answers over fewer of them.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from airside.oci.digest import Digest
from airside.oci.reference import Repository
from airside.ports.content import (
    Connection,
    Only,
    ReferrersPage,
    RegistryView,
    RuntimeBlob,
    RuntimeContent,
    RuntimeTag,
    StoredDocument,
)
from airside.registry.rules.access import Action, Rights
from airside.registry.rules.read_through import ReadThrough


def visible(view: RegistryView, rights: Rights, action: Action = "pull") -> RegistryView:
    """The view, limited to repositories on which the action is allowed."""
    return view if rights.may_everywhere(action) else VisibleView(view, rights, action)


def visible_read_through(read_through: ReadThrough, rights: Rights) -> ReadThrough:
    """Read-through, limited to repositories that may be pulled."""
    if rights.may_everywhere("pull"):
        return read_through
    sources = read_through.sources
    return replace(
        read_through, sources=lambda: [VisibleContent(source, rights) for source in sources()]
    )


@dataclass(frozen=True, slots=True)
class VisibleView:
    """A RegistryView that hides repositories of another."""

    view: RegistryView
    rights: Rights
    action: Action = "pull"

    def _shows(self, repository: Repository) -> bool:
        return self.rights.may(self.action, repository)

    @property
    def generation(self) -> int:
        return self.view.generation

    def repositories(self) -> list[Repository]:
        return [found for found in self.view.repositories() if self._shows(found)]

    def repositories_at(self, path: str) -> list[Repository]:
        return [found for found in self.view.repositories_at(path) if self._shows(found)]

    def tags(self, repository: Repository) -> list[str]:
        return self.view.tags(repository) if self._shows(repository) else []

    def document_by_tag(self, repository: Repository, tag: str) -> StoredDocument | None:
        return self.view.document_by_tag(repository, tag) if self._shows(repository) else None

    def document_by_digest(self, repository: Repository, digest: Digest) -> StoredDocument | None:
        return self.view.document_by_digest(repository, digest) if self._shows(repository) else None

    def holds_blob(self, repository: Repository, digest: Digest) -> bool:
        return self._shows(repository) and self.view.holds_blob(repository, digest)

    def referrers(self, repository: Repository, subject: Digest, after: str = "") -> ReferrersPage:
        if not self._shows(repository):
            return ReferrersPage()
        return self.view.referrers(repository, subject, after)

    def any_quarantined(self, digests: Collection[Digest]) -> bool:
        return self.view.any_quarantined(digests)


@dataclass(frozen=True, slots=True)
class VisibleContent:
    """A RuntimeContent that hides repositories of another."""

    content: RuntimeContent
    rights: Rights

    def tag(self, repository: Repository, tag: str, only: Only = None) -> RuntimeTag | None:
        return self.content.tag(repository, tag, only) if self._shows(repository) else None

    def document(
        self, repository: Repository, digest: Digest, only: Only = None
    ) -> StoredDocument | None:
        return self.content.document(repository, digest, only) if self._shows(repository) else None

    def blob(self, repository: Repository, digest: Digest, only: Only = None) -> RuntimeBlob | None:
        return self.content.blob(repository, digest, only) if self._shows(repository) else None

    def is_client(self, connection: Connection) -> bool:
        return self.content.is_client(connection)

    def _shows(self, repository: Repository) -> bool:
        return self.rights.may("pull", repository)
