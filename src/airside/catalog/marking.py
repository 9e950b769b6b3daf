"""Marking: what each repository reaches from its roots, and what nothing reaches.

Roots: tags, kept versions, claims of present sources and of absent ones that a tag still follows,
what a client pushed or asked about lately, and the referrers of any of these. A push by digest is
not a root if an index of the repository lists it or if it refers to something there: it stays and
goes with that index or subject (ADR 0020).

A mark is made in the temporary tables of one connection, in one snapshot. Changes continue
elsewhere: `watch_touched` records the repositories that may reach more than before.
"""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from airside.catalog.expiry import Untagged

_LOOKED_AT = "IN (SELECT repository_id FROM looked_at)"
_FOLLOWS = (
    "s.kind = 'push' AND c.tag = '' AND s.changed_at <= ? AND"
    " (EXISTS (SELECT 1 FROM edge e JOIN repository_blob b"
    "  ON b.digest = e.parent AND b.repository_id = c.repository_id"
    "  WHERE e.child = c.digest AND e.kind = 'manifest')"
    " OR EXISTS (SELECT 1 FROM document d JOIN repository_blob b"
    "  ON b.digest = d.subject AND b.repository_id = c.repository_id"
    "  WHERE d.digest = c.digest AND d.subject != ''))"
)
_LED = (
    "(EXISTS (SELECT 1 FROM edge e JOIN reached p"
    "  ON p.digest = e.parent AND p.repository_id = c.repository_id"
    "  WHERE e.child = c.digest AND e.kind = 'manifest')"
    " OR EXISTS (SELECT 1 FROM document d JOIN reached p"
    "  ON p.digest = d.subject AND p.repository_id = c.repository_id"
    "  WHERE d.digest = c.digest AND d.subject != ''))"
)
_GIVEN_UP = (
    "EXISTS (SELECT 1 FROM given_up g WHERE g.source_id = s.id AND g.changed_at = s.changed_at)"
)
_TOUCHES = {
    "INSERT ON claim": "VALUES (NEW.repository_id)",
    "INSERT ON tag": "VALUES (NEW.repository_id)",
    "UPDATE ON tag": "VALUES (NEW.repository_id)",
    "INSERT ON tag_generation": "VALUES (NEW.repository_id)",
    "INSERT ON pushed": "VALUES (NEW.repository_id)",
    "UPDATE ON pushed": "VALUES (NEW.repository_id)",
    "INSERT ON repository_blob": "VALUES (NEW.repository_id)",
    "INSERT ON claim_part": "SELECT repository_id FROM repository_blob WHERE digest = NEW.digest",
    "UPDATE OF state ON source": "SELECT repository_id FROM claim WHERE source_id = NEW.id",
}


@dataclass(frozen=True, slots=True)
class Unreached:
    """The rows that nothing reaches. `digests` are ordered: no document outlives what it needs.

    `pushes` by digest, with their times, whose manifest is deleted, or its index or subject. It may
    still be reached otherwise, but is not a root any more.
    """

    digests: tuple[str, ...]
    blobs: frozenset[str]
    links: tuple[tuple[int, str], ...]
    pushes: tuple[tuple[int, float], ...]
    repositories: tuple[int, ...]


def prepare(
    db: sqlite3.Connection, *, untagged: Iterable[Untagged], asked: Collection[str]
) -> None:
    """Creates or empties the temporary tables; fills in the pushes given up and the extra roots."""
    for table, columns in (
        ("reached", "digest TEXT, repository_id INTEGER, PRIMARY KEY (digest, repository_id)"),
        ("part_left", "digest TEXT PRIMARY KEY"),
        ("looked_at", "repository_id INTEGER PRIMARY KEY"),
        ("given_up", "source_id INTEGER PRIMARY KEY, changed_at REAL"),
        ("asked", "digest TEXT PRIMARY KEY"),
    ):
        db.execute(f"CREATE TEMP TABLE IF NOT EXISTS {table} ({columns}) WITHOUT ROWID")
        db.execute(f"DELETE FROM {table}")  # noqa: S608
    rows = [(one.source_id, one.changed_at) for one in untagged]
    db.executemany("INSERT OR IGNORE INTO given_up VALUES (?, ?)", rows)
    ask(db, asked)


