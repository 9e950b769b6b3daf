"""The names in a runtime that another catalog published, and what becomes of them (ADR 0031).

A name is ours if it carries our identity. A name of an earlier version carries none: it is ours if
we recorded it. Every other name of an Airside is foreign: it is never withdrawn unless the setting
`foreign_names` says so. It becomes ours when a tag of ours asks for it, since publishing proves its
content and labels it.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from airside.catalog.catalog import Catalog
from airside.catalog.identity import identity_of
from airside.ports.publication import NamedImage

log = logging.getLogger("airside.publish")


@dataclass(frozen=True, slots=True)
class FoundNames:
    """The names of Airside in a runtime that no tag of ours asks for."""

    stale: list[str]
    """Those that we published: to be withdrawn."""
    foreign: list[str]
    """Those that another catalog published."""


class ForeignNames:
    """The foreign names of one runtime. Used by one thread at a time."""

    def __init__(self, runtime: str, catalog: Catalog, clock: Callable[[], float]) -> None:
        self._runtime, self._catalog, self._clock = runtime, catalog, clock

    def split(
        self, actual: Iterable[NamedImage], wanted: Collection[str], recorded: Collection[str]
    ) -> FoundNames:
        """Returns what no tag asks for. `recorded`: the names that our rows have."""
        identity = identity_of(self._catalog)
        unwanted = [n for n in actual if n.is_of_airside and n.name not in wanted]
        stale = [n.name for n in unwanted if _is_ours(n, identity, recorded)]
        return FoundNames(stale, sorted({n.name for n in unwanted}.difference(stale)))

    def record(self, found: FoundNames, actual: Mapping[str, NamedImage]) -> None:
        """Records the foreign names; a change is logged and an event."""
        names = {name: actual[name].agent for name in found.foreign}
        if self._catalog.publications.record_foreign(self._runtime, names, self._clock()):
            agents = ", ".join(sorted(filter(None, set(names.values())))) or "an earlier version"
            log.warning(
                "%s: %d names were published by another Airside (%s) and are kept: drop their "
                "archives here to take them over, or delete them with airside runtime release",
                self._runtime,
                len(names),
                agents,
            )


def _is_ours(image: NamedImage, identity: str, recorded: Collection[str]) -> bool:
    return image.agent == identity if image.agent else image.name in recorded
