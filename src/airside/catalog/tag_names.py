"""The name of a tag within the catalog."""

import sqlite3
from dataclasses import dataclass

from airside.oci.reference import Reference, Repository


@dataclass(frozen=True, slots=True, order=True)
class TagName:
    """A tag, with the id of its repository's row."""

    repository_id: int
    tag: str

    @property
    def key(self) -> tuple[int, str]:
        return (self.repository_id, self.tag)


def reference_text(db: sqlite3.Connection, name: TagName) -> str:
    row = db.execute(
        "SELECT host, path FROM repository WHERE id = ?", (name.repository_id,)
    ).fetchone()
    return str(Reference(Repository(row["host"], row["path"]), name.tag))
