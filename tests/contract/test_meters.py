"""Every meter takes whatever the rooms count, from any thread, and never raises."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry.sdk.trace import TracerProvider

from airside.ports.measures import UNMEASURED, Meter
from airside.telemetry.meters import Meters
from airside.telemetry.tracing import TracedMeters

ODD = ("", "imported", 'x"}\n', "é" * 2000, "\x00")


@pytest.fixture(params=["none", "counts", "traces"])
def meter(request) -> Meter:
    provider = TracerProvider(shutdown_on_exit=False)
    made = {"none": UNMEASURED, "counts": Meters(), "traces": TracedMeters(provider)}
    return made[request.param]


def count_everything(meter: Meter, text: str) -> None:
    meter.imported(text, text, 0, 0.0)
    meter.published({text: 1}, 0.0, unpack_seconds=1.0, lag_seconds=-1.0)
    meter.published({}, 1e9)
    meter.publish_failed()
    meter.passed(text)
    meter.requested(text, text, -1, 0.0)
    meter.sent(1 << 62)
    meter.pushed(text, 0)
    meter.pulled_through(text, 0)
    meter.collected(0, 0, 0.0)
    meter.verified(0)
    meter.finished(text, 0.0, {text: text}, text)
    meter.finished("import", 1e9, {"airside.path": text, "airside.read_bytes": 1})
    meter.push_failed(text)
    meter.pull_through_failed(text)
    meter.webhook_known(text)
    meter.webhook_delivered(text)
    meter.webhook_failed(text)
    meter.webhook_dropped(text, 1)
    meter.webhook_pending(text, 0)
    meter.webhook_gone(text)


def test_a_meter_takes_every_value_from_many_threads(meter):
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(count_everything, meter, text) for text in ODD * 8]
    assert [each.exception() for each in done] == [None] * len(done)
