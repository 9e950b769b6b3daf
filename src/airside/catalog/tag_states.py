"""The states of all tags, as a runtime shall have them."""

from dataclasses import dataclass, field

from airside.catalog.database import Readers

BACKED = "(t.unbacked_since IS NULL OR s.state IS NOT NULL AND s.state != 'removed')"
"""A tag `t` whose source `s` is present is pinned, also after the archive was replaced.

The operator replaced the archive, and removed nothing: a rollback finds the version for as long as
the store keeps it (ADR 0033).
"""
_WANTED = (
    f"SELECT r.host, r.path, t.name, t.digest, t.sequence, {BACKED} AS backed, d.media_type,"  # noqa: S608
    " t.moved_at,"
    " s.kind IS 'push' AS pushed,"
    " d.kind AS artifact_type FROM tag t JOIN repository r ON r.id = t.repository_id"
    " JOIN document d ON d.digest = t.digest LEFT JOIN source s ON s.id = t.source_id"
    " WHERE s.kind IS NOT 'peer' ORDER BY r.host, r.path, t.name"
)
_BEHIND = (
    "SELECT DISTINCT r.host, r.path AS repository, c.tag, s.path FROM claim c"
    " JOIN repository r ON r.id = c.repository_id JOIN source s ON s.id = c.source_id"
    " WHERE s.state != 'removed' AND s.kind != 'peer' AND c.tag != '' ORDER BY s.path"
)


@dataclass(frozen=True, slots=True)
class TagState:
    """The current state of a tag, to be published to a runtime.

    Without `tag`: a document that is held by its digest alone (`airside.catalog.held_digests`).
    """

    host: str
    path: str
    tag: str
    digest: str
    media_type: str
    artifact_type: str
    sequence: int
    backed: bool
    """It is pinned: a present archive has it, or replaced it and the store keeps it."""
    archives: tuple[str, ...]
    pushed: bool = False
    """The tag follows a push, not an archive."""
    is_listed: bool = False
    """Without a tag: an index lists the document too, and says its platform."""
    moved_at: float | None = field(default=None, compare=False)
    """When it last moved; None without a tag."""

    @property
    def reference(self) -> str:
        name = f"{self.host}/{self.path}" if self.host else self.path
        return f"{name}:{self.tag}" if self.tag else f"{name}@{self.digest}"


def list_tags(readers: Readers) -> list[TagState]:
    """Returns all tags, with the present archives that claim them.

    Leaves out tags from an upstream registry: they are a cache and are not published.
    """
    behind: dict[tuple[str, str, str], list[str]] = {}
    for r in readers.rows(_BEHIND):
        behind.setdefault((r["host"], r["repository"], r["tag"]), []).append(r["path"])
    return [
        TagState(
            r["host"],
            r["path"],
            r["name"],
            r["digest"],
            r["media_type"],
            r["artifact_type"],
            r["sequence"],
            bool(r["backed"]),
            tuple(behind.get((r["host"], r["path"], r["name"]), ())),
            bool(r["pushed"]),
            moved_at=r["moved_at"],
        )
        for r in readers.rows(_WANTED)
    ]
