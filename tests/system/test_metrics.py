"""`/metrics`, `/healthz` and `/readyz` of a running agent."""

import http.client
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from airside.telemetry.metrics import METRICS
from support.agent import Agent
from support.containerd import Containerd
from support.images import oci_archive, random_image
from support.ports import free_port
from support.promtool import promtool
from support.waiting import LIMIT_SECONDS, wait_until

pytestmark = pytest.mark.system


def samples(agent: Agent) -> dict[str, float]:
    """Every sample by name and labels, as `name{label="value"}`."""
    status, body = agent.get("/metrics", Cache_Control="no-cache")
    assert status == 200
    found = {}
    for family in parse(body.decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


@pytest.fixture(scope="module")
def worked(tmp_path_factory):
    """An agent with one image, one rejected archive, an absent directory, and a free port."""
    home = tmp_path_factory.mktemp("metrics")
    (home / "images").mkdir()
    good, bad = home / "images" / "good.tar", home / "images" / "bad.tar"
    with Agent([good.parent, home / "absent"], home / "data") as agent:
        oci_archive(good, {"registry.example/app:1": random_image("metrics")})
        oci_archive(home / "bad.tar", {"registry.example/bad:1": random_image("bad")})
        damage(home / "bad.tar")
        (home / "bad.tar").rename(bad)
        agent.wait_imported(good)
        agent.wait_state(bad, "rejected")
        agent.wait_idle()
        yield agent


def damage(path: Path) -> None:
    """Flip a bit of the config, so that its digest is wrong."""
    data = bytearray(path.read_bytes())
    data[data.index(b'"rootfs"') + 1] ^= 1
    path.write_bytes(data)


def test_what_the_agent_did_is_in_its_metrics(worked):
    assert worked.get("/v2/registry.example/app/manifests/1")[0] == 200
    assert worked.get("/v2/registry.example/nothing/manifests/1")[0] == 404
    found = samples(worked)
    assert found["airside_imports_total{reason=none,result=imported}"] == 1
    assert found["airside_imports_total{reason=digest_mismatch,result=rejected}"] >= 1
    assert found["airside_images"] == 1
    assert found["airside_archives{state=imported}"] == 1
    assert found["airside_problems{kind=rejected}"] == 1
    assert found["airside_problems{kind=directory_away}"] == 1
    assert found[f"airside_watched_directory_up{{directory={worked.images_paths[0]}}}"] == 1
    assert found["airside_store_bytes"] > 0
    assert found["airside_import_bytes_total"] > 0
    assert found["airside_import_last_success_timestamp_seconds"] > 0
    assert found["airside_filesystem_free_bytes"] > 0
    assert found["airside_sample_up{source=catalog}"] == 1
    manifests = "method=GET,route=/v2/{name}/manifests/{reference}"
    assert found[f"airside_registry_requests_total{{code=200,{manifests}}}"] == 1
    assert found[f"airside_registry_requests_total{{code=404,{manifests}}}"] == 1
    assert found["airside_registry_connections"] >= 1
    wait_until(lambda: samples(worked)["airside_fallback_server_up"] == 1)


def test_every_name_of_a_scrape_is_in_the_table(worked):
    text = worked.get("/metrics")[1].decode()
    shown = {line.split()[2] for line in text.splitlines() if line.startswith("# HELP airside_")}
    assert shown <= {metric.name for metric in METRICS}
    assert len(shown) > len(METRICS) * 3 // 4


def test_prometheus_finds_nothing_wrong_with_the_metrics(worked):
    promtool("check", "metrics", given=worked.get("/metrics")[1])


def test_a_ready_agent_says_so_in_words_and_in_json(worked):
    assert worked.get("/healthz") == (200, b"ok\n")
    assert worked.get("/readyz") == (200, b"ok\n")
    assert worked.get("/readyz?verbose")[1].endswith(b"[+] runtimes: ok\nready\n")
    assert b'"ok": true' in worked.get("/readyz?format=json")[1]


def test_a_runtime_that_never_connected_makes_the_agent_unready_but_not_dead(tmp_path):
    (tmp_path / "images").mkdir()
    port, absent = free_port(), tmp_path / "absent.sock"
    own = {"AIRSIDE_METRICS_LISTEN": f"127.0.0.1:{port}"}
    flags = ["--runtime", str(absent)]
    with Agent(tmp_path / "images", tmp_path / "data", environ=own, flags=flags) as agent:
        status, body = agent.get("/readyz")
        assert status == 503
        assert b"[-] runtimes: " in body
        assert str(tmp_path).encode() not in body  # everybody may read it
        assert agent.get("/healthz") == (200, b"ok\n")
        agent.wait_for(lambda: f"airside_runtime_up{{runtime={absent}}}" in samples(agent))
        assert samples(agent)[f"airside_runtime_up{{runtime={absent}}}"] == 0
        for path, wanted in (("/metrics", 200), ("/healthz", 200), ("/readyz", 503), ("/v2/", 404)):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_SECONDS)
            connection.request("GET", path)
            assert connection.getresponse().status == wanted
            connection.close()


@pytest.mark.needs("runc", "unshare", "mount")
def test_publishing_is_counted_and_an_agent_without_its_containerd_is_alive(
    tmp_path, newest_containerd
):
    (tmp_path / "images").mkdir()
    with Containerd(newest_containerd, tmp_path / "containerd") as containerd:
        flags = ["--runtime", str(containerd.socket)]
        with Agent(tmp_path / "images", tmp_path / "data", flags=flags) as agent:
            up = f"airside_runtime_up{{runtime={containerd.socket}}}"
            agent.wait_for(lambda: samples(agent).get(up) == 1, what="it is connected")
            oci_archive(agent.watched / "a.tar", {"registry.example/app:1": random_image("a")})
            agent.wait_imported(agent.watched / "a.tar")
            published = "airside_published_images_total{result=published}"
            agent.wait_for(lambda: samples(agent)[published], what="it is published")
            images = f"airside_runtime_images{{runtime={containerd.socket},state=published}}"
            agent.wait_for(lambda: samples(agent).get(images) == 1, what="its state is told")
            found = samples(agent)
            assert found["airside_published_blobs_total{way=link}"] >= 3
            assert found["airside_publish_lag_seconds_count"] == 1
            assert found["airside_unpack_duration_seconds_count"] == 1
            last_pass = f"publish_last_success_timestamp_seconds{{runtime={containerd.socket}}}"
            assert found[f"airside_{last_pass}"] > 0
            containerd.stop()
            agent.wait_for(lambda: samples(agent)[up] == 0, what="it is away")
            assert agent.get("/healthz") == (200, b"ok\n")
            containerd.start()
            agent.wait_for(lambda: samples(agent)[up] == 1, what="it is back")


def test_scrapes_in_quick_succession_get_one_text_and_no_cache_a_new_one(worked):
    def count(**headers):
        text = worked.get("/metrics", **headers)[1].decode()
        route = 'method="GET",route="/metrics"'
        return [line for line in text.splitlines() if route in line]

    texts = [count() for _ in range(200)]
    assert len({tuple(each) for each in texts}) < 200
    assert count(Cache_Control="no-cache") != count(Cache_Control="no-cache")
