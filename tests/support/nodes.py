"""An in-process node on a temporary directory, and what it shows after an import."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

from airside.agent.node import Node, open_node
from airside.core.settings import Limits, Settings
from airside.importer.importer import Outcome
from airside.oci.digest import Digest
from airside.oci.model import Document


def settings_at(data: Path, *, limits: Limits | None = None, **changes: object) -> Settings:
    """Settings that leave nothing to the machine: no free space is asked for."""
    values = {"min_free_bytes": 0, "low_space_bytes": 0, "runtime": ("none",), **changes}
    return Settings(data=data, limits=limits or Limits(), **values)


@contextlib.contextmanager
def node_at(data: Path, *, limits: Limits | None = None, **changes: object) -> Iterator[Node]:
    with open_node(settings_at(data, limits=limits, **changes)) as node:
        yield node


def import_now(node: Node, path: Path) -> Outcome:
    return node.imports.import_file(path, stop=lambda: False, progress=lambda _done, _all: None)


def not_held(_document: Document) -> None:
    """For a catalog that stands on no store."""


def visible(node: Node) -> dict[str, Digest]:
    """Every tag that can be pulled, with the digest it points at."""
    return {
        f"{row.repository}:{row.tag}": Digest(*row.digest.split(":"))
        for row in node.catalog.images()
        if row.tag
    }


def wrong_blobs(node: Node) -> list[Digest]:
    """Blobs of the store whose bytes are not what their name says."""
    found = {digest: node.store.path(digest).read_bytes() for digest in node.store.digests()}
    return [d for d, raw in found.items() if hashlib.new(d.algorithm, raw).hexdigest() != d.hex]
