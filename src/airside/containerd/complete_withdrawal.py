"""Withdraws everything that this catalog published to one runtime, when Airside is removed.

Names that a container uses stay, without our labels: kubelet may delete them again, and the pod
restarts from them. Without `apply` nothing is changed.
"""

from dataclasses import dataclass

from airside.catalog.catalog import Catalog
from airside.catalog.identity import identity_of
from airside.containerd.publication_rows import names_of
from airside.oci.digest import is_digest
from airside.ports.content import Runtime
from airside.ports.publication import AGENT_LABEL, ARCHIVES_LABEL, NamedImage


@dataclass(frozen=True, slots=True)
class WithdrawnName:
    """A name of ours: `withdrawn`, or `used` by a container."""

    name: str
    state: str
    digest: str


class CompleteWithdrawal:
    """The names of ours in the runtime of a socket."""

    def __init__(self, socket: str, catalog: Catalog) -> None:
        self._socket, self._catalog = socket, catalog

    def run(self, runtime: Runtime, *, dry_run: bool = False) -> list[WithdrawnName]:
        """Deletes our names, and images that lose all names. Raises ContainerdError, StoreError."""
        actual = runtime.images()
        ours = self._ours(actual)
        used = runtime.wanted()
        ids = {n: image.target for n, image in actual.items() if is_digest(n)}
        items = []
        for name in ours:
            target = actual[name].target
            is_used = name in used or any(i in used for i, other in ids.items() if other == target)
            items.append(WithdrawnName(name, "used" if is_used else "withdrawn", str(target)))
        if not dry_run:
            items = self._withdraw(runtime, actual, items)
        return items

    def _withdraw(
        self, runtime: Runtime, actual: dict[str, NamedImage], items: list[WithdrawnName]
    ) -> list[WithdrawnName]:
        gone = [item.name for item in items if item.state == "withdrawn"]
        targets = {actual[name].target for name in gone}
        ids = [n for n, i in actual.items() if is_digest(n) and i.target in targets]
        left = runtime.withdraw(gone, ids) if gone else frozenset()
        items = [WithdrawnName(i.name, "used", i.digest) if i.name in left else i for i in items]
        for item in items:
            if item.state == "used":
                target = actual[item.name].target
                own = next((n for n in actual if is_digest(n) and actual[n].target == target), "")
                # containerd deletes a label that is named and has no value; the pin goes by itself
                runtime.relabel({item.name: {ARCHIVES_LABEL: "", AGENT_LABEL: ""}}, own)
        self._catalog.publications.forget_runtime(self._socket)
        return items

    def _ours(self, actual: dict[str, NamedImage]) -> list[str]:
        identity = identity_of(self._catalog)
        recorded = {n for row in self._catalog.published(self._socket) for n in names_of(row)}
        return sorted(
            name
            for name, image in actual.items()
            if image.is_of_airside
            and (image.agent == identity if image.agent else name in recorded)
        )
