"""Short names that archives serve: a push without a registry host does not take them over.

A path in a URL without a host means the repository that was pushed under it, else that of the path
at the default registry, else at another host (`registry.rules.names`). The tag decides: while an
archive has `docker.io/library/nginx:1`, or the tag is retained, a push of `library/nginx:1` is
refused; one of `library/nginx:2` is not. Names in a runtime that are made of the path
(`extra_registries`) are safe by that, too.
"""

import sqlite3

from airside.core.errors import DeniedError
from airside.oci.reference import Repository

DROPPED = (
    "SELECT 1 FROM tag t JOIN repository r ON r.id = t.repository_id"
    " LEFT JOIN source s ON s.id = t.source_id"
    " WHERE t.name = ? AND r.host != '' AND (r.path = ? OR (r.path = ? AND r.host = ?))"
    " AND (coalesce(s.kind, '') NOT IN ('push', 'peer') OR EXISTS (SELECT 1 FROM claim c"
    "  JOIN source o ON o.id = c.source_id WHERE c.repository_id = t.repository_id"
    "  AND c.tag = t.name AND o.kind NOT IN ('push', 'peer'))) LIMIT 1"
)
"""Finds a tag that an archive has: tag, path, and path and host of the default registry."""
_PUSHED = (
    "SELECT 1 FROM tag t JOIN repository r ON r.id = t.repository_id"
    " WHERE r.host = '' AND r.path = ? AND t.name = ?"
)


def check_short_name(db: sqlite3.Connection, path: str, tag: str, default: Repository) -> None:
    """Raises DeniedError if an archive serves the short name now.

    `default` is the repository of the path at the default registry. A tag that was pushed first is
    what the short name means already, and may be pushed again.
    """
    if db.execute(_PUSHED, (path, tag)).fetchone() is not None:
        return
    if db.execute(DROPPED, (tag, path, default.path, default.host)).fetchone() is not None:
        raise DeniedError(
            f"{path}:{tag} is the short name of an image that an archive has: push to another "
            'name; the setting `push = "all"` allows pushes to take such names over'
        )
