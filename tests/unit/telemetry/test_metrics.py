import gzip
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from airside.core.errors import DigestMismatchError
from airside.ports.measures import UNMEASURED
from airside.registry.rules.routes import OTHER, ROUTES, route_of
from airside.telemetry.exposition import OPENMETRICS, TEXT, accepts_gzip, exposed, negotiated
from airside.telemetry.meters import Meters
from airside.telemetry.metrics import BY_NAME, METRICS
from airside.telemetry.tallies import Distribution, Spread, Tally

HOSTILE = '"}\n# HELP x\\'


def lines_of(meters: Meters) -> list[str]:
    text = exposed(meters.read(), TEXT).decode()
    return [line for line in text.splitlines() if line.startswith("airside_")]


def value_of(meters: Meters, series: str) -> float:
    [found] = [line for line in lines_of(meters) if line.startswith(series + " ")]
    return float(found.rpartition(" ")[2])


def test_names_follow_the_conventions_of_prometheus():
    for metric in METRICS:
        assert re.fullmatch(r"airside_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.name.endswith("_info") == (metric.kind == "info")
        assert metric.help.endswith(".")
        assert metric.buckets == tuple(sorted(metric.buckets))
    assert len(BY_NAME) == len(METRICS)


def test_work_is_counted_by_result_and_by_the_code_of_the_error():
    meters = Meters(wall=lambda: 1000.0)
    meters.imported("imported", "", 10, 0.2)
    meters.imported("rejected", DigestMismatchError.code, 5, 2.0)
    assert value_of(meters, 'airside_imports_total{reason="none",result="imported"}') == 1
    assert (
        value_of(meters, 'airside_imports_total{reason="digest_mismatch",result="rejected"}') == 1
    )
    assert value_of(meters, "airside_import_bytes_total") == 15
    assert value_of(meters, "airside_import_last_success_timestamp_seconds") == 1000.0
    duration = "airside_import_duration_seconds"
    assert value_of(meters, f'{duration}_bucket{{le="0.25",result="imported"}}') == 1
    assert value_of(meters, f'{duration}_bucket{{le="0.1",result="imported"}}') == 0
    assert value_of(meters, f'{duration}_sum{{result="rejected"}}') == 2.0


def test_publishing_pushes_and_upkeep_are_counted():
    meters = Meters(wall=lambda: 7.0)
    meters.published({"link": 3, "copy": 1}, 1.5, unpack_seconds=1.0, lag_seconds=2.0)
    meters.published({"held": 2}, 0.1)
    meters.publish_failed()
    meters.passed("/run/c.sock")
    meters.pushed("blob", 9)
    meters.pulled_through("manifest", 4)
    meters.collected(2, 100, 0.5)
    meters.verified(50)
    meters.sent(8)
    assert value_of(meters, 'airside_published_blobs_total{way="link"}') == 3
    assert value_of(meters, 'airside_published_images_total{result="published"}') == 2
    assert value_of(meters, 'airside_published_images_total{result="failed"}') == 1
    assert value_of(meters, "airside_publish_lag_seconds_count") == 1
    assert value_of(meters, "airside_unpack_duration_seconds_sum") == 1.0
    runtime = 'airside_publish_last_success_timestamp_seconds{runtime="/run/c.sock"}'
    assert value_of(meters, runtime) == 7.0
    assert value_of(meters, 'airside_pushes_total{kind="blob"}') == 1
    assert value_of(meters, "airside_pull_through_bytes_total") == 4
    assert value_of(meters, "airside_gc_freed_bytes_total") == 100
    assert value_of(meters, "airside_gc_last_success_timestamp_seconds") == 7.0
    assert value_of(meters, "airside_scrub_verified_bytes_total") == 50
    assert value_of(meters, "airside_registry_sent_bytes_total") == 8


def test_ten_thousand_names_of_strangers_make_no_series_more():
    meters = Meters()

    def ask(name: str) -> None:
        for target in (
            f"/v2/{name}/manifests/{name}",
            f"/v2/{name}/blobs/sha256:{name}?ns={name}",
            f"/v2/{name}/tags/list",
            f"/{name}",
            f"/v2/{name}",
        ):
            meters.requested(name, route_of(target), 404, 0.001)
        meters.imported(name, name, 1, 0.1)
        meters.published({name: 1}, 0.1)
        meters.pushed(name, 1)

    ask("one")
    before = len(lines_of(meters))
    for number in range(10_000):
        ask(f"{HOSTILE}{number}")
    assert len(lines_of(meters)) == before
    for form, parser in ((TEXT, parse), (OPENMETRICS, openmetrics)):
        families = list(parser(exposed(meters.read(), form).decode()))
        assert all(HOSTILE not in str(sample.labels) for f in families for sample in f.samples)


@pytest.mark.parametrize(
    ("target", "route"),
    [
        ("/", "/"),
        ("/v2", "/v2/"),
        ("/v2/?x=1", "/v2/"),
        ("/v2/_catalog?n=5", "/v2/_catalog"),
        ("/v2/a/b/c/manifests/1", "/v2/{name}/manifests/{reference}"),
        ("/v2/manifests/manifests/manifests", "/v2/{name}/manifests/{reference}"),
        ("/v2/a/blobs/sha256:00", "/v2/{name}/blobs/{digest}"),
        ("/v2/a/blobs/uploads/", "/v2/{name}/blobs/uploads/"),
        ("/v2/a/blobs/uploads", "/v2/{name}/blobs/uploads/"),
        ("/v2/a/blobs/uploads/17", "/v2/{name}/blobs/uploads/{session}"),
        ("/v2/a/tags/list", "/v2/{name}/tags/list"),
        ("/v2/a/tags/other", OTHER),
        ("/v2/a/referrers/sha256:00", "/v2/{name}/referrers/{digest}"),
        ("/ui", "/ui/"),
        ("/ui/images/x", "/ui/"),
        ("/metrics", "/metrics"),
        ("*", OTHER),
        ("/v2/a", OTHER),
        ("/uix", OTHER),
    ],
)
def test_a_request_has_the_template_of_its_route(target, route):
    assert route_of(target) == route
    assert route in ROUTES


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("application/openmetrics-text; version=1.0.0; q=0.6, text/plain;q=0.4", OPENMETRICS),
        ("application/openmetrics-text;q=0.3,text/plain;q=0.5", TEXT),
        ("application/openmetrics-text;q=x", TEXT),
        ("application/openmetrics-text;version=abc", OPENMETRICS),
    ],
)
def test_the_format_is_negotiated(accept, wanted):
    assert negotiated(accept) == wanted


