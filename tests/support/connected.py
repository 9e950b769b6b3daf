"""Parts of container runtimes, added to a node as if a runtime had connected."""

import io
from collections.abc import Iterable
from dataclasses import dataclass, field

from airside.agent.node import Node
from airside.oci.digest import Digest
from airside.oci.reference import Repository
from airside.ports.content import (
    Connection,
    Only,
    Puller,
    RuntimeBlob,
    RuntimeContent,
    RuntimeCopies,
    RuntimeTag,
    StoredDocument,
)
from airside.ports.early_layers import EarlyUnpacking


@dataclass(frozen=True, slots=True)
class Parts:
    """A connected runtime of which only these parts are there."""

    content: RuntimeContent | None = None
    copies: RuntimeCopies | None = None
    puller: Puller | None = None
    early: EarlyUnpacking | None = None


@dataclass(slots=True)
class HeldBlobs:
    """A RuntimeContent with blobs only, by repository; their bytes need not be right."""

    blobs: dict[Repository, dict[Digest, bytes]] = field(default_factory=dict)

    def tag(self, repository: Repository, tag: str, only: Only = None) -> RuntimeTag | None:
        del repository, tag, only

    def document(
        self, repository: Repository, digest: Digest, only: Only = None
    ) -> StoredDocument | None:
        del repository, digest, only

    def blob(self, repository: Repository, digest: Digest, only: Only = None) -> RuntimeBlob | None:
        del only
        raw = self.blobs.get(repository, {}).get(digest)
        return None if raw is None else RuntimeBlob(len(raw), lambda: io.BytesIO(raw))

    def is_client(self, connection: Connection) -> bool:
        del connection
        return False


def connect_pullers(node: Node, pullers: Iterable[Puller]) -> None:
    for puller in pullers:
        node.runtimes.add(f"/run/{puller.runtime}.sock", Parts(puller=puller))


def connect_content(node: Node, content: RuntimeContent) -> None:
    node.runtimes.add("/run/content.sock", Parts(content=content))


def connect_copies(node: Node, copies: RuntimeCopies) -> None:
    node.runtimes.add("/run/copies.sock", Parts(copies=copies))
