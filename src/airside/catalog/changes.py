"""Changed repositories: `index.json` is rendered again for these alone.

Temporary triggers on the write connection record each repository of which a row that `index.json`
contains changes. A rolled-back change leaves no record.
"""

import sqlite3

_NOTE = "INSERT INTO changed_repository"  # also twice: OR IGNORE would be undone by an upsert
_BY_DIGEST = (
    f"{_NOTE} SELECT repository_id FROM tag WHERE digest = {{row}}.digest;"  # noqa: S608
    f" {_NOTE} SELECT repository_id FROM claim WHERE digest = {{row}}.digest;"
)
_BY_SOURCE = f"{_NOTE} SELECT repository_id FROM claim WHERE source_id = NEW.id;"  # noqa: S608


def watch_changes(db: sqlite3.Connection) -> None:
    """Records the changes of this connection from now on."""
    db.execute("CREATE TEMP TABLE changed_repository (repository_id INTEGER NOT NULL) STRICT")
    for table in ("tag", "tag_part", "claim", "rollback"):
        for event, rows in (("INSERT", "N"), ("DELETE", "O"), ("UPDATE", "NO")):
            notes = " ".join(
                f"{_NOTE} VALUES ({'NEW' if row == 'N' else 'OLD'}.repository_id);" for row in rows
            )
            _trigger(db, f"{event} ON {table}", notes)
    _trigger(db, "INSERT ON document", _BY_DIGEST.format(row="NEW"))
    _trigger(db, "DELETE ON document", _BY_DIGEST.format(row="OLD"))
    _trigger(
        db,
        "UPDATE OF media_type ON document",
        _BY_DIGEST.format(row="NEW"),
        "OLD.media_type != NEW.media_type",
    )
    _trigger(
        db,
        "UPDATE OF state ON source",  # its kind and its path stay
        _BY_SOURCE,
        "(OLD.state = 'removed') != (NEW.state = 'removed')",
    )


def _trigger(db: sqlite3.Connection, event: str, notes: str, when: str = "1") -> None:
    name = "changed_" + event.lower().replace(",", "").replace(" ", "_")
    db.execute(f"CREATE TEMP TRIGGER {name} AFTER {event} WHEN {when} BEGIN {notes} END")


def take_changes(db: sqlite3.Connection) -> set[int]:
    """Returns the ids of the repositories that changed since the last call, and forgets them."""
    rows = db.execute("SELECT DISTINCT repository_id FROM changed_repository").fetchall()
    db.execute("DELETE FROM changed_repository")
    return {int(row["repository_id"]) for row in rows}
