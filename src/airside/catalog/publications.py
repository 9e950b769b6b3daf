"""Publications: what the runtimes have, and the links that a publish makes in them.

`publication`: one row for each runtime and tag. `intent`: links that a running publish makes in a
content directory; after an interrupted publish, its leftovers are found by these rows.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from airside.catalog.database import Readers, Writer
from airside.catalog.events import record_event

UNSYNCED = "unsynced:"
"""The prefix of the keys in `meta` of a runtime's layers that are not synced.

The runtime's name follows; the value is chain ID → ID of the boot that it was unpacked in.
"""
_SHOWN_NAMES = 20
"""Names that one event shows."""
FOREIGN = "foreign:"
"""The prefix of the keys in `meta` of the names in a runtime that another catalog published.

The runtime's name follows; the value is name → identity of that catalog.
"""


@dataclass(frozen=True, slots=True)
class PublicationRow:
    """The state of a tag in a runtime. `state`: see `airside.containerd.publisher`."""

    runtime: str
    reference: str
    digest: str
    state: str
    detail: Mapping[str, object] = field(default_factory=dict)
    at: float = 0.0

    @property
    def is_placed(self) -> bool:
        """True if the publish ended well: the runtime has it, or had it until somebody acted."""
        return self.state in {"published", "waiting"}

    @property
    def reason(self) -> str:
        return str(self.detail.get("reason", ""))

    @property
    def next_try_at(self) -> float | None:
        """The time of the next try, None if none is planned."""
        found = self.detail.get("next_try_at")
        return float(found) if isinstance(found, int | float) else None

    @property
    def restores(self) -> int:
        """How often it was published again after somebody removed or moved it."""
        found = self.detail.get("restores")
        return found if isinstance(found, int) else 0


def list_publications(readers: Readers, runtime: str | None = None) -> list[PublicationRow]:
    """Returns the publications of one runtime or of all, by runtime and reference."""
    where, values = ("WHERE runtime = ?", (runtime,)) if runtime is not None else ("", ())
    rows = readers.rows(
        f"SELECT * FROM publication {where} ORDER BY runtime, reference",  # noqa: S608
        *values,
    )
    return [_publication(r) for r in rows]


def list_publications_of(readers: Readers, references: Collection[str]) -> list[PublicationRow]:
    """Returns the publications of these names in all runtimes."""
    rows = readers.rows(
        "SELECT * FROM publication WHERE reference IN (SELECT value FROM json_each(?))"
        " ORDER BY runtime, reference",
        json.dumps(sorted(references)),
    )
    return [_publication(r) for r in rows]


def list_unpublished(readers: Readers) -> list[PublicationRow]:
    """Returns the tags that a runtime lacks though this node should run them, by runtime."""
    rows = readers.rows(
        "SELECT * FROM publication WHERE state IN ('failed', 'waiting', 'conflict', 'incomplete')"
        " ORDER BY runtime, reference"
    )
    return [_publication(r) for r in rows]


def count_publications(readers: Readers) -> dict[str, dict[str, int]]:
    """Returns for each runtime the number of tags in each state."""
    found: dict[str, dict[str, int]] = {}
    for row in readers.rows(
        "SELECT runtime, state, count(*) AS n FROM publication GROUP BY runtime, state"
    ):
        found.setdefault(row["runtime"], {})[row["state"]] = row["n"]
    return found


def list_intents(readers: Readers, runtime: str) -> list[tuple[str, str]]:
    """Returns (target, digest) of links that may have been left over."""
    rows = readers.rows("SELECT target, digest FROM intent WHERE runtime = ?", runtime)
    return [(r["target"], r["digest"]) for r in rows]


def _publication(row: sqlite3.Row) -> PublicationRow:
    return PublicationRow(
        row["runtime"],
        row["reference"],
        row["digest"],
        row["state"],
        json.loads(row["detail"]),
        row["at"],
    )


class Publications:
    """Records publications. They do not change the generation: the registry serves the same."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def record(self, rows: Iterable[PublicationRow], now: float) -> None:
        """Records the states of tags in a runtime; a changed state is an event."""
        with self._writer.transaction("record publications") as db:
            for row in rows:
                before = db.execute(
                    "SELECT * FROM publication WHERE runtime = ? AND reference = ?",
                    (row.runtime, row.reference),
                ).fetchone()
                detail = json.dumps(row.detail)
                db.execute(
                    "INSERT OR REPLACE INTO publication VALUES (?, ?, ?, ?, ?, ?)",
                    (row.runtime, row.reference, row.digest, row.state, detail, now),
                )
                self._tell(db, row, None if before is None else _publication(before), now)

    @staticmethod
    def _tell(
        db: sqlite3.Connection, row: PublicationRow, before: PublicationRow | None, now: float
    ) -> None:
        """Records the event of a changed state, or of a publish after somebody's removal."""
        restored = row.state == "published" and row.restores > (before.restores if before else 0)
        if before and (before.digest, before.state) == (row.digest, row.state) and not restored:
            return
        told: dict[str, object] = {"runtime": row.runtime, "reason": row.reason}
        told["next_try_seconds"] = round(row.next_try_at - now) if row.next_try_at else 0
        detail = json.dumps({key: value for key, value in told.items() if value})
        kind = "restored" if restored else row.state
        record_event(db, now, kind, reference=row.reference, digest=row.digest, detail=detail)

    def forget(
        self,
        runtime: str,
        references: Iterable[str],
        now: float,
        *,
        kept: Collection[str] = (),
    ) -> None:
        """Deletes the rows of tags that were withdrawn; each is an event.

        Those of `kept` are digests that a tag's row has from now on.
        """
        with self._writer.transaction("forget publications") as db:
            for reference in references:
                row = db.execute(
                    "DELETE FROM publication WHERE runtime = ? AND reference = ?"
                    " RETURNING digest, state",
                    (runtime, reference),
                ).fetchone()
                if row is not None and row["state"] == "published" and reference not in kept:
                    detail = json.dumps({"runtime": runtime})
                    record_event(
                        db,
                        now,
                        "withdrawn",
                        reference=reference,
                        digest=row["digest"],
                        detail=detail,
                    )

    def record_foreign(self, runtime: str, names: Mapping[str, str], now: float) -> bool:
        """Records the names that another catalog published: name → its identity.

        Returns True, and records an event, if names were added.
        """
        key, text = f"{FOREIGN}{runtime}", json.dumps(names) if names else ""
        with self._writer.transaction("record foreign names") as db:
            row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
            before = row["value"] if row is not None else ""
            if before == text:
                return False
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, text))
            added = names.keys() - json.loads(before or "{}").keys()
            if added:
                shown = sorted(added)[:_SHOWN_NAMES]
                detail = {"runtime": runtime, "count": len(added), "names": shown}
                record_event(db, now, "foreign-names", detail=json.dumps(detail))
        return bool(added)

    def record_released(self, runtime: str, names: Sequence[str], now: float) -> None:
        """Records the event that names of another catalog were deleted on request."""
        detail = {"runtime": runtime, "count": len(names), "names": list(names[:_SHOWN_NAMES])}
        with self._writer.transaction("record released names") as db:
            record_event(db, now, "foreign-released", detail=json.dumps(detail))

    def forget_runtime(self, runtime: str) -> None:
        """Deletes all rows of a runtime that was wiped."""
        with self._writer.transaction("forget a runtime") as db:
            db.execute("DELETE FROM publication WHERE runtime = ?", (runtime,))
            db.execute("DELETE FROM intent WHERE runtime = ?", (runtime,))
            keys = [(f"{prefix}{runtime}",) for prefix in (UNSYNCED, FOREIGN)]
            db.executemany("DELETE FROM meta WHERE key = ?", keys)

    def record_intents(self, runtime: str, targets: Mapping[str, str]) -> None:
        """Records, durably, the links that are about to be made: target path → digest."""
        with self._writer.transaction("record intents") as db:
            db.executemany(
                "INSERT OR REPLACE INTO intent VALUES (?, ?, ?)",
                [(runtime, target, digest) for target, digest in targets.items()],
            )

    def clear_intents(self, runtime: str, targets: Iterable[str]) -> None:
        """Deletes the records of links that were adopted or deleted."""
        with self._writer.transaction("clear intents") as db:
            db.executemany(
                "DELETE FROM intent WHERE runtime = ? AND target = ?",
                [(runtime, target) for target in targets],
            )
