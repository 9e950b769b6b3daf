"""The catalog in pages, for those who look at a part of it: the web page. Thread-safe."""

from collections.abc import Collection

from airside.catalog.database import Readers
from airside.catalog.images import ImagePage, list_image_page
from airside.catalog.model import EventRow, ImageRow
from airside.catalog.publications import PublicationRow, list_publications_of
from airside.catalog.sources import ArchiveSearch, FoundArchive, find_archives
from airside.catalog.storage_use import StorageUse, read_storage_use


class Listing:
    """Reads pages. As thread-safe as the readers. Raises StoreError."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    def images(self, page: ImagePage) -> tuple[int, list[ImageRow]]:
        """Returns how many names fit, and those of a page, in the order of `images`."""
        return list_image_page(self._readers, page)

    def archives(self, search: ArchiveSearch) -> tuple[int, list[FoundArchive]]:
        """Returns how many archives and lists fit, and those of a page, the last changed first."""
        return find_archives(self._readers, search)

    def published_as(self, references: Collection[str]) -> list[PublicationRow]:
        """Returns the states of these tags in all runtimes."""
        return list_publications_of(self._readers, references)

    def storage_use(self, limit: int) -> StorageUse:
        """Returns what the repositories use, those with the most bytes of their own first."""
        return read_storage_use(self._readers, limit)

    def events_before(self, before: int, limit: int) -> list[EventRow]:
        """Returns the newest events with a number below `before` (0: any), newest first."""
        rows = self._readers.rows(
            "SELECT * FROM event WHERE ?1 = 0 OR id < ?1 ORDER BY id DESC LIMIT ?2", before, limit
        )
        return [EventRow(**dict(r)) for r in rows]
