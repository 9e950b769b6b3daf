"""Traces reach a collector that decodes OTLP, and one that is away costs nothing but spans."""

import builtins
import logging
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from airside.agent.node import open_node
from airside.core.errors import ConfigError
from airside.telemetry import tracing
from airside.telemetry.meters import Meters
from airside.telemetry.tracing import TracedMeters, opened_meters
from support.images import oci_archive, random_image
from support.nodes import import_now, settings_at
from support.publishing import Bench
from support.waiting import LIMIT_SECONDS, wait_until


@pytest.fixture
def collector():
    """A collector; `got` are the requests, decoded."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces"
            self.server.got.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.got = []
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(LIMIT_SECONDS)


@pytest.fixture(autouse=True)
def quiet_again():
    """Take the filter away that a test set."""
    yield
    logger = logging.getLogger("opentelemetry")
    for each in list(logger.filters):
        logger.removeFilter(each)


def endpoint(server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def values(attributes) -> dict[str, object]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def spans_of(server) -> list:
    return [
        span
        for request in server.got
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def test_imports_and_publishes_are_spans_with_what_happened(collector, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # not used
    good, bad = tmp_path / "good.tar", tmp_path / "bad.tar"
    oci_archive(good, {"registry.example/app:1": random_image("traced")})
    oci_archive(bad, {"registry.example/bad:1": random_image("bad")})
    bad.write_bytes(bad.read_bytes().replace(b'"rootfs"', b'"rootfS"'))
    settings = settings_at(tmp_path / "data", otlp_endpoint=endpoint(collector))
    with opened_meters(settings) as meters, open_node(settings, meters=meters) as node:
        import_now(node, good)
        assert import_now(node, bad).state == "rejected"
        Bench(node, tmp_path).run()
    imported, rejected, published = spans_of(collector)
    assert (imported.name, rejected.name, published.name) == ("import", "import", "publish")
    assert imported.end_time_unix_nano > imported.start_time_unix_nano
    said = values(imported.attributes)
    assert said["airside.path"] == str(good)
    assert said["airside.images"] == "registry.example/app:1"
    assert imported.status.code == 0
    assert values(rejected.attributes)["error.type"] == "digest_mismatch"
    assert rejected.status.code == 2
    assert values(published.attributes)["airside.reference"] == "registry.example/app:1"
    about = values(collector.got[0].resource_spans[0].resource.attributes)
    assert about["service.name"] == "airside"


def test_without_an_endpoint_nothing_is_loaded_or_traced(tmp_path):
    with opened_meters(settings_at(tmp_path / "data")) as meters:
        assert type(meters) is Meters


def test_a_collector_that_hangs_keeps_no_work_and_no_stop(tmp_path, monkeypatch):
    monkeypatch.setattr(tracing, "STOP_SECONDS", 0.1)
    monkeypatch.setattr(tracing, "SEND_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = settings_at(tmp_path / "data", otlp_endpoint=address)
        with opened_meters(settings) as meters:
            assert isinstance(meters, TracedMeters)
            for _ in range(tracing._MOST_WAITING * 2):  # more than may wait
                meters.finished("import", 0.1, {"airside.path": "/x"}, "why")
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "traces-end"])


def test_a_collector_that_is_away_is_told_once(tmp_path, monkeypatch):
    monkeypatch.setattr(tracing, "SEND_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    seldom = tracing._Seldom()
    record = logging.LogRecord("opentelemetry.x", logging.ERROR, "", 0, "away", (), None)
    assert [seldom.filter(record), seldom.filter(record)] == [True, False]
    settings = settings_at(tmp_path / "data", otlp_endpoint=f"http://127.0.0.1:{port}")
    with opened_meters(settings) as meters:
        meters.finished("import", 0.1, {})


@pytest.mark.parametrize("absent", ["requests", "opentelemetry.sdk"])
def test_without_the_extra_the_start_ends_and_says_what_to_install(tmp_path, monkeypatch, absent):
    real = builtins.__import__

    def refuse(name, *more):
        if name == absent:
            raise ImportError(f"No module named {name!r}")
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    settings = settings_at(tmp_path / "data", otlp_endpoint="http://127.0.0.1:9")
    wanted = r"pip install 'airside\[otel\]'"
    with pytest.raises(ConfigError, match=wanted), opened_meters(settings):
        pass


def test_an_endpoint_that_is_no_url_is_refused(tmp_path):
    settings = settings_at(tmp_path / "data", otlp_endpoint="collector:4318")
    with pytest.raises(ConfigError, match="must be like"), opened_meters(settings):
        pass
