"""Where tags point: the claims on them, their parts and generations, and their going."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from airside.catalog.documents import hold_blob, link_blobs, link_referrers, record_document
from airside.catalog.events import record_event
from airside.catalog.model import TagMove
from airside.catalog.tag_policy import Chosen, Claim, ClaimedPart, Decision, Rollback, decide_tag
from airside.oci.digest import parse_digest
from airside.oci.merge import Entry, merged_index
from airside.oci.model import Descriptor, Document
from airside.oci.platform import parse_platform
from airside.oci.reference import Reference, Repository

Hold = Callable[[Document], None]
"""Makes a document durable in the store, before the transaction that speaks of it ends."""


def claims_of(db: sqlite3.Connection, source_id: int) -> list[sqlite3.Row]:
    return db.execute("SELECT * FROM claim WHERE source_id = ?", (source_id,)).fetchall()


@dataclass(frozen=True, slots=True, order=True)
class TagName:
    """A tag by the row of its repository."""

    repository_id: int
    tag: str

    @property
    def key(self) -> tuple[int, str]:
        return (self.repository_id, self.tag)


@dataclass(frozen=True, slots=True)
class Tags:
    """Changes of tags within one transaction, at one time."""

    db: sqlite3.Connection
    now: float
    hold: Hold

    def settle(self, name: TagName, on_removal: str) -> list[TagMove]:
        """Point one tag at what it should be now."""
        rollback = self._rollback(name)
        decision = decide_tag(self.claims(name), rollback)
        current = self.current(name)
        if decision.claim is not None and decision.backed:
            if rollback is not None and not decision.rolled_back:
                self._end_rollback(name)
            if decision.rolled_back and current is not None:
                return self._follow_rollback(name, current, decision)
            return self._follow(name, current, decision)
        if current is None or on_removal == "keep":
            return []
        if on_removal == "delete":
            return [self.drop(name, current["digest"])]
        self.db.execute(
            "UPDATE tag SET unbacked_since = coalesce(unbacked_since, ?)"
            " WHERE repository_id = ? AND name = ?",
            (self.now, *name.key),
        )
        return []

    def current(self, name: TagName) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self.db.execute(
            "SELECT * FROM tag WHERE repository_id = ? AND name = ?", name.key
        ).fetchone()
        return row

    def claims(self, name: TagName) -> list[Claim]:
        """The claims on a tag, with their parts, oldest first."""
        rows = self.db.execute(
            "SELECT c.sequence, c.digest, c.source_id, c.position, s.state, s.removed_at, s.kind"
            " FROM claim c JOIN source s ON s.id = c.source_id"
            " WHERE c.repository_id = ? AND c.tag = ? ORDER BY c.sequence, c.position",
            name.key,
        ).fetchall()
        parts: dict[tuple[int, int], list[ClaimedPart]] = defaultdict(list)
        for r in self.db.execute(
            "SELECT p.* FROM claim_part p JOIN claim c"
            " ON c.source_id = p.source_id AND c.position = p.position"
            " WHERE c.repository_id = ? AND c.tag = ?"
            " ORDER BY p.source_id, p.position, p.number",
            name.key,
        ):
            part = ClaimedPart(r["platform"], r["digest"], bool(r["held"]), r["attested"])
            parts[r["source_id"], r["position"]].append(part)
        if any(r["kind"] != "peer" for r in rows):  # what came from upstream overrules nobody
            rows = [r for r in rows if r["kind"] != "peer"]
        return [
            Claim(
                r["sequence"],
                r["digest"],
                r["source_id"],
                r["state"] != "removed",
                tuple(parts[r["source_id"], r["position"]]),
                r["removed_at"],
                alone=r["kind"] in {"push", "peer"},
            )
            for r in rows
        ]

    def _rollback(self, name: TagName) -> Rollback | None:
        row = self.db.execute(
            "SELECT sequence, digest FROM rollback WHERE repository_id = ? AND tag = ?", name.key
        ).fetchone()
        return Rollback(row["sequence"], row["digest"]) if row is not None else None

    def _end_rollback(self, name: TagName) -> None:
        self.db.execute("DELETE FROM rollback WHERE repository_id = ? AND tag = ?", name.key)

    def _follow(
        self, name: TagName, current: sqlite3.Row | None, decision: Decision
    ) -> list[TagMove]:
        """Let the tag be what its claims say; a merged index is made and held."""
        claim = decision.claim
        assert claim is not None
        digest = decision.digest or self._merge(name, decision.parts)
        parts = self._parts(name, decision.parts)
        return self._point(
            name,
            current,
            digest,
            claim.source_id,
            claim.sequence,
            parts,
            merged=not decision.digest,
        )

    def _follow_rollback(
        self, name: TagName, current: sqlite3.Row, decision: Decision
    ) -> list[TagMove]:
        """The tag stays what the operator chose; it is backed again if it was not."""
        self.db.execute(
            "UPDATE tag SET unbacked_since = NULL WHERE repository_id = ? AND name = ?", name.key
        )
        if current["digest"] == decision.digest:
            return []
        return self.point_back(name, current, decision.digest)

    def point_back(self, name: TagName, current: sqlite3.Row, digest: str) -> list[TagMove]:
        """Point the tag at an earlier generation, which gets a new number."""
        found = self.db.execute(
            "SELECT * FROM tag_generation WHERE repository_id = ? AND tag = ? AND digest = ?"
            " ORDER BY id DESC LIMIT 1",
            (*name.key, digest),
        ).fetchone()
        parts = json.loads(found["parts"]) if found is not None else []
        source_id = self._source_at(found["source_path"]) if found is not None else None
        moves = self._point(name, current, digest, source_id, current["sequence"], parts)
        if current["unbacked_since"] is not None:
            self.db.execute(
                "UPDATE tag SET unbacked_since = ? WHERE repository_id = ? AND name = ?",
                (current["unbacked_since"], *name.key),
            )
        return moves

    def _source_at(self, path: str) -> int | None:
        row = self.db.execute("SELECT id FROM source WHERE path = ?", (path,)).fetchone()
        return int(row["id"]) if row is not None else None

    def _merge(self, name: TagName, parts: tuple[Chosen, ...]) -> str:
        entries = [
            Entry(
                parse_platform(part.platform),
                self._descriptor(part.digest),
                tuple(map(self._descriptor, part.attestations)),
            )
            for part in parts
        ]
        document = merged_index(entries)
        self.hold(document)
        record_document(self.db, document, "")
        digest = str(document.digest)
        hold_blob(self.db, document.digest, document.size_bytes, self.now)
        link_blobs(self.db, name.repository_id, digest)
        link_referrers(self.db, [digest])
        return digest

    def _descriptor(self, digest: str) -> Descriptor:
        row = self.db.execute(
            "SELECT media_type, length(raw) AS size FROM document WHERE digest = ?", (digest,)
        ).fetchone()
        return Descriptor(row["media_type"], parse_digest(digest), row["size"])

    def _parts(self, name: TagName, chosen: tuple[Chosen, ...]) -> list[dict[str, Any]]:
        """The rows of the tag's parts.

        `version` counts replacements: a part that stays while another is replaced falls behind.
        """
        before = {
            r["platform"]: r
            for r in self.db.execute(
                "SELECT * FROM tag_part WHERE repository_id = ? AND tag = ?", name.key
            )
        }
        top = max((r["version"] for r in before.values()), default=0)
        alone = len({part.claim.source_id for part in chosen}) == 1
        rows = []
        for part in chosen:
            old = before.get(part.platform)
            if alone:
                version = 0
            elif old is None:
                version = top
            elif old["digest"] == part.digest:
                version = old["version"]
            else:
                version = top if old["version"] < top else top + 1
            rows.append(
                {
                    "platform": part.platform,
                    "digest": part.digest,
                    "source_id": part.claim.source_id,
                    "sequence": part.claim.sequence,
                    "version": version,
                }
            )
        return rows

    def _point(
        self,
        name: TagName,
        current: sqlite3.Row | None,
        digest: str,
        source_id: int | None,
        sequence: int,
        parts: list[dict[str, Any]],
        *,
        merged: bool = False,
    ) -> list[TagMove]:
        """Record where the tag points; a new digest is a new generation."""
        before = current["digest"] if current is not None else ""
        moved_at = current["moved_at"] if current is not None and before == digest else self.now
        self.db.execute(
            "INSERT INTO tag VALUES (?, ?, ?, ?, ?, ?, NULL) ON CONFLICT (repository_id, name)"
            " DO UPDATE SET digest = excluded.digest, source_id = excluded.source_id,"
            " sequence = excluded.sequence, moved_at = excluded.moved_at, unbacked_since = NULL",
            (*name.key, digest, source_id, sequence, moved_at),
        )
        self._write_parts(name, parts)
        if before == digest:
            return []
        path = self._record_generation(name, digest, source_id, sequence, parts)
        move = TagMove(reference_text(self.db, name), before, digest)
        kind = "tag-moved" if before else "tag-added"
        self._event(kind, move.reference, path=path, digest=digest, detail=before)
        if merged:
            self._tell_merged(name, move.reference, digest)
        return [move]

    def _write_parts(self, name: TagName, parts: list[dict[str, Any]]) -> None:
        self.db.execute("DELETE FROM tag_part WHERE repository_id = ? AND tag = ?", name.key)
        self.db.executemany(
            "INSERT INTO tag_part VALUES (?, ?, ?, ?, (SELECT id FROM source WHERE id = ?), ?, ?)",
            [
                (*name.key, p["platform"], p["digest"], p["source_id"], p["sequence"], p["version"])
                for p in parts
            ],
        )

    def _record_generation(
        self,
        name: TagName,
        digest: str,
        source_id: int | None,
        sequence: int,
        parts: list[dict[str, Any]],
    ) -> str:
        """Keep what the tag is now as its newest generation; gives the path of its source."""
        row = self.db.execute("SELECT path FROM source WHERE id = ?", (source_id,)).fetchone()
        path = str(row["path"]) if row is not None else ""
        platforms = sorted({p["platform"] for p in parts})
        self.db.execute(
            "INSERT INTO tag_generation (repository_id, tag, sequence, digest, source_path,"
            " platforms, at, parts) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*name.key, sequence, digest, path, json.dumps(platforms), self.now, json.dumps(parts)),
        )
        return path

    def _tell_merged(self, name: TagName, reference: str, digest: str) -> None:
        rows = self.db.execute(
            "SELECT p.platform, p.version, s.path FROM tag_part p"
            " LEFT JOIN source s ON s.id = p.source_id"
            " WHERE p.repository_id = ? AND p.tag = ? ORDER BY p.platform",
            name.key,
        ).fetchall()
        self._event(
            "tag-merged",
            reference,
            digest=digest,
            detail=json.dumps({r["platform"]: r["path"] or "" for r in rows}),
        )
        top = max(r["version"] for r in rows)
        behind = {r["platform"]: r["path"] or "" for r in rows if r["version"] < top}
        if behind:
            self._event("tag-mixed", reference, digest=digest, detail=json.dumps(behind))

    def restore(self, name: TagName, digest: str, kind: str, path: str) -> None:
        """Let a tag point where it did before the catalog was lost."""
        row = self.db.execute(
            "SELECT id, sequence FROM source WHERE kind = ? AND path = ?", (kind, path)
        ).fetchone()
        source_id, sequence = (row["id"], row["sequence"]) if row is not None else (None, 0)
        said = decide_tag(replace(claim, backed=True) for claim in self.claims(name))
        parts = self._parts(name, said.parts) if said.digest in {"", digest} else []
        self._point(name, None, digest, source_id, sequence, parts)

    def forget_generations(self, name: TagName, source_id: int, path: str) -> None:
        """Keep no earlier version of a tag that this source had a part in."""
        rows = self.db.execute(
            "SELECT id, source_path, parts FROM tag_generation WHERE repository_id = ? AND tag = ?"
            " ORDER BY id DESC",
            name.key,
        ).fetchall()
        gone = [
            (row["id"],)
            for row in rows[1:]
            if row["source_path"] == path
            or any(part["source_id"] == source_id for part in json.loads(row["parts"]))
        ]
        self.db.executemany("DELETE FROM tag_generation WHERE id = ?", gone)

    def drop(self, name: TagName, digest: str, *, reason: str = "") -> TagMove:
        """Remove a tag with its history and the claims of absent sources on it."""
        move = TagMove(reference_text(self.db, name), digest, "")
        self.db.execute("DELETE FROM tag WHERE repository_id = ? AND name = ?", name.key)
        self.db.execute("DELETE FROM tag_generation WHERE repository_id = ? AND tag = ?", name.key)
        self.db.execute(
            "DELETE FROM claim WHERE repository_id = ? AND tag = ? AND source_id IN"
            " (SELECT id FROM source WHERE state = 'removed')",
            name.key,
        )
        self._event("tag-removed", move.reference, digest=digest, detail=reason)
        return move

    def _event(self, kind: str, reference: str, **values: str) -> None:
        record_event(self.db, self.now, kind, reference=reference, **values)


def reference_text(db: sqlite3.Connection, name: TagName) -> str:
    row = db.execute(
        "SELECT host, path FROM repository WHERE id = ?", (name.repository_id,)
    ).fetchone()
    return str(Reference(Repository(row["host"], row["path"]), name.tag))
