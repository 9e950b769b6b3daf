"""The table of all metrics: name, kind, help, labels. Pure.

`docs/metrics.md` has the same table; a test compares them. Names follow the conventions of
Prometheus: base units, `_total` on counters.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram", "info"]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Of requests."""
LONG_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Of work on whole archives and images."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, as `/metrics` shows it."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"airside_{name}_total", "counter", text, labels)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"airside_{name}", "gauge", text, labels)


def _histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    return Metric(f"airside_{name}", "histogram", text, labels, buckets)


METRICS: tuple[Metric, ...] = (
    Metric(
        "airside_build_info", "info", "The versions of Airside and Python.", ("version", "python")
    ),
    _gauge("ready", "1 if the check of /readyz passes, else 0.", "check"),
    _gauge("fallback_server_up", "1 if the fallback server runs, which answers for a hung agent."),
    _gauge("sample_up", "1 if the values of a source could be read for this scrape.", "source"),
    _gauge("problems", "What is wrong now, as `airside status` tells it, by kind.", "kind"),
    _counter("imports", "Imports of archives and lists by result.", "result", "reason"),
    _counter("import_bytes", "Bytes of archives that imports read."),
    _histogram("import_duration_seconds", "Time of an import.", LONG_SECONDS, "result"),
    _gauge("import_last_success_timestamp_seconds", "Time of the last import that gave an image."),
    _gauge("import_queue_archives", "Archives in the queue of imports, by stage.", "stage"),
    _gauge("import_running_age_seconds", "Age of the oldest import that runs; 0: none."),
    _gauge("archives", "Archives in the watched directories and imported by hand.", "state"),
    _gauge("watched_directory_up", "1 if a watched directory can be read.", "directory"),
    _gauge("watched_directory_archives", "Archives found in a watched directory.", "directory"),
    _gauge("images", "Tags in the catalog."),
    _gauge("repositories", "Repositories in the catalog."),
    _gauge("blobs", "Blobs by state.", "state"),
    _gauge("store_bytes", "Bytes of all blobs in the store."),
    _gauge("filesystem_free_bytes", "Free bytes of the store's file system."),
    _gauge("filesystem_size_bytes", "Size of the store's file system."),
    _gauge("filesystem_min_free_bytes", "Bytes that are left free (setting min_free_bytes)."),
    _gauge("filesystem_wanted_free_bytes", "With less than this free, more garbage is collected."),
    _counter("gc_runs", "Garbage collections."),
    _counter("gc_deleted_blobs", "Blobs that garbage collection deleted."),
    _counter("gc_freed_bytes", "Bytes that garbage collection freed."),
    _histogram("gc_duration_seconds", "Time of a garbage collection.", LONG_SECONDS),
    _gauge("gc_last_success_timestamp_seconds", "Time of the last garbage collection."),
    _counter("scrub_verified_bytes", "Bytes of stored blobs that were hashed again."),
    _gauge("scrub_last_success_timestamp_seconds", "Time at which the last scrub ended."),
    _gauge("scrub_oldest_verified_timestamp_seconds", "Time of the least recent verification."),
    _gauge("runtime_up", "1 if a container runtime is connected.", "runtime"),
    _gauge("runtime_layers", "Layers unpacked since the connection, by who did.", "runtime", "by"),
    _gauge("runtime_images", "Images by their state in a container runtime.", "runtime", "state"),
    _gauge("unpublished_images", "Images that a container runtime lacks and should have."),
    _counter("published_images", "Images published to a container runtime.", "result"),
    _counter("published_blobs", "Blobs placed in a container runtime, by way.", "way"),
    _histogram("publish_duration_seconds", "Time to publish an image.", LONG_SECONDS),
    _histogram("unpack_duration_seconds", "Time to unpack an image's layers.", LONG_SECONDS),
    _histogram("publish_lag_seconds", "Time from a tag's change to its publish.", LONG_SECONDS),
    _gauge(
        "publish_last_success_timestamp_seconds",
        "Time of the last finished pass over a container runtime.",
        "runtime",
    ),
    _counter("registry_requests", "Requests by route and status.", "method", "route", "code"),
    _histogram(
        "registry_request_duration_seconds",
        "Time until the answer to a request began, without sending a blob.",
        SECONDS,
        "route",
    ),
    _counter("registry_sent_bytes", "Bytes of bodies that were sent to clients."),
    _gauge("registry_connections", "Open connections of clients."),
    _counter("registry_connections_refused", "Connections refused because of a limit."),
    _counter("pushes", "What clients pushed, by kind.", "kind"),
    _counter("push_failures", "Writes of clients that failed, by reason.", "reason"),
    _counter("pushed_bytes", "Bytes of blobs and manifests that clients pushed."),
    _counter("pull_through", "What was stored from upstream registries, by kind.", "kind"),
    _counter(
        "pull_through_failures",
        "Fetches from upstream registries that failed, by reason; what they lack is not counted.",
        "reason",
    ),
    _counter("pull_through_bytes", "Bytes stored from upstream registries."),
    _counter("webhook_events", "Events for a webhook by what became of them.", "webhook", "result"),
    _counter("webhook_failed_attempts", "Attempts to send an event that failed.", "webhook"),
    _gauge("webhook_pending_events", "Events that wait for a webhook.", "webhook"),
    _gauge("webhook_gone", "1 if the receiver answered 410: nothing more is sent.", "webhook"),
    _gauge(
        "webhook_last_success_timestamp_seconds", "Time of the last event delivered.", "webhook"
    ),
)

BY_NAME = {metric.name: metric for metric in METRICS}
