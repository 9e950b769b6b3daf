"""What nothing holds any more goes from the catalog; the store follows."""

import sqlite3


def trim_generations(db: sqlite3.Connection, retention: int) -> None:
    """Keep the current generation of each tag and `retention` different earlier ones."""
    db.execute(
        "DELETE FROM tag_generation WHERE id IN (SELECT id FROM (SELECT id, row_number() OVER"
        " (PARTITION BY repository_id, tag ORDER BY id DESC) AS age FROM tag_generation)"
        " WHERE age > ?)",
        (retention + 1,),
    )


def sweep(db: sqlite3.Connection) -> tuple[list[str], bool]:
    """Delete what no root reaches: documents, blobs, and what repositories no longer have.

    Gives the blobs' digests, and whether anything changed.
    """
    _mark(db)
    freed = [
        row["digest"]
        for row in db.execute(
            "SELECT digest FROM blob WHERE digest NOT IN (SELECT digest FROM reached)"
        ).fetchall()
    ]
    unlinked = db.execute(
        "DELETE FROM repository_blob WHERE (repository_id, digest) NOT IN"
        " (SELECT repository_id, digest FROM reached)"
    ).rowcount
    for table in ("document", "blob"):
        db.execute(f"DELETE FROM {table} WHERE digest NOT IN (SELECT digest FROM reached)")  # noqa: S608
    db.execute(
        "DELETE FROM repository WHERE id NOT IN (SELECT repository_id FROM tag"
        " UNION SELECT repository_id FROM claim UNION SELECT repository_id FROM tag_generation"
        " UNION SELECT repository_id FROM repository_blob UNION SELECT repository_id FROM tombstone"
        " UNION SELECT repository_id FROM upload)"
    )
    db.execute("DELETE FROM reached")
    return freed, bool(freed or unlinked)


def _mark(db: sqlite3.Connection) -> None:
    """Find what each repository reaches from its tags, generations and claims."""
    db.execute(
        "CREATE TEMP TABLE IF NOT EXISTS reached (digest TEXT, repository_id INTEGER,"
        " PRIMARY KEY (digest, repository_id)) WITHOUT ROWID"
    )
    db.execute("DELETE FROM reached")
    db.execute(
        "WITH RECURSIVE live(repository_id, digest) AS ("
        " SELECT repository_id, digest FROM tag"
        " UNION SELECT repository_id, digest FROM tag_generation"
        " UNION SELECT c.repository_id, c.digest FROM claim c JOIN source s ON s.id = c.source_id"
        "   WHERE s.state != 'removed' OR c.tag = ''"
        " UNION SELECT live.repository_id, e.child FROM edge e JOIN live ON e.parent = live.digest"
        "   WHERE e.kind != 'subject'"
        " UNION SELECT live.repository_id, d.digest FROM document d"
        "   JOIN live ON d.subject = live.digest)"
        " INSERT INTO reached SELECT digest, repository_id FROM live"
    )
