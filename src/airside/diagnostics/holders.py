"""What keeps `name@digest` in the registry and in the runtimes, for `explain`."""

from typing import Any

from airside.catalog.source_paths import shown_source
from airside.catalog.view import CatalogView
from airside.oci.digest import Digest
from airside.oci.reference import Repository


def held_by(view: CatalogView, repository: Repository, digest: Digest) -> list[dict[str, Any]]:
    """Returns each holder: its kind, and the tag's name or the archive's path.

    Without one, only garbage collection's grace time or a container holds the digest.
    """
    return [
        {
            "kind": holder.kind,
            "name": f"{repository}:{holder.name}"
            if holder.kind in {"tag", "version"}
            else shown_source(holder.name),
        }
        for holder in view.holders(repository, digest)
    ]
