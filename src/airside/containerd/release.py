"""Releases the names in a runtime that another catalog published and no tag of ours asks for.

What a container uses stays. A sandbox image stays too, unless it is named and not the one in use.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from airside.catalog.catalog import Catalog
from airside.containerd.desired_state import naming_of
from airside.containerd.foreign_names import ForeignNames
from airside.containerd.publication_rows import names_of
from airside.containerd.sandbox_image import is_sandbox_name
from airside.core.settings import Settings
from airside.oci.digest import is_digest, parse_digest
from airside.oci.reference import Repository
from airside.ports.content import Runtime
from airside.ports.publication import NamedImage


@dataclass(frozen=True, slots=True)
class ReleasedName:
    """A foreign name, and what became of it: `released`, `used`, `sandbox`, or `absent`."""

    name: str
    state: str
    digest: str = ""
    agent: str = ""


class Release:
    """Releases the foreign names of one runtime."""

    def __init__(
        self, socket: str, catalog: Catalog, settings: Settings, clock: Callable[[], float]
    ) -> None:
        self._socket, self._catalog, self._clock = socket, catalog, clock
        self._naming = naming_of(settings)
        self._foreign = ForeignNames(socket, catalog, clock)

    def run(
        self, runtime: Runtime, only: Sequence[str] = (), *, dry_run: bool = False
    ) -> list[ReleasedName]:
        """Deletes the foreign names, of `only` if it names some, with images that lose all names.

        Raises ContainerdError, StoreError.
        """
        actual = runtime.images()
        rows = self._catalog.published(self._socket)
        recorded = {name for row in rows for name in names_of(row)}
        found = self._foreign.split(actual.values(), self._wanted() | recorded, recorded).foreign
        chosen = [name for name in found if not only or name in only]
        used = runtime.wanted()
        items = [self._judged(actual, name, used, is_named=bool(only)) for name in chosen]
        items += [ReleasedName(name, "absent") for name in only if name not in chosen]
        gone = [item.name for item in items if item.state == "released"]
        if not gone or dry_run:
            return items
        targets = {actual[name].target for name in gone}
        ids = [n for n, image in actual.items() if is_digest(n) and image.target in targets]
        kept = runtime.withdraw(gone, ids)
        items = [
            ReleasedName(i.name, "used", i.digest, i.agent) if i.name in kept else i for i in items
        ]
        self._record(actual, found, items)
        return items

    def _wanted(self) -> set[str]:
        """Returns the names that our tags and held digests ask for."""
        tags = [*self._catalog.tag_states(), *self._catalog.held_digests()]
        return {
            name
            for tag in tags
            for name in self._naming.names(
                Repository(tag.host, tag.path), tag.tag, parse_digest(tag.digest)
            )
        }

    def _judged(
        self, actual: dict[str, NamedImage], name: str, used: frozenset[str], *, is_named: bool
    ) -> ReleasedName:
        image = actual[name]
        ids = {n for n, other in actual.items() if is_digest(n) and other.target == image.target}
        state = "released"
        if name in used or ids & used:
            state = "used"
        elif is_sandbox_name(name) and not is_named:
            state = "sandbox"
        return ReleasedName(name, state, str(image.target), image.agent)

    def _record(
        self, actual: dict[str, NamedImage], found: list[str], items: list[ReleasedName]
    ) -> None:
        gone = {item.name for item in items if item.state == "released"}
        left = {name: actual[name].agent for name in found if name not in gone}
        now = self._clock()
        self._catalog.publications.record_foreign(self._socket, left, now)
        self._catalog.publications.record_released(self._socket, sorted(gone), now)
