"""Queries of the catalog: for the registry, the command line and the importer.

`open_view` serves another process (the command line without an agent). Reads never wait for writers
(WAL). Implements `airside.ports.content.RegistryView`.
"""

import json
from collections.abc import Collection, Iterable
from pathlib import Path

from airside.catalog.database import Readers, newer_version
from airside.catalog.expiry import ages
from airside.catalog.held_digests import Holder, list_held_digests, list_holders
from airside.catalog.images import (
    list_generations,
    list_images,
    list_index_entries,
)
from airside.catalog.listing import Listing
from airside.catalog.lookup import Lookup
from airside.catalog.model import (
    JUDGED,
    EventRow,
    Generation,
    ImageRow,
    IndexEntry,
    ListRow,
    SourceRow,
)
from airside.catalog.publications import (
    PublicationRow,
    count_publications,
    list_intents,
    list_publications,
    list_unpublished,
)
from airside.catalog.referrers import list_referrers
from airside.catalog.schema import VERSION
from airside.catalog.sources import SourcePage, list_sources
from airside.catalog.tag_states import TagState, list_tags
from airside.catalog.unknown_blobs import list_explained, list_unknown
from airside.catalog.verification import (
    BadBlob,
    BlobSource,
    count_unread,
    list_bad,
    list_sources_of,
    list_unverified,
    oldest_verified,
    unverified_bytes,
)
from airside.core.errors import StoreCorruptError, StoreError
from airside.oci.digest import Digest, digest_of, parse_digest
from airside.oci.reference import Repository
from airside.ports.content import ReferrersPage, StoredDocument

_COUNTS = (
    "SELECT (SELECT count(*) FROM tag) AS images, (SELECT count(*) FROM blob) AS blobs,"
    " (SELECT coalesce(sum(size_bytes), 0) FROM blob) AS blob_bytes,"
    " (SELECT count(*) FROM blob WHERE state = 'quarantined') AS blobs_quarantined,"
    " (SELECT count(*) FROM blob WHERE state = 'lost') AS blobs_lost,"
    " (SELECT count(*) FROM unknown_blob WHERE digest NOT IN"
    "  (SELECT digest FROM blob)) AS blobs_unknown,"
    " (SELECT coalesce(sum(size_bytes), 0) FROM unknown_blob WHERE digest NOT IN"
    "  (SELECT digest FROM blob)) AS unknown_bytes,"
    " (SELECT count(*) FROM repository) AS repositories,"
    " (SELECT count(*) FROM tag WHERE unbacked_since IS NOT NULL) AS unbacked"
)