@pytest.mark.parametrize(
    ("header", "wanted"),
    [("", False), ("gzip", True), ("br, gzip;q=0", False), ("deflate, gzip;q=0.5", True)],
)
def test_gzip_is_negotiated(header, wanted):
    assert accepts_gzip(header) is wanted


def test_the_text_is_the_same_compressed():
    numbers = {"airside_build_info": {("1", "3"): 1.0}}
    text = exposed(numbers, OPENMETRICS, compressed=True)
    assert b'airside_build_info{python="3",version="1"} 1.0' in gzip.decompress(text)


def test_no_addition_of_any_thread_is_lost():
    tally, spread = Tally(), Distribution((1.0, 2.0))

    def add(_: int) -> None:
        for _ in range(1000):
            tally.add(("a",), 2)
            spread.add(1.5, ("a",))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    assert tally.read() == {("a",): 8000}
    assert spread.read() == {("a",): Spread((1.0, 2.0), (0, 4000, 0), 6000.0)}


def test_what_is_unmeasured_takes_every_call():
    UNMEASURED.imported("", "", 0, 0)
    UNMEASURED.published({}, 0)
    UNMEASURED.publish_failed()
    UNMEASURED.passed("")
    UNMEASURED.requested("", "", 0, 0)
    UNMEASURED.sent(0)
    UNMEASURED.pushed("", 0)
    UNMEASURED.pulled_through("", 0)
    UNMEASURED.collected(0, 0, 0)
    UNMEASURED.verified(0)
    UNMEASURED.finished("", 0, {})
    UNMEASURED.webhook_delivered("")
    UNMEASURED.webhook_failed("")
    UNMEASURED.webhook_dropped("", 0)
    UNMEASURED.webhook_pending("", 0)
    UNMEASURED.webhook_gone("")


def test_the_documentation_has_the_table_of_all_metrics():
    rows = [
        f"| `{metric.name}` | {metric.kind} | "
        f"{', '.join(f'`{label}`' for label in metric.labels)} | {metric.help} |"
        for metric in METRICS
    ]
    text = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("| `airside_")] == rows
