"""Garbage collection in the catalog: deletes what nothing holds, while others use the catalog.

Three phases: names expire, in short transactions (`expiry`); the rest is marked in a snapshot,
which blocks nobody (`marking`); what was not reached is swept, a few rows in each transaction. What
others reach again since the snapshot stays: the repositories that they touched are marked again. A
document is deleted before the documents and blobs that it needs, so that every document in the
catalog is complete at each moment. After a kill, the next collection deletes the rest.

A dry run does the same on a copy of the catalog.
"""

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from airside.catalog import marking
from airside.catalog.collection_report import Collected, CollectionReport, explained
from airside.catalog.events import record_event
from airside.catalog.expiry import (
    Expired,
    Untagged,
    expire_by_rules,
    expire_peers,
    expire_unbacked,
    expired_versions,
    forget_sources,
    removed_sources,
    repositories_with_rules,
    unbacked_tags,
    untagged_pushes,
    unused_peers,
)
from airside.catalog.marking import Unreached
from airside.catalog.retention import Policy
from airside.catalog.tags import Hold, Tags
from airside.oci.digest import Digest, parse_digest

_AT_ONCE = 100
_SOURCES_AT_ONCE = 5
"""Archives forgotten in one transaction: each may have many names."""
_GIVE_WAY_SECONDS = 0.001
"""Pause between two transactions, in which a thread that waits for the lock gets it."""

Transaction = Callable[[], AbstractContextManager[sqlite3.Connection]]
Condemn = Callable[[Collection[Digest]], Collection[Digest]]
"""Announces the digests that are about to be deleted: clients are told that these are absent.

Returns those leased to a client lately, which stay. An empty collection ends the announcement.
"""

T = TypeVar("T")


@dataclass(slots=True)
class GarbageCollection:
    """One garbage collection. `changed` counts a change of the catalog, within a transaction."""

    policy: Policy
    transaction: Transaction
    snapshot: Transaction
    changed: Callable[[sqlite3.Connection], None]
    hold: Hold
    recent: Collection[Digest] = ()
    condemn: Condemn = lambda _digests: ()
    _expired: list[Expired] = field(default_factory=list)
    _untagged: list[Untagged] = field(default_factory=list)

    def run(self) -> CollectionReport:
        """Collects. Returns what was deleted, and why."""
        self._expire()
        with self.transaction() as db:
            marking.watch_touched(db)
        try:
            items, gone = self._mark()
            kept = self._sweep(gone)
        finally:
            self.condemn(())
            with self.transaction() as db:
                marking.unwatch_touched(db)
        return CollectionReport(tuple(_without(items, kept)))

    # phase 1: names expire

    def _expire(self) -> None:
        with self.snapshot() as db:
            unbacked = unbacked_tags(db, self.policy)
            removed = removed_sources(db, self.policy)
            ruled = repositories_with_rules(db, self.policy)
            unused = unused_peers(db, self.policy)
        self._change(expire_unbacked, unbacked)
        self._change(forget_sources, removed, at_once=_SOURCES_AT_ONCE)
        self._change(expire_by_rules, ruled)
        self._change(expire_peers, unused)
        with self.snapshot() as db:
            versions = list(expired_versions(db, self.policy))
        self._change(_drop_versions, versions)

    def _change(
        self,
        expire: Callable[[Tags, Policy, Sequence[T]], list[Expired]],
        rows: Sequence[T],
        at_once: int = _AT_ONCE,
    ) -> None:
        """Expires the names of these rows, a few in each transaction, which reads them again."""
        for some in _batches(rows, at_once):
            with self.transaction() as db:
                found = expire(Tags(db, self.policy.now, self.hold), self.policy, some)
                if found:
                    self.changed(db)
            self._expired += found
            time.sleep(_GIVE_WAY_SECONDS)

    # phase 2: mark

    def _mark(self) -> tuple[list[Collected], Unreached]:
        with self.snapshot() as db:
            untagged = untagged_pushes(db, self.policy)
            marking.prepare(db, untagged=untagged, asked=list(map(str, self.recent)))
            marking.mark_all(db, self.policy.pushed_since)
            self._untagged = [
                one
                for one in untagged
                if not marking.is_reached(db, one.repository_id, one.expired.digest)
            ]
            gone = marking.unreached(db, self.policy.pushed_since)
            expired = [*self._expired, *(one.expired for one in self._untagged)]
            return list(explained(db, expired, gone.blobs)), gone

    # phase 3: sweep

    def _sweep(self, gone: Unreached) -> set[str]:
        """Deletes what was not reached, except what is reached again.

        Returns the digests that stay.
        """
        late = set(map(str, self.condemn([parse_digest(digest) for digest in gone.digests])))
        with self.transaction() as db:
            asked = {*map(str, self.recent), *late}
            marking.prepare(db, untagged=self._untagged, asked=asked)
            db.executemany(
                "INSERT INTO touched SELECT repository_id FROM repository_blob WHERE digest = ?",
                [(digest,) for digest in late],
            )
        for pushes in _batches(gone.pushes):
            with self._sweeping(changes=True) as db:
                db.executemany("DELETE FROM source WHERE id = ? AND changed_at = ?", pushes)
        kept: set[str] = set()
        for digests in _batches(gone.digests):
            with self._sweeping(changes=True) as db:
                kept |= marking.reached_of(db, digests)
                going = [(digest,) for digest in digests if digest not in kept]
                for table in ("repository_blob", "document", "blob"):
                    db.executemany(f"DELETE FROM {table} WHERE digest = ?", going)  # noqa: S608
        unlinked = set(gone.digests)
        for links in _batches([link for link in gone.links if link[1] not in unlinked]):
            with self._sweeping(changes=True) as db:
                db.executemany(_LINK, links)
        self._finish(gone, len(gone.blobs - kept))
        return kept

    def _finish(self, gone: Unreached, blobs: int) -> None:
        while self._forget_pushed():
            pass
        for repositories in _batches(gone.repositories):
            with self._sweeping() as db:
                db.executemany(_REPOSITORY, [(number,) for number in repositories])
        if blobs:
            with self.transaction() as db:
                detail = json.dumps({"blobs": blobs})
                record_event(db, self.policy.now, "collected", detail=detail)
                self.changed(db)

    def _forget_pushed(self) -> bool:
        """Deletes push records past their grace time. Returns True if there may be more."""
        with self._sweeping() as db:
            found = db.execute(_PUSHED, (self.policy.pushed_since, 10 * _AT_ONCE))
            return found.rowcount == 10 * _AT_ONCE

    @contextlib.contextmanager
    def _sweeping(self, *, changes: bool = False) -> Iterator[sqlite3.Connection]:
        """Opens a transaction in which `reached` includes what others reached since the mark."""
        with self.transaction() as db:
            touched = marking.take_touched(db)
            if touched:
                marking.mark_again(db, self.policy.pushed_since, touched)
            yield db
            if changes:
                self.changed(db)
        time.sleep(_GIVE_WAY_SECONDS)


