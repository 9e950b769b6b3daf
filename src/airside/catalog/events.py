"""The event log of the catalog, with growing numbers; also the outbox."""

import sqlite3

_EVENTS_KEPT = 10_000


def record_event(
    db: sqlite3.Connection,
    now: float,
    kind: str,
    *,
    path: str = "",
    reference: str = "",
    digest: str = "",
    detail: str = "",
) -> None:
    number = db.execute(
        "INSERT INTO event (at, kind, path, reference, digest, detail) VALUES (?, ?, ?, ?, ?, ?)",
        (now, kind, path, reference, digest, detail),
    ).lastrowid
    if number and number % 1000 == 0:
        db.execute("DELETE FROM event WHERE id <= ?", (number - _EVENTS_KEPT,))