class CatalogView:
    """The reading side of the catalog. Thread-safe; raises StoreError."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    def close(self) -> None:
        self._readers.close()

    @property
    def lookup(self) -> Lookup:
        """Lookups of one thing, for `airside explain`."""
        return Lookup(self._readers)

    @property
    def listing(self) -> Listing:
        """The same in pages."""
        return Listing(self._readers)

    @property
    def generation(self) -> int:
        return int(self.meta("generation") or 0)

    def meta(self, key: str) -> str | None:
        rows = self._readers.rows("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0]["value"]) if rows else None

    # for the registry

    def repositories(self) -> list[Repository]:
        rows = self._readers.rows(
            "SELECT host, path FROM repository r WHERE EXISTS"
            " (SELECT 1 FROM repository_blob b WHERE b.repository_id = r.id)"
        )
        return sorted(Repository(r["host"], r["path"]) for r in rows)

    def repositories_at(self, path: str) -> list[Repository]:
        rows = self._readers.rows(
            "SELECT host, path FROM repository r WHERE path = ? AND EXISTS"
            " (SELECT 1 FROM repository_blob b WHERE b.repository_id = r.id) ORDER BY host",
            path,
        )
        return [Repository(r["host"], r["path"]) for r in rows]

    def tags(self, repository: Repository) -> list[str]:
        rows = self._readers.rows(
            "SELECT t.name FROM tag t JOIN repository r ON r.id = t.repository_id"
            " WHERE r.host = ? AND r.path = ? ORDER BY t.name",
            repository.host,
            repository.path,
        )
        return [r["name"] for r in rows]

    def document_by_tag(self, repository: Repository, tag: str) -> StoredDocument | None:
        return self._document(
            "SELECT d.* FROM tag t JOIN repository r ON r.id = t.repository_id"
            " JOIN document d ON d.digest = t.digest"
            " WHERE r.host = ? AND r.path = ? AND t.name = ?",
            (repository.host, repository.path, tag),
        )

    def document_by_digest(self, repository: Repository, digest: Digest) -> StoredDocument | None:
        return self._document(
            "SELECT d.* FROM repository_blob b JOIN repository r ON r.id = b.repository_id"
            " JOIN document d ON d.digest = b.digest"
            " WHERE r.host = ? AND r.path = ? AND b.digest = ?",
            (repository.host, repository.path, str(digest)),
        )

    def _document(self, sql: str, values: tuple[str, ...]) -> StoredDocument | None:
        rows = self._readers.rows(sql, *values)
        if not rows:
            return None
        digest, raw = parse_digest(rows[0]["digest"]), rows[0]["raw"]
        if digest_of(raw, digest.algorithm) != digest:
            raise StoreCorruptError(
                f"the catalog's copy of document {digest} is damaged: not served, repairing it",
                blob=digest,
            )
        return StoredDocument(digest, rows[0]["media_type"], raw)

    def blob_size(self, digest: Digest) -> int | None:
        """Returns the bytes that a held blob has by its record; None if none is held."""
        rows = self._readers.rows(
            "SELECT size_bytes FROM blob WHERE digest = ? AND state = 'held'", str(digest)
        )
        return rows[0]["size_bytes"] if rows else None

    def holds_blob(self, repository: Repository, digest: Digest) -> bool:
        return bool(
            self._readers.rows(
                "SELECT 1 FROM repository_blob b JOIN repository r ON r.id = b.repository_id"
                " WHERE r.host = ? AND r.path = ? AND b.digest = ?",
                repository.host,
                repository.path,
                str(digest),
            )
        )

    def referrers(self, repository: Repository, subject: Digest, after: str = "") -> ReferrersPage:
        return list_referrers(self._readers, repository, subject, after)

    def any_quarantined(self, digests: Collection[Digest]) -> bool:
        rows = self._readers.rows(
            "SELECT 1 FROM blob WHERE state = 'quarantined'"
            " AND digest IN (SELECT value FROM json_each(?)) LIMIT 1",
            json.dumps(list(map(str, digests))),
        )
        return bool(rows)

    # for people and the importer

    def known(self) -> dict[str, str]:
        """Returns path → stat key of the archives and lists that are not removed.

        The key is empty if the bytes were not judged yet: such an archive is imported again.
        """
        rows = self._readers.rows(
            "SELECT path, CASE WHEN kind = 'list' AND state = 'partial' THEN '' ELSE stat_key END"
            " AS stat_key, state FROM source WHERE kind IN ('archive', 'list')"
            " AND state != 'removed'"
        )
        return {r["path"]: r["stat_key"] if r["state"] in JUDGED else "" for r in rows}

    def lists(self) -> list[ListRow]:
        """Returns the watched lists that were read and not refused, by path."""
        rows = self._readers.rows(
            "SELECT id, path, state FROM source WHERE kind = 'list'"
            " AND state IN ('imported', 'partial', 'waiting', 'failed') ORDER BY path"
        )
        return [ListRow(r["id"], r["path"], r["state"], self.pulled(r["id"])) for r in rows]

    def pulled(self, source_id: int) -> frozenset[tuple[str, str]]:
        """Returns (name, runtime) of the images pulled of a list since its file last changed."""
        rows = self._readers.rows(
            "SELECT image, blob FROM problem WHERE source_id = ? AND reason = ''", source_id
        )
        return frozenset((r["image"], r["blob"]) for r in rows)

    def document(self, digest: Digest) -> bytes | None:
        rows = self._readers.rows("SELECT raw FROM document WHERE digest = ?", str(digest))
        return rows[0]["raw"] if rows else None

    def blobs(self) -> dict[Digest, int]:
        """Returns the held blobs with their sizes in bytes."""
        rows = self._readers.rows("SELECT digest, size_bytes FROM blob WHERE state = 'held'")
        return {Digest(*r["digest"].split(":", 1)): r["size_bytes"] for r in rows}

    def unverified_blobs(self, since: float, until: float, limit: int) -> list[tuple[Digest, int]]:
        """Returns (digest, bytes) of held blobs not verified between these times, oldest first."""
        return list_unverified(self._readers, since, until, limit)

    def unverified_bytes(self, since: float, until: float) -> int:
        """Returns the bytes of the held blobs not verified between these times."""
        return unverified_bytes(self._readers, since, until)

    def oldest_verified(self) -> float | None:
        """Returns the time of the least recent verification of a held blob; None without blobs."""
        return oldest_verified(self._readers)

    def bad_blobs(self) -> list[BadBlob]:
        """Returns the blobs that are quarantined or lost."""
        return list_bad(self._readers)

    def unread_of(self, source_ids: Collection[int]) -> int:
        """Returns the number of these archives that are queued or being imported."""
        return count_unread(self._readers, source_ids)

    def known_blobs(self, *, among: Collection[Digest] | None = None) -> set[Digest]:
        """Returns every blob in the catalog, in any state; with `among`, only those of these.

        Unknown blobs, which are kept, are among them.
        """
        only = " WHERE digest IN (SELECT value FROM json_each(?1))" if among is not None else ""
        values = [json.dumps(list(map(str, among)))] if among is not None else []
        rows = self._readers.rows(
            f"SELECT digest FROM blob{only} UNION ALL SELECT digest FROM unknown_blob{only}",  # noqa: S608
            *values,
        )
        return {Digest(*r["digest"].split(":", 1)) for r in rows}

    def unknown_blobs(self) -> dict[Digest, int]:
        """Returns the blobs without a record that are kept, with their bytes."""
        return list_unknown(self._readers)

    def explained_blobs(self, digests: Iterable[str]) -> list[str]:
        """Returns those of the digests that a document in the catalog is, or lists."""
        return list_explained(self._readers, digests)

    def sources_of_blob(self, digest: Digest) -> list[BlobSource]:
        """Returns the archives, present or imported by hand, whose images need this blob."""
        return list_sources_of(self._readers, digest)

    def sources(self, path: str | None = None, page: SourcePage | None = None) -> list[SourceRow]:
        """Returns sources with their images, notes and problems, by path; a page by id."""
        return list_sources(self._readers, path, page)

    def ages(self) -> tuple[list[float], list[float]]:
        """Returns the ages of what may expire before its time: see `expiry.ages`."""
        with self._readers.snapshot() as db:
            return ages(db)

    def unread(self) -> list[tuple[int, str]]:
        """Returns (id, path) of the sources queued because blobs of theirs are lost."""
        rows = self._readers.rows(
            "SELECT id, path FROM source WHERE state = 'queued' AND reason != '' ORDER BY path"
        )
        return [(r["id"], r["path"]) for r in rows]

    def counts(self) -> dict[str, int]:
        """Returns the numbers for `status`."""
        rows = self._readers.rows(_COUNTS)
        return dict(rows[0])

    def states(self) -> dict[str, int]:
        """Returns the number of archives in each state."""
        rows = self._readers.rows(
            "SELECT state, count(*) AS n FROM source WHERE kind NOT IN ('push', 'peer')"
            " GROUP BY state"
        )
        return {r["state"]: r["n"] for r in rows}

    def images(self) -> list[ImageRow]:
        """Returns all names that can be pulled, sorted; unnamed documents at the end."""
        return list_images(self._readers)

    def tag_states(self) -> list[TagState]:
        """Returns all current tags, for publishing."""
        return list_tags(self._readers)

    def held_digests(self) -> list[TagState]:
        """Returns the documents that are held by digest beside the tags, for publishing."""
        return list_held_digests(self._readers)

    def holders(self, repository: Repository, digest: Digest) -> list[Holder]:
        """Returns the tags, versions and sources that hold a document in its repository."""
        return list_holders(self._readers, repository, digest)

    def published(self, runtime: str | None = None) -> list[PublicationRow]:
        """Returns the states of the tags in one runtime, or in all."""
        return list_publications(self._readers, runtime)

    def unpublished(self) -> list[PublicationRow]:
        """Returns the tags that a runtime lacks though this node should run them."""
        return list_unpublished(self._readers)

    def publication_counts(self) -> dict[str, dict[str, int]]:
        """Returns for each runtime the number of tags in each state."""
        return count_publications(self._readers)

    def intents(self, runtime: str) -> list[tuple[str, str]]:
        """Returns (target, digest) of links that an interrupted publish may have left."""
        return list_intents(self._readers, runtime)

    def generations(self) -> dict[tuple[Repository, str], list[Generation]]:
        """Returns the kept versions of each tag, the current one first."""
        return list_generations(self._readers)

    def index_entries(
        self, repository_ids: Collection[int] | None = None
    ) -> dict[int, tuple[Repository, list[IndexEntry]]]:
        """Returns the entries of `index.json` by repository: of these, or of all that have any."""
        return list_index_entries(self._readers, repository_ids)

    def index_archives(self) -> dict[str, int]:
        """Returns path → sequence of the present archives, for `index.json`."""
        rows = self._readers.rows(
            "SELECT path, sequence FROM source WHERE kind = 'archive' AND state != 'removed'"
            " ORDER BY path"
        )
        return {r["path"]: r["sequence"] for r in rows}

    def index_deleted(self) -> list[tuple[str, str, str]]:
        """Returns the deleted names of archives, for `index.json`.

        Each is repository, tag (or `@digest`), path.
        """
        rows = self._readers.rows(
            "SELECT r.host, r.path AS repository, t.tag, t.source_path FROM tombstone t"
            " JOIN repository r ON r.id = t.repository_id ORDER BY 1, 2, 3, 4"
        )
        return [
            (str(Repository(r["host"], r["repository"])), r["tag"], r["source_path"]) for r in rows
        ]

    def events(self, *, after: int = 0, limit: int = 100) -> list[EventRow]:
        """Returns the newest events with a number above `after`, oldest first."""
        rows = self._readers.rows(
            "SELECT * FROM (SELECT * FROM event WHERE id > ? ORDER BY id DESC LIMIT ?) ORDER BY id",
            after,
            limit,
        )
        return [EventRow(**dict(r)) for r in rows]


def open_view(path: Path) -> CatalogView:
    """Opens the catalog of a data directory without an agent, to read it.

    Raises NotFoundError, StoreError: also for a catalog of another version, which only the agent
    may upgrade.
    """
    readers = Readers(path, writable_directory=False)
    found = int(readers.rows("PRAGMA user_version")[0][0])
    if found > VERSION:
        readers.close()
        raise newer_version(path, found)
    if 0 < found < VERSION:
        readers.close()
        raise StoreError(
            f"the catalog {path} has version {found}, this Airside reads {VERSION}",
            found=found,
            expected=VERSION,
            hint="start the agent once: it upgrades the catalog, and keeps a copy beside it",
        )
    return CatalogView(readers)