def collect_copy(
    db: sqlite3.Connection, policy: Policy, recent: Collection[Digest]
) -> CollectionReport:
    """Reports what a collection would delete, by running it on a copy of the catalog."""

    @contextlib.contextmanager
    def transaction() -> Iterator[sqlite3.Connection]:
        yield db

    unnoticed: Callable[[object], None] = lambda _: None  # noqa: E731
    return GarbageCollection(policy, transaction, transaction, unnoticed, unnoticed, recent).run()


_LINK = (
    "DELETE FROM repository_blob AS b WHERE repository_id = ? AND digest = ? AND NOT EXISTS"
    " (SELECT 1 FROM reached r WHERE r.digest = b.digest AND r.repository_id = b.repository_id)"
)
_PUSHED = (
    "DELETE FROM pushed WHERE (repository_id, digest) IN"
    " (SELECT repository_id, digest FROM pushed WHERE at <= ? LIMIT ?)"
)
_REPOSITORY = (
    "DELETE FROM repository AS r WHERE id = ? AND NOT EXISTS (SELECT 1 FROM"
    " (SELECT repository_id AS id FROM tag UNION ALL SELECT repository_id FROM claim"
    " UNION ALL SELECT repository_id FROM tag_generation"
    " UNION ALL SELECT repository_id FROM repository_blob"
    " UNION ALL SELECT repository_id FROM tombstone UNION ALL SELECT repository_id FROM pushed) u"
    " WHERE u.id = r.id)"
)


def _drop_versions(tags: Tags, _: Policy, versions: Sequence[tuple[int, Expired]]) -> list[Expired]:
    ids = [(number,) for number, _ in versions]
    tags.db.executemany("DELETE FROM tag_generation WHERE id = ?", ids)
    return [expired for _, expired in versions]


def _without(items: Sequence[Collected], kept: set[str]) -> Iterator[Collected]:
    for item in items:
        blobs = tuple(blob for blob in item.blobs if str(blob) not in kept) if kept else item.blobs
        if blobs:
            yield replace(item, blobs=blobs)


def _batches(rows: Sequence[T], at_once: int = _AT_ONCE) -> Iterator[Sequence[T]]:
    return (rows[start : start + at_once] for start in range(0, len(rows), at_once))
