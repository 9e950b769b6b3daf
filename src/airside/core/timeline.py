"""Records the stages of one piece of work, to see what it waited for.

`recorded` begins a timeline for the calling thread, `stage` adds a stage to it. Stages may be
nested and may repeat; a stage of a thread without a timeline costs nothing. A stage that several
threads work on is recorded by the thread that waits for them.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(slots=True)
class Timeline:
    """The stages so far. Belongs to one thread."""

    started_at: float = field(default_factory=time.monotonic)
    stages: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By name: when it first began, in seconds since the start, and the sum of its seconds."""

    def add(self, name: str, began_at: float, seconds: float) -> None:
        """Add a stage that began at this time of the monotonic clock."""
        first, before = self.stages.get(name, (began_at - self.started_at, 0.0))
        self.stages[name] = first, before + seconds

    @property
    def milliseconds(self) -> dict[str, int]:
        """The duration of each stage."""
        return {name: round(seconds * 1000) for name, (_, seconds) in self.stages.items()}

    def __str__(self) -> str:
        """Each stage with its begin and duration in milliseconds: `sync 812+35, record 847+12`."""
        return ", ".join(
            f"{name} {first * 1000:.0f}+{seconds * 1000:.0f}"
            for name, (first, seconds) in sorted(self.stages.items(), key=lambda item: item[1][0])
        )


_current: ContextVar[Timeline | None] = ContextVar("timeline", default=None)


@contextmanager
def recorded() -> Iterator[Timeline]:
    """Record the stages of this thread until the end of the block."""
    timeline = Timeline()
    token = _current.set(timeline)
    try:
        yield timeline
    finally:
        _current.reset(token)


def current() -> Timeline:
    """Returns the timeline of this thread, an empty one if it has none."""
    return _current.get() or Timeline()


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Record the block as a stage of the thread's timeline, if it has one."""
    timeline = _current.get()
    if timeline is None:
        yield
        return
    began_at = time.monotonic()
    try:
        yield
    finally:
        timeline.add(name, began_at, time.monotonic() - began_at)
