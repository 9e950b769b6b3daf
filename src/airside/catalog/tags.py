"""Tags: where they point, by the claims on them; their parts, generations and removal."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

from airside.catalog.events import record_event
from airside.catalog.model import TagMove
from airside.catalog.tag_generations import TagTarget, earlier_target, record_generation
from airside.catalog.tag_names import TagName, reference_text
from airside.catalog.tag_parts import (
    merged_parts,
    merged_sources,
    part_rows,
    record_merged,
    write_parts,
)
from airside.catalog.tag_policy import Chosen, Claim, ClaimedPart, Decision, Rollback, decide_tag
from airside.oci.model import Document
from airside.oci.supplements import is_supplement

Hold = Callable[[Document], None]
"""Makes a document durable in the store, before the transaction that records it ends."""


@dataclass(frozen=True, slots=True)
class Tags:
    """Changes tags within one transaction, at one time."""

    db: sqlite3.Connection
    now: float
    hold: Hold

    def settle(self, name: TagName, on_removal: str) -> list[TagMove]:
        """Points one tag at what its claims say now. Returns its moves."""
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
        """Returns the claims on a tag, with their parts, oldest first."""
        rows = self.db.execute(
            "SELECT c.sequence, c.digest, c.source_id, c.position, s.state, s.removed_at, s.kind,"
            " coalesce(d.kind, '') AS artifact, coalesce(d.subject, '') AS subject"
            " FROM claim c JOIN source s ON s.id = c.source_id"
            " LEFT JOIN document d ON d.digest = c.digest"
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
        if any(r["kind"] != "peer" for r in rows):  # a cached tag overrules no other source
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
                is_supplement=is_supplement(r["artifact"], has_subject=bool(r["subject"])),
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
        """Points the tag at the decision; merges and holds an index if needed."""
        claim = decision.claim
        assert claim is not None
        digest = decision.digest or self._merge(name, decision.parts)
        parts = part_rows(self.db, name, decision.parts)
        target = TagTarget(
            digest, claim.source_id, claim.sequence, parts, merged=not decision.digest
        )
        return self._point(name, current, target)

    def _merge(self, name: TagName, chosen: tuple[Chosen, ...]) -> str:
        document = merged_parts(self.db, chosen)
        self.hold(document)
        record_merged(self.db, name, document, self.now)
        return str(document.digest)

    def _follow_rollback(
        self, name: TagName, current: sqlite3.Row, decision: Decision
    ) -> list[TagMove]:
        """Keeps the tag at the operator's choice, and records that it is backed."""
        self.db.execute(
            "UPDATE tag SET unbacked_since = NULL WHERE repository_id = ? AND name = ?", name.key
        )
        if current["digest"] == decision.digest:
            return []
        return self.point_back(name, current, decision.digest)

    def point_back(self, name: TagName, current: sqlite3.Row, digest: str) -> list[TagMove]:
        """Points the tag at an earlier generation, recorded as a new one."""
        target = earlier_target(self.db, name, digest, current["sequence"])
        moves = self._point(name, current, target)
        if current["unbacked_since"] is not None:
            self.db.execute(
                "UPDATE tag SET unbacked_since = ? WHERE repository_id = ? AND name = ?",
                (current["unbacked_since"], *name.key),
            )
        return moves

    def _point(
        self, name: TagName, current: sqlite3.Row | None, target: TagTarget
    ) -> list[TagMove]:
        """Records where the tag points; a new digest is a new generation."""
        digest, before = target.digest, current["digest"] if current is not None else ""
        moved_at = current["moved_at"] if current is not None and before == digest else self.now
        self.db.execute(
            "INSERT INTO tag VALUES (?, ?, ?, ?, ?, ?, NULL) ON CONFLICT (repository_id, name)"
            " DO UPDATE SET digest = excluded.digest, source_id = excluded.source_id,"
            " sequence = excluded.sequence, moved_at = excluded.moved_at, unbacked_since = NULL",
            (*name.key, digest, target.source_id, target.sequence, moved_at),
        )
        write_parts(self.db, name, target.parts)
        if before == digest:
            return []
        path = record_generation(self.db, name, target, self.now)
        move = TagMove(reference_text(self.db, name), before, digest)
        kind = "tag-moved" if before else "tag-added"
        self._event(kind, move.reference, path=path, digest=digest, detail=before)
        if target.merged:
            self._record_merge(name, move)
        return [move]

    def _record_merge(self, name: TagName, move: TagMove) -> None:
        sources, behind = merged_sources(self.db, name)
        self._event("tag-merged", move.reference, digest=move.after, detail=json.dumps(sources))
        if behind:
            self._event("tag-mixed", move.reference, digest=move.after, detail=json.dumps(behind))

    def restore(self, name: TagName, digest: str, kind: str, path: str) -> None:
        """Points a tag where it pointed before the catalog was lost."""
        row = self.db.execute(
            "SELECT id, sequence FROM source WHERE kind = ? AND path = ?", (kind, path)
        ).fetchone()
        source_id, sequence = (row["id"], row["sequence"]) if row is not None else (None, 0)
        said = decide_tag(replace(claim, backed=True) for claim in self.claims(name))
        parts = part_rows(self.db, name, said.parts) if said.digest in {"", digest} else []
        self._point(name, None, TagTarget(digest, source_id, sequence, parts))

    def drop(self, name: TagName, digest: str, *, reason: str = "") -> TagMove:
        """Deletes a tag with its history and the claims of absent sources on it."""
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
