"""Counts the agent's work in memory: implements `airside.ports.measures.Meter`. Thread-safe.

No metric is made here, and no library loaded: `airside.telemetry.exposition` reads the numbers when
somebody asks for them.
"""

import threading
import time
from collections.abc import Callable, Mapping

from airside.ports.measures import Meter
from airside.telemetry.metrics import BY_NAME
from airside.telemetry.tallies import Distribution, Labels, Spread, Tally
from airside.telemetry.vocabulary import (
    KINDS,
    METHODS,
    NONE,
    RESULTS,
    SUCCESSES,
    WAYS,
    reason,
    status,
    word,
)

Numbers = Mapping[str, Mapping[Labels, float | Spread]]
"""Values by metric and labels."""


def _distribution(name: str, *known: Labels) -> Distribution:
    return Distribution(BY_NAME[name].buckets, known)


class Meters(Meter):
    """The counts of one process."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._tallies = {
            "airside_imports_total": Tally([("imported", NONE)]),
            "airside_import_bytes_total": Tally([()]),
            "airside_published_images_total": Tally([("published",), ("failed",)]),
            "airside_published_blobs_total": Tally((way,) for way in WAYS),
            "airside_registry_requests_total": Tally(),
            "airside_registry_sent_bytes_total": Tally([()]),
            "airside_pushes_total": Tally((kind,) for kind in KINDS),
            "airside_push_failures_total": Tally(),
            "airside_pushed_bytes_total": Tally([()]),
            "airside_pull_through_total": Tally((kind,) for kind in KINDS[:2]),
            "airside_pull_through_failures_total": Tally(),
            "airside_pull_through_bytes_total": Tally([()]),
            "airside_gc_runs_total": Tally([()]),
            "airside_gc_deleted_blobs_total": Tally([()]),
            "airside_gc_freed_bytes_total": Tally([()]),
            "airside_scrub_verified_bytes_total": Tally([()]),
            "airside_webhook_events_total": Tally(),
            "airside_webhook_failed_attempts_total": Tally(),
        }
        self._spreads = {
            "airside_import_duration_seconds": _distribution(
                "airside_import_duration_seconds", ("imported",)
            ),
            "airside_registry_request_duration_seconds": _distribution(
                "airside_registry_request_duration_seconds"
            ),
            **{
                name: _distribution(name, ())
                for name in (
                    "airside_publish_duration_seconds",
                    "airside_unpack_duration_seconds",
                    "airside_publish_lag_seconds",
                    "airside_gc_duration_seconds",
                )
            },
        }
        self._times: dict[str, dict[Labels, float]] = {}
        """Times and other values that are set, not added to."""
        self._lock = threading.Lock()

    def _add(self, name: str, labels: Labels = (), amount: float = 1) -> None:
        self._tallies[f"airside_{name}_total"].add(labels, amount)

    def _spread(self, name: str, value: float, labels: Labels = ()) -> None:
        self._spreads[f"airside_{name}_seconds"].add(value, labels)

    def _now(self, name: str, labels: Labels = ()) -> None:
        with self._lock:
            times = self._times.setdefault(f"airside_{name}_last_success_timestamp_seconds", {})
            times[labels] = self._wall()

    def read(self) -> Numbers:
        """Returns a copy of all numbers."""
        with self._lock:
            times = {name: dict(found) for name, found in self._times.items()}
        return {
            **{name: tally.read() for name, tally in self._tallies.items()},
            **{name: spread.read() for name, spread in self._spreads.items()},
            **times,
        }

    # what the rooms count

    def finished(
        self, work: str, seconds: float, attributes: Mapping[str, str | int], error: str = ""
    ) -> None:
        """Nothing is traced: see `airside.telemetry.tracing`."""

    def imported(self, state: str, code: str, size_bytes: int, seconds: float) -> None:
        result = word(state, RESULTS)
        self._add("imports", (result, reason(code)))
        self._add("import_bytes", (), size_bytes)
        self._spread("import_duration", seconds, (result,))
        if state in SUCCESSES:
            self._now("import")

    def published(
        self,
        ways: Mapping[str, int],
        seconds: float,
        *,
        unpack_seconds: float = 0.0,
        lag_seconds: float | None = None,
    ) -> None:
        self._add("published_images", ("published",))
        for way, count in ways.items():
            self._add("published_blobs", (word(way, WAYS),), count)
        self._spread("publish_duration", seconds)
        if unpack_seconds:
            self._spread("unpack_duration", unpack_seconds)
        if lag_seconds is not None:
            self._spread("publish_lag", max(lag_seconds, 0.0))

    def publish_failed(self) -> None:
        self._add("published_images", ("failed",))

    def passed(self, runtime: str) -> None:
        self._now("publish", (runtime,))

    def requested(self, method: str, route: str, status_code: int, seconds: float) -> None:
        self._add("registry_requests", (word(method, METHODS), route, status(status_code)))
        self._spread("registry_request_duration", seconds, (route,))

    def sent(self, size_bytes: int) -> None:
        self._add("registry_sent_bytes", (), size_bytes)

    def pushed(self, kind: str, size_bytes: int) -> None:
        self._add("pushes", (word(kind, KINDS),))
        self._add("pushed_bytes", (), size_bytes)

    def push_failed(self, code: str) -> None:
        self._add("push_failures", (reason(code),))

    def pull_through_failed(self, code: str) -> None:
        self._add("pull_through_failures", (reason(code),))

    def pulled_through(self, kind: str, size_bytes: int) -> None:
        self._add("pull_through", (word(kind, KINDS),))
        self._add("pull_through_bytes", (), size_bytes)

    def collected(self, blobs: int, freed_bytes: int, seconds: float) -> None:
        self._add("gc_runs")
        self._add("gc_deleted_blobs", (), blobs)
        self._add("gc_freed_bytes", (), freed_bytes)
        self._spread("gc_duration", seconds)
        self._now("gc")

    def verified(self, size_bytes: int) -> None:
        self._add("scrub_verified_bytes", (), size_bytes)

    def webhook_known(self, name: str) -> None:
        for result in ("delivered", "dropped"):
            self._add("webhook_events", (name, result), 0)
        self._add("webhook_failed_attempts", (name,), 0)
        self._set("webhook_gone", (name,), 0)

    def webhook_delivered(self, name: str) -> None:
        self._add("webhook_events", (name, "delivered"))
        self._now("webhook", (name,))

    def webhook_failed(self, name: str) -> None:
        self._add("webhook_failed_attempts", (name,))

    def webhook_dropped(self, name: str, count: int) -> None:
        self._add("webhook_events", (name, "dropped"), count)

    def webhook_pending(self, name: str, count: int) -> None:
        self._set("webhook_pending_events", (name,), count)

    def webhook_gone(self, name: str) -> None:
        self._set("webhook_gone", (name,), 1)

    def _set(self, metric: str, labels: tuple[str, ...], value: float) -> None:
        with self._lock:
            self._times.setdefault(f"airside_{metric}", {})[labels] = value
