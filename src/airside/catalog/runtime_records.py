"""Records of one container runtime in the catalog, kept across restarts."""

import json
from collections.abc import Iterable, Mapping

from airside.catalog.catalog import Catalog
from airside.catalog.publications import UNSYNCED


class RuntimeIntents:
    """The intents of one runtime (`airside.containerd.intents.Intents`)."""

    def __init__(self, catalog: "Catalog", runtime: str) -> None:
        self._catalog, self._runtime = catalog, runtime

    def record(self, targets: Mapping[str, str]) -> None:
        self._catalog.publications.record_intents(self._runtime, targets)

    def clear(self, targets: Iterable[str]) -> None:
        self._catalog.publications.clear_intents(self._runtime, targets)

    def left(self) -> list[tuple[str, str]]:
        return self._catalog.intents(self._runtime)


class RuntimePendingSync:
    """The layers that one runtime unpacked and did not sync yet.

    Implements `airside.containerd.pending_sync.Record`.
    """

    def __init__(self, catalog: "Catalog", runtime: str) -> None:
        self._catalog, self._key = catalog, f"{UNSYNCED}{runtime}"

    def load(self) -> dict[str, str]:
        return dict(json.loads(self._catalog.meta(self._key) or "{}"))

    def save(self, chains: Mapping[str, str]) -> None:
        self._catalog.set_meta({self._key: json.dumps(chains)})
