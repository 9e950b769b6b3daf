"""A HEAD says what a GET does: the same status and headers, for every kind of target."""

import json

import pytest

from airside.oci.model import parse_document
from airside.oci.reference import Repository
from airside.registry.rules.read_through import ReadThrough
from support.images import random_image
from support.memory import MemoryStore, MemoryView
from support.runtimes import Held, MemoryRuntime
from support.served import served

OURS, THEIRS = random_image("head"), random_image("head-theirs")
ABSENT = "sha256:" + "0" * 64
LAYER = OURS.layers[0].digest
NAMES = ("app", "library/app", "docker.io/library/app", "nothere", "two/hosts", "BAD")
LASTS = (
    "manifests/1",
    "manifests/2",
    "manifests/theirs",
    "manifests/-x",
    f"manifests/{OURS.digest}",
    f"manifests/{THEIRS.digest}",
    f"manifests/{ABSENT}",
    "manifests/sha256:short",
    f"blobs/{LAYER}",
    f"blobs/{OURS.config.digest}",
    f"blobs/{THEIRS.layers[0].digest}",
    f"blobs/{ABSENT}",
    "blobs/md5:0",
    "blobs/uploads/",
    "tags/list",
    "tags/list?n=1",
    "tags/list?n=x",
    "tags/other",
    f"referrers/{OURS.digest}",
    f"referrers/{OURS.digest}?artifactType=a/b",
    "referrers/none",
    "unknown/1",
)
OTHERS = ("/", "/healthz", "/v2/", "/v2", "/v2/_catalog", "/v2/_catalog?n=1", "/v3/", "/v2/x", "/%")
HOSTS = ("", "docker.io", "no/host")
REPOSITORIES = (("docker.io", "library/app"), ("quay.io", "two/hosts"), ("b.io", "two/hosts"))


@pytest.fixture
def registry():
    view, store = MemoryView(), MemoryStore()
    for blob in OURS.blobs:
        store.add(blob.raw)
    document = parse_document(OURS.manifest.raw, OURS.manifest.media_type, "ours")
    for host, path in (
        ("docker.io", "library/app"),
        ("quay.io", "two/hosts"),
        ("b.io", "two/hosts"),
    ):
        view.put(Repository(host, path), document, "1", "2")
    held = Held()
    for blob in THEIRS.blobs:
        held.add(blob.raw)
    held.images["docker.io/library/app:theirs"] = THEIRS.digest
    runtime = MemoryRuntime(held)
    with served(view, store, ReadThrough(lambda: [runtime], "true"), answer_seconds=20.0) as found:
        yield found


def _targets():
    for name in NAMES:
        for last in LASTS:
            for host in HOSTS:
                joint = "&" if "?" in last else "?"
                yield f"/v2/{name}/{last}" + (f"{joint}ns={host}" if host else "")
    yield from OTHERS
    yield from (f"/v2/_catalog?ns={host}" for host in (*HOSTS, "index.docker.io", "quay.io"))


def _replies(registry, target, **headers):
    replies = [registry.ask(target, method, **headers) for method in ("HEAD", "GET", "HEAD")]
    for reply in replies:
        reply.headers.pop("Date")
    return replies


def test_head_and_get_agree_on_every_target(registry):
    statuses = set()
    for target in _targets():
        first, got, second = _replies(registry, target)
        assert (first.status, first.headers) == (got.status, got.headers), target
        assert (second.status, second.headers) == (got.status, got.headers), target
        assert int(got.headers["Content-Length"]) == len(got.body), target
        assert first.body == second.body == b"", target
        if got.status >= 400:
            assert json.loads(got.body)["errors"], target
        statuses.add(got.status)
    assert statuses == {200, 400, 404}


@pytest.mark.parametrize("ns", ["", "?ns=docker.io"])
def test_they_agree_on_conditions_too(registry, ns):
    found = {
        f"/v2/app/manifests/1{ns}": OURS.digest,
        f"/v2/app/manifests/{THEIRS.digest}{ns}": THEIRS.digest,
        f"/v2/app/blobs/{LAYER}{ns}": LAYER,
    }
    for target, digest in found.items():
        for header, value, status in (
            ("If_None_Match", f'"{digest}"', 304),
            ("If_None_Match", '"other"', 200),
            ("If_Match", '"other"', 412),
            ("If_Match", "*", 200),
        ):
            first, got, _ = _replies(registry, target, **{header: value})
            assert (first.status, first.headers) == (got.status, got.headers), (target, header)
            assert got.status == status