def ask(db: sqlite3.Connection, digests: Iterable[str]) -> None:
    """Adds these digests as roots, in the repositories that have them."""
    db.executemany("INSERT OR IGNORE INTO asked VALUES (?)", [(digest,) for digest in digests])


def mark_all(db: sqlite3.Connection, pushed_since: float) -> None:
    """Marks what each repository reaches.

    Does not mark below parts of an index that only removed archives had: the index stays as a
    sparse one for the parts of others. What is below a pushed index was pushed with it.
    """
    db.execute(
        "INSERT INTO part_left SELECT DISTINCT digest FROM claim_part WHERE attested = ''"
        " EXCEPT SELECT p.digest FROM claim_part p JOIN source s ON s.id = p.source_id"
        "   WHERE (p.held OR s.kind = 'push') AND s.state != 'removed'"
        " EXCEPT SELECT digest FROM tag_part"
        " EXCEPT SELECT p.value ->> 'digest' FROM tag_generation g, json_each(g.parts) p"
    )
    _mark(db, pushed_since, "")


def mark_again(db: sqlite3.Connection, pushed_since: float, repositories: Iterable[int]) -> None:
    """Marks what these repositories reach now; of sparse indexes all that they list."""
    db.execute("DELETE FROM looked_at")
    db.executemany("INSERT INTO looked_at VALUES (?)", [(number,) for number in repositories])
    db.execute(f"DELETE FROM reached WHERE repository_id {_LOOKED_AT}")  # noqa: S608
    _mark(db, pushed_since, f"AND {{table}}repository_id {_LOOKED_AT}")


def _mark(db: sqlite3.Connection, pushed_since: float, only: str) -> None:
    own, claimed = only.format(table=""), only.format(table="c.")
    db.execute(
        "WITH RECURSIVE live(repository_id, digest) AS ("  # noqa: S608
        f" SELECT repository_id, digest FROM tag WHERE 1 {own}"
        f" UNION SELECT repository_id, digest FROM tag_generation WHERE 1 {own}"
        f" UNION SELECT repository_id, digest FROM pushed WHERE at > ? {own}"
        f" UNION SELECT repository_id, digest FROM repository_blob"
        f"   WHERE digest IN (SELECT digest FROM asked) {own}"
        " UNION SELECT c.repository_id, c.digest FROM claim c JOIN source s ON s.id = c.source_id"
        f"   WHERE (s.state != 'removed' OR c.tag = '') AND NOT {_GIVEN_UP} AND NOT ({_FOLLOWS})"
        f"   {claimed}"
        " UNION SELECT c.repository_id, d.subject FROM claim c JOIN source s ON s.id = c.source_id"
        "   JOIN document d ON d.digest = c.digest WHERE s.kind = 'push' AND c.tag = ''"
        f"   AND s.changed_at > ? AND d.subject != '' {claimed}"
        " UNION SELECT c.repository_id, c.digest FROM claim c JOIN tag_part p"
        "   ON p.source_id = c.source_id AND p.repository_id = c.repository_id AND p.tag = c.tag"
        f"   WHERE 1 {claimed}"
        " UNION SELECT live.repository_id, e.child FROM edge e JOIN live ON e.parent = live.digest"
        "   WHERE e.kind != 'subject' AND e.child NOT IN (SELECT digest FROM part_left)"
        " UNION SELECT live.repository_id, d.digest FROM document d"
        "   JOIN live ON d.subject = live.digest WHERE d.subject != '')"
        " INSERT OR IGNORE INTO reached SELECT digest, repository_id FROM live",
        (pushed_since,) * 3,
    )


def is_reached(db: sqlite3.Connection, repository_id: int, digest: str) -> bool:
    query = "SELECT 1 FROM reached WHERE digest = ? AND repository_id = ?"
    return db.execute(query, (digest, repository_id)).fetchone() is not None


