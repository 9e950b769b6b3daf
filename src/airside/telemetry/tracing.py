"""Sends traces of imports and publishes to an OpenTelemetry collector, if a setting names one.

Always holds: OpenTelemetry is loaded only then, from the extra `otel`; nothing global is set; a
span is made when the work has ended and waits in a bounded queue for a thread that sends it: no
work waits for a collector, and a collector that is away costs spans only. A stop waits for it
`STOP_SECONDS` at most. Proxies of the environment are not used, redirects are not followed.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airside import __version__
from airside.core.errors import ConfigError
from airside.core.settings import Settings
from airside.telemetry.meters import Meters

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger("airside.telemetry")

SEND_SECONDS = 5.0
STOP_SECONDS = 2.0
TOLD_SECONDS = 600.0
_MOST_WAITING = 2048
_MOST_ATTRIBUTE_CHARS = 1024
_NS = 1_000_000_000
_ABSENT = (
    "otlp_endpoint needs Airside's extra otel: pip install 'airside[otel]'. The self-installing "
    "file, the packages and the image do not have it: leave otlp_endpoint empty there"
)


class TracedMeters(Meters):
    """Counts, and makes a span of each finished work."""

    def __init__(self, provider: TracerProvider, wall: Callable[[], float] = time.time) -> None:
        super().__init__(wall)
        self._tracer = provider.get_tracer("airside", __version__)

    def finished(
        self, work: str, seconds: float, attributes: Mapping[str, str | int], error: str = ""
    ) -> None:
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

        end = int(self._wall() * _NS)
        span = self._tracer.start_span(
            work, start_time=end - int(seconds * _NS), attributes=dict(attributes)
        )
        if error:
            span.set_status(Status(StatusCode.ERROR, error[:_MOST_ATTRIBUTE_CHARS]))
        span.end(end)


@contextmanager
def opened_meters(settings: Settings) -> Iterator[Meters]:
    """Yields what counts, and traces if `otlp_endpoint` is set. Raises ConfigError."""
    if not settings.otlp_endpoint:
        yield Meters()
        return
    provider = _provider(settings.otlp_endpoint)
    log.info("traces are sent to %s", settings.otlp_endpoint)
    try:
        yield TracedMeters(provider)
    finally:
        _shut_down(provider)


def _provider(endpoint: str) -> TracerProvider:
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigError(
            f"otlp_endpoint must be like http://collector.example:4318, found {endpoint!r:.200}",
            key="otlp_endpoint",
        )
    try:
        import requests  # noqa: PLC0415
        from opentelemetry.exporter.otlp.proto.http import trace_exporter  # noqa: PLC0415
        from opentelemetry.sdk import resources, trace  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as exc:
        raise ConfigError(f"{_ABSENT} ({exc})", key="otlp_endpoint") from exc
    session = requests.Session()
    session.trust_env, session.max_redirects = False, 0
    host = socket.gethostname()
    about: dict[str, Any] = {
        "service.name": "airside",
        "service.version": __version__,
        "service.instance.id": host,
        "host.name": host,
    }
    provider = trace.TracerProvider(
        resource=resources.Resource(about),
        shutdown_on_exit=False,
        span_limits=trace.SpanLimits(max_span_attribute_length=_MOST_ATTRIBUTE_CHARS),
    )
    exporter = trace_exporter.OTLPSpanExporter(
        f"{endpoint.rstrip('/')}/v1/traces", timeout=SEND_SECONDS, session=session
    )
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=_MOST_WAITING))
    logging.getLogger("opentelemetry").addFilter(_Seldom())
    return provider


def _shut_down(provider: TracerProvider) -> None:
    """Sends what waits, for a bounded time: the thread is a daemon."""
    thread = threading.Thread(target=provider.shutdown, name="traces-end", daemon=True)
    thread.start()
    thread.join(STOP_SECONDS)


class _Seldom(logging.Filter):
    """Lets a record of OpenTelemetry through once in `TOLD_SECONDS`: a collector may be away."""

    def __init__(self) -> None:
        super().__init__()
        self._told_at = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if record.levelno < logging.WARNING or now - self._told_at < TOLD_SECONDS:
            return False
        self._told_at = now
        return True
