"""Keeps true which images are unpacked: a pod's start unpacks one, a collection undoes it."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from airside.catalog.catalog import Catalog
from airside.catalog.publications import PublicationRow
from airside.containerd.publish_pass import PassState


class UnpackedImages:
    """Compares the rows of one runtime with its snapshots. Used by one thread at a time."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._generation = -1

    def compare(self, state: PassState, *, everything: bool) -> None:
        """Adds to the pass the rows whose images are unpacked, or no longer, against the record.

        A pass for a change of the catalog alone asks the runtime for no snapshots. Raises
        ContainerdError.
        """
        generation = self._catalog.generation
        is_same, self._generation = generation == self._generation, generation
        due = {desired.tag.reference for desired, _ in state.due}
        rows = {**state.rows, **{row.reference: row for row in state.found.rows}}
        asked = [row for row in rows.values() if _chain(row) and row.reference not in due]
        if asked and (everything or is_same):
            state.found.rows += _changed(asked, state.runtime.unpacked())


def _changed(rows: Iterable[PublicationRow], unpacked: frozenset[str]) -> Iterator[PublicationRow]:
    for row in rows:
        is_unpacked = _chain(row) in unpacked
        if row.state == "published" and bool(row.detail.get("unpacked")) != is_unpacked:
            yield replace(row, detail={**row.detail, "unpacked": is_unpacked})


def _chain(row: PublicationRow) -> str:
    return str(row.detail.get("chain", ""))
