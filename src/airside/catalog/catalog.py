"""The catalog: which blobs the store has, which archives they came from, where each tag points.

What always holds: what one method records becomes visible and durable at once, in one transaction,
after the blobs that it lists are durable in the store. `generation` grows with each change.

Left to others: the blobs themselves, and the decision which document a tag should be
(`airside.catalog.tag_policy`). All methods are safe to call from any thread; the caller gives the
time, in seconds.
"""

import threading
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path

from airside.catalog.attempts import Attempts
from airside.catalog.claims import fill_parts
from airside.catalog.collection import Condemn, GarbageCollection, collect_copy
from airside.catalog.collection_report import CollectionReport
from airside.catalog.database import Readers, Writer
from airside.catalog.deletions import Deletions
from airside.catalog.event_log import EventLog
from airside.catalog.extent import Extent
from airside.catalog.imports import Imports
from airside.catalog.model import IndexChanges
from airside.catalog.publications import Publications
from airside.catalog.pushes import Pushes
from airside.catalog.recorded_times import NOTED_TIME, RecordedTimes, parse_noted
from airside.catalog.recovery import Recovery
from airside.catalog.retention import Policy
from airside.catalog.rollbacks import Rollbacks
from airside.catalog.sequences import reserve_sequence
from airside.catalog.source_states import SourceStates
from airside.catalog.tag_names import TagName
from airside.catalog.tags import Hold, Tags
from airside.catalog.transactions import Transactions
from airside.catalog.unknown_blobs import UnknownBlobs
from airside.catalog.upstream_cache import UpstreamCache
from airside.catalog.verification import Verification
from airside.catalog.view import CatalogView
from airside.core.listeners import Listeners
from airside.oci.digest import Digest


class Catalog(CatalogView):
    """The writing side of the catalog; `CatalogView` reads.

    Each attribute records one kind of thing.

    `hold` makes a merged index durable in the store before the transaction that records it ends.
    """

    def __init__(self, path: Path, hold: Hold) -> None:
        self._hold = hold
        self.changes = Listeners()
        """Notified after each commit that changed the generation, in the thread that made it."""
        self._collecting = threading.Lock()
        self._writer = Writer(path)
        self._fill_parts()
        self._keep_sequence()
        self._writer.watch_changes()
        super().__init__(Readers(path))
        self._transactions = Transactions(self._writer, super().generation, self.changes)
        self.source_states = SourceStates(self._transactions, hold)
        self.imports = Imports(self._transactions, hold)
        self.pushes = Pushes(self._transactions, hold)
        self.deletions = Deletions(self._transactions, hold)
        self.rollbacks = Rollbacks(self._transactions, hold)
        self.recovery = Recovery(self._transactions, hold)
        self.verification = Verification(self._writer, self._transactions)
        self.upstream_cache = UpstreamCache(self._transactions, self._readers)
        self.attempts = Attempts(self._transactions, self._readers)
        self.extent = Extent(self._readers)
        self.event_log = EventLog(self._writer, self._readers)
        self.publications = Publications(self._writer)
        self.unknown = UnknownBlobs(self._transactions)
        self.times = RecordedTimes(self._transactions)

    @property
    def generation(self) -> int:
        return self._transactions.generation

    @property
    def lost_commits(self) -> int:
        """Transactions that an earlier process committed and that the file lacks."""
        return self._writer.lost_commits

    def take_loss(self) -> None:
        """Counts on from the file's own number: the caller has noted the loss durably."""
        self._writer.take_loss()

    @property
    def noted_time(self) -> float | None:
        """The believed time that the last process noted, in seconds."""
        return parse_noted(self.meta(NOTED_TIME))

    def size_bytes(self) -> int:
        """Returns the bytes of the catalog's file. Raises StoreError."""
        [row] = self._readers.rows("SELECT * FROM pragma_page_count, pragma_page_size")
        return int(row[0]) * int(row[1])

    def copy_to(self, path: Path) -> None:
        """Writes a copy of the catalog to a new file. Others go on. Raises StoreError."""
        self._readers.copy_to(path)

    def close(self) -> None:
        super().close()
        self._writer.close()

    def _fill_parts(self) -> None:
        with self._writer.transaction("record parts") as db:
            if db.execute("SELECT 1 FROM meta WHERE key = 'parts'").fetchone() is None:
                fill_parts(db)
                db.execute("INSERT INTO meta VALUES ('parts', '1')")

    def _keep_sequence(self) -> None:
        """Reserves the numbers in use, also those of sources that an earlier version restored."""
        with self._writer.transaction("look for the highest number") as db:
            highest = db.execute("SELECT max(sequence) FROM source").fetchone()[0] or 0
            reserve_sequence(db, highest)

    def index_changes(self, *, everything: bool) -> IndexChanges:
        """Returns what changed for `index.json` since the last call, or everything.

        Takes the write lock.
        """
        with self._writer.lock:
            changed = self._writer.take_changes()
            return IndexChanges(
                self.generation,
                changed,
                self.index_entries(None if everything else changed),
                self.index_archives(),
                self.index_deleted(),
            )

    def settle_tags(self, now: float) -> None:
        """Decides every tag once: a catalog of version 1 gave each tag to the newest archive."""
        if self.meta("settled") is not None:
            return
        with self._transactions.begin("decide all tags") as db:
            tags = Tags(db, now, self._hold)
            for row in db.execute("SELECT repository_id, name FROM tag").fetchall():
                tags.settle(TagName(row["repository_id"], row["name"]), "keep")
            db.execute("INSERT INTO meta VALUES ('settled', '1')")
            self._transactions.count_change(db)

    def set_meta(self, values: Mapping[str, str]) -> None:
        with self._writer.transaction("set meta") as db:
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(values.items()))

    def collect(
        self,
        policy: Policy,
        *,
        recent: Collection[Digest] = (),
        condemn: Condemn = lambda _digests: (),
        dry_run: bool = False,
    ) -> CollectionReport:
        """Deletes the records that nothing holds.

        Returns what was deleted, why, and the blobs to delete.

        First the tags, versions and parts that retention no longer holds lose their names.
        `catalog.marking` says what the roots are; the digests of `recent` are roots too, since
        clients asked about them. `dry_run`: only reports. One collection runs at a time.
        """
        if dry_run:
            with self._readers.copy() as copy:
                return collect_copy(copy, policy, recent)
        with self._collecting:
            return GarbageCollection(
                policy,
                partial(self._transactions.begin, "collect garbage"),
                self._readers.snapshot,
                self._transactions.count_change,
                self._hold,
                recent,
                condemn,
            ).run()
