"""Numbers that are read when somebody asks: of the catalog, of the disk, of the running services.

`catalog_numbers` and `space_numbers` block; `live_numbers` is for the event loop's thread.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from airside.catalog.verification import LAST_PASS
from airside.catalog.view import CatalogView
from airside.store.gc import Space
from airside.store.lost_records import LOST_RECORDS
from airside.store.scrub_results import parse_pass
from airside.telemetry.meters import Numbers
from airside.telemetry.tallies import Labels
from airside.telemetry.vocabulary import PUBLICATIONS, STATES, word

PROBLEMS = (
    *("rejected", "partial", "failed", "unreadable", "incomplete", "unpublished", "blob_lost"),
    *("blob_quarantined", "records_lost", "low_space", "runtime_away", "directory_away"),
    "fallback_server_down",
)
"""The kinds of problems."""
_TROUBLED = ("rejected", "partial", "failed", "unreadable", "incomplete")
STAGES = ("settling", "queued", "importing", "waiting")


@dataclass(frozen=True, slots=True)
class RuntimeUp:
    """A container runtime by its socket."""

    socket: str
    is_up: bool
    layers: Mapping[str, int] = field(default_factory=dict)
    """The number of layers unpacked since the connection, by who did it."""


@dataclass(frozen=True, slots=True)
class DirectoryUp:
    """A watched directory."""

    path: str
    is_up: bool
    archives: int


@dataclass(frozen=True, slots=True)
class Live:
    """What only the running services know."""

    stages: Mapping[str, int]
    """Archives by stage of the queue."""
    oldest_import_seconds: float
    runtimes: tuple[RuntimeUp, ...]
    directories: tuple[DirectoryUp, ...]
    connections: int
    connections_refused: int
    fallback_up: bool | None
    """None: none is wanted."""


def one(value: float) -> dict[Labels, float]:
    """Returns the values of a metric without labels."""
    return {(): value}


def catalog_numbers(view: CatalogView) -> dict[str, dict[Labels, float]]:
    """Returns the numbers of the catalog. Blocking. Raises StoreError."""
    counts, unpublished = view.counts(), len(view.unpublished())
    states: Counter[str] = Counter()
    for state, count in view.states().items():
        states[word(state, STATES)] += count
    bad = counts["blobs_quarantined"], counts["blobs_lost"]
    numbers: dict[str, dict[Labels, float]] = {
        "airside_images": one(counts["images"]),
        "airside_repositories": one(counts["repositories"]),
        "airside_blobs": {
            ("held",): counts["blobs"] - sum(bad),
            ("quarantined",): bad[0],
            ("lost",): bad[1],
            ("unknown",): counts["blobs_unknown"],
        },
        "airside_store_bytes": one(counts["blob_bytes"] + counts["unknown_bytes"]),
        "airside_archives": {
            (state,): states[state]
            for state in dict.fromkeys([*STATES, *states])
            if state != "removed"
        },
        "airside_unpublished_images": one(unpublished),
        "airside_runtime_images": _by_runtime(view.publication_counts()),
        "airside_problems": {
            **{(state,): states[state] for state in _TROUBLED},
            ("unpublished",): unpublished,
            ("blob_quarantined",): bad[0],
            ("blob_lost",): bad[1],
            ("records_lost",): int(bool(view.meta(LOST_RECORDS))),
        },
    }
    return {**numbers, **_scrub_numbers(view)}


def _by_runtime(counts: Mapping[str, Mapping[str, int]]) -> dict[Labels, float]:
    found: Counter[Labels] = Counter()
    for runtime, states in counts.items():
        for state, count in states.items():
            found[runtime, word(state, PUBLICATIONS)] += count
    return dict(found)


def _scrub_numbers(view: CatalogView) -> dict[str, dict[Labels, float]]:
    last, oldest = parse_pass(view.meta(LAST_PASS)), view.oldest_verified()
    found: dict[str, dict[Labels, float]] = {}
    if last is not None and last.ended_at:
        found["airside_scrub_last_success_timestamp_seconds"] = one(last.ended_at)
    if oldest is not None:
        found["airside_scrub_oldest_verified_timestamp_seconds"] = one(oldest)
    return found


def space_numbers(space: Space) -> dict[str, dict[Labels, float]]:
    """Returns the numbers of the store's file system."""
    return {
        "airside_filesystem_free_bytes": one(space.free_bytes),
        "airside_filesystem_size_bytes": one(space.total_bytes),
        "airside_filesystem_min_free_bytes": one(space.min_free_bytes),
        "airside_filesystem_wanted_free_bytes": one(space.wanted_bytes),
        "airside_problems": {("low_space",): int(space.low)},
    }


def live_numbers(live: Live) -> dict[str, dict[Labels, float]]:
    """Returns the numbers of the running services."""
    found: dict[str, dict[Labels, float]] = {
        "airside_import_queue_archives": {(s,): live.stages.get(s, 0) for s in STAGES},
        "airside_import_running_age_seconds": one(live.oldest_import_seconds),
        "airside_runtime_up": {(r.socket,): int(r.is_up) for r in live.runtimes},
        "airside_runtime_layers": {
            (r.socket, by): count for r in live.runtimes for by, count in r.layers.items()
        },
        "airside_watched_directory_up": {(d.path,): int(d.is_up) for d in live.directories},
        "airside_watched_directory_archives": {(d.path,): d.archives for d in live.directories},
        "airside_registry_connections": one(live.connections),
        "airside_registry_connections_refused_total": one(live.connections_refused),
        "airside_problems": {
            ("runtime_away",): sum(not each.is_up for each in live.runtimes),
            ("directory_away",): sum(not each.is_up for each in live.directories),
            ("fallback_server_down",): int(live.fallback_up is False),
        },
    }
    if live.fallback_up is not None:
        found["airside_fallback_server_up"] = one(int(live.fallback_up))
    return found


def joined(parts: Iterable[Numbers]) -> Numbers:
    """Returns all numbers; the values of a metric may come from several parts."""
    found: dict[str, dict[Labels, object]] = {}
    for part in parts:
        for name, values in part.items():
            found.setdefault(name, {}).update(values)
    return found  # type: ignore[return-value] # of the same values
