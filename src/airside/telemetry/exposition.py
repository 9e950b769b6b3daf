"""Writes numbers in the formats that Prometheus reads. Blocking; CPU only.

`prometheus_client` writes them, from a registry that lives for one scrape: no global state, and the
library is loaded by the first scrape.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from airside.registry.rules.quality_value import quality
from airside.telemetry.meters import Numbers
from airside.telemetry.metrics import METRICS, Metric
from airside.telemetry.tallies import Spread

if TYPE_CHECKING:
    from prometheus_client import Metric as Family
    from prometheus_client.metrics_core import HistogramMetricFamily

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_GZIP_LEVEL = 1


def negotiated(accept: str) -> str:
    """Returns the content type for an Accept header: OpenMetrics where it is preferred."""
    qualities = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for entry in accept.split(","):
        name, _, parameters = entry.lower().partition(";")
        media = name.strip()
        if media in qualities:
            qualities[media] = max(qualities[media], quality(parameters))
    wanted, text = qualities.values()
    return OPENMETRICS if wanted > text else TEXT


def accepts_gzip(accept_encoding: str) -> bool:
    """Returns True if an Accept-Encoding header allows gzip."""
    for entry in accept_encoding.lower().split(","):
        coding, _, parameters = entry.partition(";")
        if coding.strip() in {"gzip", "x-gzip", "*"}:
            return quality(parameters) > 0
    return False


def exposed(numbers: Numbers, content_type: str, *, compressed: bool = False) -> bytes:
    """Returns the text of the numbers; metrics without any have no line."""
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest  # noqa: PLC0415
    from prometheus_client.openmetrics import exposition as openmetrics  # noqa: PLC0415

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(numbers))
    ProcessCollector(registry=registry)
    write = openmetrics.generate_latest if content_type == OPENMETRICS else generate_latest
    text = write(registry)
    return gzip.compress(text, _GZIP_LEVEL, mtime=0) if compressed else text


class _Families:
    """A collector of these numbers."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[Family]:
        for metric in METRICS:
            if self._numbers.get(metric.name):
                yield _family(metric, self._numbers)


def _family(metric: Metric, numbers: Numbers) -> Family:
    from prometheus_client import core  # noqa: PLC0415

    found = numbers[metric.name]
    if metric.kind == "histogram":
        spread = core.HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, value in found.items():
            assert isinstance(value, Spread)
            _add_spread(spread, labels, value)
        return spread
    if metric.kind == "info":
        info = core.InfoMetricFamily(metric.name.removesuffix("_info"), metric.help)
        for labels in found:
            info.add_metric([], dict(zip(metric.labels, labels, strict=True)))
        return info
    make = core.CounterMetricFamily if metric.kind == "counter" else core.GaugeMetricFamily
    family = make(metric.name, metric.help, labels=metric.labels)
    for labels, value in found.items():
        assert not isinstance(value, Spread)
        family.add_metric(labels, value)
    return family


def _add_spread(family: HistogramMetricFamily, labels: tuple[str, ...], spread: Spread) -> None:
    bounds = [*(_bound(bound) for bound in spread.bounds), "+Inf"]
    buckets = list(zip(bounds, accumulate(spread.counts), strict=True))
    family.add_metric(labels, buckets, sum_value=spread.total)


def _bound(bound: float) -> str:
    return repr(float(bound))
