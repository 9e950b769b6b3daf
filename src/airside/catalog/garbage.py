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


def sweep(db: sqlite3.Connection) -> list[str]:
    """Delete documents and blobs that no root reaches; gives the blobs' digests."""
    db.execute("CREATE TEMP TABLE IF NOT EXISTS reached (digest TEXT PRIMARY KEY) WITHOUT ROWID")
    db.execute("DELETE FROM reached")
    db.execute(
        "WITH RECURSIVE live(digest) AS ("
        " SELECT digest FROM tag UNION SELECT digest FROM tag_generation"
        " UNION SELECT c.digest FROM claim c JOIN source s ON s.id = c.source_id"
        "   WHERE s.state != 'removed' OR c.tag = ''"
        " UNION SELECT e.child FROM edge e JOIN live ON e.parent = live.digest"
        "   WHERE e.kind != 'subject'"
        " UNION SELECT d.digest FROM document d JOIN live ON d.subject = live.digest)"
        " INSERT INTO reached SELECT digest FROM live"
    )
    freed = [
        row["digest"]
        for row in db.execute(
            "SELECT digest FROM blob WHERE digest NOT IN (SELECT digest FROM reached)"
        ).fetchall()
    ]
    unreached = "digest NOT IN (SELECT digest FROM reached)"
    for table in ("document", "repository_blob", "blob"):
        db.execute(f"DELETE FROM {table} WHERE {unreached}")  # noqa: S608
    db.execute(
        "DELETE FROM repository WHERE id NOT IN (SELECT repository_id FROM tag"
        " UNION SELECT repository_id FROM claim UNION SELECT repository_id FROM tag_generation"
        " UNION SELECT repository_id FROM repository_blob UNION SELECT repository_id FROM tombstone"
        " UNION SELECT repository_id FROM upload)"
    )
    db.execute("DELETE FROM reached")
    return freed
