"""What is made of measured seconds: ratios of pairs, their worst, median and best. Pure.

A round runs each side once, one after the other, so that what else the machine does meets all of
them. A ratio is taken within a round, never between medians of different rounds.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sample:
    """One run of one side. `load`: the machine's one-minute load when it began.

    `durable_seconds`: until all is on disk too, where that comes after `seconds`.
    """

    seconds: float
    processor_seconds: float
    load: float = 0.0
    durable_seconds: float = 0.0


@dataclass(frozen=True)
class Ratio:
    """Ratios of some rounds. The least is the worst if more is better (`more_is_better`)."""

    worst: float
    median: float
    best: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.worst:.2f}-{self.best:.2f})"


def ratio(over: Sequence[float], under: Sequence[float], *, more_is_better: bool) -> Ratio:
    """Returns the ratios `over / under` of each round. ValueError for unequal or no rounds."""
    found = sorted(a / b for a, b in zip(over, under, strict=True))
    if not found:
        raise ValueError("no rounds")
    low, high = found[0], found[-1]
    worst, best = (low, high) if more_is_better else (high, low)
    return Ratio(worst, statistics.median(found), best)


@dataclass
class Measure:
    """The rounds of one measure: the samples of each side, in the order of the rounds.

    `target_peer`: how many times as fast as the peer; `target_limit`: at most how many times as
    long as the physical limit.
    """

    name: str
    what: str
    target_peer: float
    target_limit: float
    limit: str = ""
    sides: dict[str, list[Sample]] = field(default_factory=dict)

    def add(self, round_of: Mapping[str, Sample]) -> None:
        """Add a whole round."""
        for side, sample in round_of.items():
            self.sides.setdefault(side, []).append(sample)

    @property
    def rounds(self) -> int:
        return len(self.sides.get(OURS, ()))

    @property
    def peer_ratio(self) -> Ratio:
        return ratio(self.seconds(PEER), self.seconds(OURS), more_is_better=True)

    @property
    def peer_processor_ratio(self) -> Ratio:
        return ratio(self.processor(PEER), self.processor(OURS), more_is_better=True)

    @property
    def limit_ratio(self) -> Ratio:
        return ratio(self.seconds(OURS), self.seconds(LIMIT), more_is_better=False)

    @property
    def limit_processor_ratio(self) -> Ratio:
        return ratio(self.processor(OURS), self.processor(LIMIT), more_is_better=False)

    def seconds(self, side: str) -> list[float]:
        return [sample.seconds for sample in self.sides[side]]

    def processor(self, side: str) -> list[float]:
        return [sample.processor_seconds for sample in self.sides[side]]

    def medians(self, side: str) -> str:
        """Returns "wall (processor)" seconds."""
        wall, used = statistics.median(self.seconds(side)), statistics.median(self.processor(side))
        return f"{wall:.2f} ({used:.2f})"

    def as_json(self) -> dict[str, Any]:
        found = asdict(self)
        found["ratios"] = {
            "peer_over_airside": asdict(self.peer_ratio),
            "peer_over_airside_processor": asdict(self.peer_processor_ratio),
            "airside_over_limit": asdict(self.limit_ratio),
            "airside_over_limit_processor": asdict(self.limit_processor_ratio),
        }
        return found


OURS, PEER, LIMIT = "airside", "ctr", "limit"


def percentile(values: Sequence[float], percent: float) -> float:
    """Returns the smallest value that `percent` of the values do not exceed."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(0, int(rank) - 1)]
