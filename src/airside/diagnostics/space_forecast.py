"""When the store's file system will be full, by how its free space fell. Pure.

A straight line through the samples (least squares) is what an operator can check by eye. The space
that `min_free_bytes` keeps counts as full, since imports stop there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal, NamedTuple

SPACE_SAMPLES = "space-samples"
"""The key in `meta`: a JSON array of `[time, free bytes, total bytes]`."""
SAMPLE_SECONDS = 3600.0
MOST_SAMPLES = 24 * 30
_LEAST_SAMPLES = 3
_LEAST_SECONDS = 2 * SAMPLE_SECONDS
_FAR_SECONDS = 2 * 365 * 86400.0


class Sample(NamedTuple):
    """The free space at a time, in seconds and bytes."""

    at: float
    free_bytes: int
    total_bytes: int


class Forecast(NamedTuple):
    """`seconds` until it is full, None for the `reason`."""

    seconds: float | None
    bytes_per_second: float = 0.0
    reason: Literal["", "unknown", "never"] = ""


def parse_samples(text: str | None) -> list[Sample]:
    """Returns the recorded samples, oldest first; none if the record is malformed."""
    with suppress(ValueError, TypeError):
        return [
            Sample(float(at), int(free), int(all_)) for at, free, all_ in json.loads(text or "")
        ]
    return []


def add_sample(samples: Sequence[Sample], new: Sample) -> list[Sample] | None:
    """Returns the samples with a new one; None if the last one is recent enough."""
    if samples and 0 <= new.at - samples[-1].at < SAMPLE_SECONDS:
        return None
    kept = [each for each in samples if each.at < new.at and each.total_bytes == new.total_bytes]
    return [*kept, new][-MOST_SAMPLES:]


def forecast(samples: Sequence[Sample], min_free_bytes: int) -> Forecast:
    """Returns when the free space reaches `min_free_bytes`."""
    if samples and samples[-1].free_bytes <= min_free_bytes:
        return Forecast(0.0)
    if len(samples) < _LEAST_SAMPLES or samples[-1].at - samples[0].at < _LEAST_SECONDS:
        return Forecast(None, 0.0, "unknown")
    mean_at = sum(each.at for each in samples) / len(samples)
    mean_free = sum(each.free_bytes for each in samples) / len(samples)
    spread = sum((each.at - mean_at) ** 2 for each in samples)
    slope = sum((e.at - mean_at) * (e.free_bytes - mean_free) for e in samples) / spread
    if slope >= 0:
        return Forecast(None, slope, "never")
    seconds = (samples[-1].free_bytes - min_free_bytes) / -slope
    if seconds > _FAR_SECONDS:
        return Forecast(None, slope, "never")
    return Forecast(seconds, slope)
