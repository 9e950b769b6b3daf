"""Measures publishes: how the blobs came, how long it took, how far a runtime lags behind."""

from collections.abc import Callable

from airside.catalog.tag_states import TagState
from airside.ports.measures import PublishMeter
from airside.ports.outcome import Published


class PublishMeasure:
    """The publishes to one runtime. Thread-safe. `clock`: that of the catalog's times."""

    def __init__(self, meter: PublishMeter, clock: Callable[[], float]) -> None:
        self._meter, self._clock, self._since = meter, clock, clock()

    def published(self, tag: TagState, done: Published, seconds: float, *, again: bool) -> None:
        """Count a publish. `again`: of an image that was removed in the runtime."""
        self._meter.published(
            done.ways,
            seconds,
            unpack_seconds=done.unpack_seconds,
            lag_seconds=None if again else self._lag_seconds(tag),
        )

    def failed(self) -> None:
        self._meter.publish_failed()

    def _lag_seconds(self, tag: TagState) -> float | None:
        """Returns the age of the tag's change; None for one from before this process."""
        if tag.moved_at is None or tag.moved_at < self._since:
            return None
        return self._clock() - tag.moved_at
