"""Measures publishes: how the blobs came, how long it took, how far a runtime lags behind."""

import logging
from collections.abc import Callable

from airside.catalog.tag_states import TagState
from airside.core.timeline import current
from airside.ports.measures import PublishMeter
from airside.ports.outcome import Published

log = logging.getLogger("airside.publish")


class PublishMeasure:
    """The publishes to one runtime. Thread-safe. `clock`: that of the catalog's times."""

    def __init__(self, runtime: str, meter: PublishMeter, clock: Callable[[], float]) -> None:
        self._runtime, self._meter = runtime, meter
        self._clock, self._since = clock, clock()

    def published(self, tag: TagState, done: Published, seconds: float, *, again: bool) -> None:
        """Count a publish, with this thread's stages. `again`: of an image that was removed."""
        timeline = current()
        log.debug("%s: published after %.0f ms: %s", tag.reference, seconds * 1000, timeline)
        self._meter.published(
            done.ways,
            seconds,
            unpack_seconds=done.unpack_seconds,
            lag_seconds=None if again else self._lag_seconds(tag),
        )

        more: dict[str, str | int] = {
            **{f"airside.{way}_blobs": count for way, count in done.ways.items()},
            "airside.unpack_milliseconds": round(done.unpack_seconds * 1000),
            **{f"airside.{k}_milliseconds": v for k, v in timeline.milliseconds.items()},
        }
        self._meter.finished("publish", seconds, self._about(tag) | more)

    def failed(self, tag: TagState, seconds: float, reason: str) -> None:
        """Count a publish that failed."""
        self._meter.publish_failed()
        self._meter.finished("publish", seconds, self._about(tag), reason)

    def _about(self, tag: TagState) -> dict[str, str | int]:
        return {
            "airside.runtime": self._runtime,
            "airside.reference": tag.reference,
            "airside.digest": tag.digest,
        }

    def _lag_seconds(self, tag: TagState) -> float | None:
        """Returns the age of the tag's change; None for one from before this process."""
        if tag.moved_at is None or tag.moved_at < self._since:
            return None
        return self._clock() - tag.moved_at
