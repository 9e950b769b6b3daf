"""The states of sources: settled, queued, importing, failed, removed."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from airside.catalog.claims import claims_of
from airside.catalog.events import record_event
from airside.catalog.model import TagMove
from airside.catalog.sequences import next_sequence, next_source_id
from airside.catalog.tag_generations import forget_generations
from airside.catalog.tag_names import TagName
from airside.catalog.tags import Hold, Tags
from airside.catalog.transactions import Transactions
from airside.core.failpoints import fault


class SourceStates:
    """Records what happens to watched and imported files. Thread-safe; raises StoreError."""

    def __init__(self, transactions: Transactions, hold: Hold) -> None:
        self._transactions, self._hold = transactions, hold

    def settle(
        self, files: Sequence[tuple[str, str, int]], now: float, *, kind: str = "archive"
    ) -> dict[str, int]:
        """Records settled files, in order: (path, stat key, size). Returns their source ids.

        Each gets the next sequence number. A watched file that is unchanged since it got its number
        keeps it, and so does one that a rebuild restored.
        """
        ids: dict[str, int] = {}
        fault("catalog.before_settle")
        with self._transactions.begin("record settled archives") as db:
            for path, stat_key, size in files:
                ids[path] = self._settle_one(db, kind, path, stat_key, size, now)
                record_event(db, now, "settled", path=path)
            self._transactions.count_change(db)
        fault("catalog.after_settle")
        return ids

    def _settle_one(
        self, db: sqlite3.Connection, kind: str, path: str, stat_key: str, size: int, now: float
    ) -> int:
        found = db.execute(
            "SELECT id, kind, sequence, stat_key, state FROM source"
            " WHERE kind IN (?, ?) AND path = ?",
            (kind, "list" if kind == "archive" else kind, path),
        ).fetchone()
        keeps = (
            kind == "archive"
            and found is not None
            and found["stat_key"] in {stat_key, "" if found["state"] == "imported" else stat_key}
        )
        sequence = found["sequence"] if keeps else next_sequence(db)
        source_id = found["id"] if found is not None else next_source_id(db)
        kind = found["kind"] if found is not None else kind
        if (
            not keeps
        ):  # another file: images pulled of the old list, and tombstones, no longer count
            db.execute("DELETE FROM problem WHERE source_id = ? AND reason = ''", (source_id,))
            db.execute("DELETE FROM tombstone WHERE source_path = ?", (path,))
        row = db.execute(
            "INSERT INTO source (id, kind, path, stat_key, sequence, state, size_bytes, settled_at,"
            " changed_at) VALUES (?, ?, ?, ?, ?, 'queued', ?, ?, ?)"
            " ON CONFLICT (kind, path) DO UPDATE SET stat_key = excluded.stat_key,"
            " sequence = excluded.sequence, state = 'queued', reason = '',"
            " size_bytes = excluded.size_bytes, settled_at = excluded.settled_at,"
            " changed_at = excluded.changed_at RETURNING id",
            (source_id, kind, path, stat_key, sequence, size, now, now),
        ).fetchone()
        return int(row["id"])

    def set_state(self, source_id: int, state: str, now: float, *, reason: str = "") -> None:
        """Records a transient state of a present source, such as `importing` or `incomplete`."""
        with self._transactions.begin("record a state") as db:
            row = db.execute(
                "UPDATE source SET state = ?, reason = ?, changed_at = ? WHERE id = ?"
                " AND state != 'removed' AND (state != ? OR reason != ?) RETURNING path",
                (state, reason, now, source_id, state, reason),
            ).fetchone()
            if row is not None:
                record_event(db, now, state, path=row["path"], detail=reason)
                self._transactions.count_change(db)

    def set_kind(self, source_id: int, kind: str) -> None:
        """Records the kind of a watched file that was read: an `archive` or a `list`."""
        with self._transactions.begin("record what a file is") as db:
            changed = db.execute(
                "UPDATE source SET kind = ? WHERE id = ? AND kind IN ('archive', 'list')"
                " AND kind != ?",
                (kind, source_id, kind),
            )
            if changed.rowcount:
                self._transactions.count_change(db)

    def remove(self, removals: Mapping[str, str], now: float) -> list[TagMove]:
        """Records archives that were removed: path → policy (`unpin`, `delete`, `keep`).

        Returns the tags that moved.
        """
        moves: list[TagMove] = []
        changed = False
        with self._transactions.begin("record removed archives") as db:
            tags = Tags(db, now, self._hold)
            for path, policy in removals.items():
                row = db.execute(
                    "UPDATE source SET state = 'removed', stat_key = '', changed_at = ?,"
                    " reason = '', removed_at = ?, on_removal = ?"
                    " WHERE kind IN ('archive', 'list') AND path = ? AND state != 'removed'"
                    " RETURNING id",
                    (now, next_sequence(db), policy, path),
                ).fetchone()
                if row is None:
                    continue
                changed = True
                fault("catalog.in_remove")
                record_event(db, now, "removed", path=path, detail=policy)
                claims = claims_of(db, row["id"])
                if policy == "delete":
                    db.execute("DELETE FROM claim WHERE source_id = ?", (row["id"],))
                for claim in claims:
                    if claim["tag"]:
                        name = TagName(claim["repository_id"], claim["tag"])
                        moves += tags.settle(name, policy)
                        if policy == "delete":
                            forget_generations(db, name, row["id"], path)
            if changed:
                self._transactions.count_change(db)
        fault("catalog.after_remove")
        return moves

    def queue_again(self, source_ids: Iterable[int], now: float, reason: str) -> None:
        """Queues these archives, with the reason: the store lost blobs of theirs.

        They keep their stat keys and therefore, if unchanged, their sequence numbers.
        """
        with self._transactions.begin("mark archives to be read again") as db:
            for source_id in source_ids:
                row = db.execute(
                    "UPDATE source SET state = 'queued', changed_at = ?, reason = ?"
                    " WHERE id = ? AND state != 'removed' RETURNING path",
                    (now, reason, source_id),
                ).fetchone()
                if row is not None:
                    record_event(db, now, "queued", path=row["path"], detail=reason)
            self._transactions.count_change(db)