def reached_of(db: sqlite3.Connection, digests: Iterable[str]) -> set[str]:
    """Returns those of the digests that are reached in any repository."""
    rows = db.execute(
        "SELECT DISTINCT digest FROM reached WHERE digest IN (SELECT value FROM json_each(?))",
        (json.dumps(list(digests)),),
    )
    return {row["digest"] for row in rows}


def unreached(db: sqlite3.Connection, pushed_since: float) -> Unreached:
    """Returns what the mark of all repositories did not reach."""
    not_reached = "digest NOT IN (SELECT digest FROM reached)"
    blobs = {r["digest"] for r in db.execute(f"SELECT digest FROM blob WHERE {not_reached}")}  # noqa: S608
    documents = db.execute(f"SELECT digest FROM document WHERE {not_reached}").fetchall()  # noqa: S608
    links = db.execute(
        "SELECT repository_id, digest FROM repository_blob b WHERE NOT EXISTS (SELECT 1 FROM"
        " reached r WHERE r.digest = b.digest AND r.repository_id = b.repository_id)"
    ).fetchall()
    pushes = db.execute(
        "SELECT s.id, s.changed_at FROM source s JOIN claim c ON c.source_id = s.id"  # noqa: S608
        " WHERE s.kind = 'push' AND c.tag = '' AND (NOT EXISTS (SELECT 1 FROM reached r"
        "  WHERE r.digest = c.digest AND r.repository_id = c.repository_id)"
        f" OR ({_FOLLOWS} AND NOT {_LED}))",
        (pushed_since,),
    ).fetchall()
    empty = db.execute(
        "SELECT id FROM repository WHERE id NOT IN (SELECT repository_id FROM reached)"
    ).fetchall()
    return Unreached(
        tuple(_ordered(db, blobs | {row["digest"] for row in documents})),
        frozenset(blobs),
        tuple((row["repository_id"], row["digest"]) for row in links),
        tuple((row["id"], row["changed_at"]) for row in pushes),
        tuple(row["id"] for row in empty),
    )


def _ordered(db: sqlite3.Connection, digests: set[str]) -> list[str]:
    """Orders indexes before their manifests, subjects before their referrers, those before blobs.

    At each moment, all that a remaining document needs is there.
    """
    if not digests:
        return []
    below: dict[str, list[str]] = defaultdict(list)
    above = dict.fromkeys(digests, 0)
    for row in db.execute("SELECT parent, child, kind FROM edge"):
        first, then = row["parent"], row["child"]
        if row["kind"] == "subject":
            first, then = then, first
        if first in above and then in above:
            below[first].append(then)
            above[then] += 1
    ready = sorted(digest for digest, count in above.items() if not count)
    ordered = []
    while ready:
        digest = ready.pop()
        ordered.append(digest)
        for then in below[digest]:
            above[then] -= 1
            if not above[then]:
                ready.append(then)
    return ordered


def watch_touched(db: sqlite3.Connection) -> None:
    """Records from now on, on this connection, which repositories may reach more."""
    db.execute("CREATE TEMP TABLE IF NOT EXISTS touched (repository_id INTEGER NOT NULL) STRICT")
    db.execute("DELETE FROM touched")
    for event, rows in _TOUCHES.items():
        db.execute(
            f"CREATE TEMP TRIGGER IF NOT EXISTS {_trigger(event)} AFTER {event}"
            f" BEGIN INSERT INTO touched {rows}; END"
        )


def take_touched(db: sqlite3.Connection) -> set[int]:
    """Returns the ids of the repositories touched since the last call, and forgets them."""
    found = {
        row["repository_id"] for row in db.execute("SELECT DISTINCT repository_id FROM touched")
    }
    db.execute("DELETE FROM touched")
    return found


def unwatch_touched(db: sqlite3.Connection) -> None:
    """Stops recording."""
    for event in _TOUCHES:
        db.execute(f"DROP TRIGGER IF EXISTS {_trigger(event)}")


def _trigger(event: str) -> str:
    return "touched_" + event.lower().replace(" ", "_")
