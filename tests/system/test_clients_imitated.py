"""Clients that no Debian release has, or not in all their ways: their requests, one after another.

Each row is what a client sends to push, written down from its documentation and from what such
clients are known to do. `{location}` is what the last answer said; an answer must have the status
and the headers that the client looks at. docs/clients.md says which client is in which row.
"""

import dataclasses
import http.client
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import pytest

from airside.oci.model import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST
from support.agent import Agent
from support.images import TestBlob, TestImage, compact, index_of, random_image, sha256
from support.waiting import LIMIT_SECONDS

pytestmark = pytest.mark.system

OCTETS = {"Content-Type": "application/octet-stream"}
CONFIG = "application/vnd.oci.image.config.v1+json"
CACHE_CONFIG = "application/vnd.buildkit.cacheconfig.v0"
HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
HELM_CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
HELM_PROOF = "application/vnd.cncf.helm.chart.provenance.v1.prov"


@dataclass(frozen=True)
class Step:
    """One request, and what its answer must be."""

    method: str
    target: str
    status: int
    body: bytes | Sequence[bytes] = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    says: Mapping[str, str] = field(default_factory=dict)


def digest_of(blob: TestBlob) -> str:
    return str(blob.digest)


def image(seed: str, media: str = "oci") -> TestImage:
    return random_image(f"imitated {seed}", layers=1, media=media)


def artifact(config: TestBlob, *layers: TestBlob) -> TestBlob:
    """An OCI manifest of these."""
    document = {
        "schemaVersion": 2,
        "config": config.descriptor,
        "layers": [layer.descriptor for layer in layers],
        "annotations": {"org.opencontainers.image.version": "1.2.3+build"},
    }
    return TestBlob(compact(document), OCI_MANIFEST)


def put_manifest(name: str, manifest: TestBlob, reference: str, **headers: str) -> Step:
    told = {"Content-Type": headers.pop("content_type", manifest.media_type), **headers}
    says = {"Docker-Content-Digest": digest_of(manifest)}
    return Step("PUT", f"/v2/{name}/manifests/{reference}", 201, manifest.raw, told, says)


def two_requests(name: str, blob: TestBlob, start: str = "blobs/uploads/") -> Iterator[Step]:
    """HEAD, POST, PUT with the whole body: containerd's library, oras's, and crane's."""
    yield Step("HEAD", f"/v2/{name}/blobs/{blob.digest}", 404)
    yield Step("POST", f"/v2/{name}/{start}", 202, says={"Location": "/v2/"})
    digest = digest_of(blob)
    put = "{location}?digest=" + digest.replace(":", "%3A")
    yield Step("PUT", put, 201, blob.raw, OCTETS, {"Docker-Content-Digest": digest})
    length = {"Content-Length": str(blob.size_bytes)}
    yield Step("HEAD", f"/v2/{name}/blobs/{digest}", 200, says=length)


def streamed(name: str, blob: TestBlob, other: str) -> Iterator[Step]:
    """Docker's older store: mount, PATCH of an unknown length without any range, empty PUT."""
    digest = digest_of(blob)
    mount = f"/v2/{name}/blobs/uploads/?from={other.replace('/', '%2F')}&mount={digest}"
    yield Step("POST", mount, 202, says={"Docker-Upload-UUID": "", "Range": "0-0"})
    half = blob.size_bytes // 2
    pieces = (blob.raw[:half], blob.raw[half:])
    range_said = {"Range": f"0-{blob.size_bytes - 1}", "Location": "/v2/"}
    yield Step("PATCH", "{location}", 202, pieces, says=range_said)
    yield Step("PUT", "{location}?digest=" + digest, 201, says={"Docker-Content-Digest": digest})


def chunked(name: str, blob: TestBlob) -> Iterator[Step]:
    """regclient's way: chunks with ranges, one of them twice, the last with the PUT."""
    third = blob.size_bytes // 3
    ranges = [(0, third), (third, 2 * third), (2 * third, blob.size_bytes)]
    sent = [(blob.raw[a:b], {**OCTETS, "Content-Range": f"{a}-{b - 1}"}) for a, b in ranges]
    so_far = {"Range": f"0-{third - 1}"}
    yield Step("POST", f"/v2/{name}/blobs/uploads/", 202)
    yield Step("PATCH", "{location}", 202, *sent[0], so_far)
    yield Step("PATCH", "{location}", 416, *sent[0], so_far)
    yield Step("GET", "{location}", 204, says=so_far)
    yield Step("PATCH", "{location}", 202, *sent[1])
    yield Step("PUT", "{location}?digest=" + digest_of(blob), 201, *sent[2])


def helm(name: str) -> Iterator[Step]:
    """A chart with its proof; `+` of a version is `_` in the tag. Pulled again by its digest."""
    config = TestBlob(b'{"name":"chart","version":"1.2.3+build"}', HELM_CONFIG)
    layers = (TestBlob(b"a chart", HELM_CHART), TestBlob(b"a proof", HELM_PROOF))
    manifest, tag = artifact(config, *layers), "1.2.3_build"
    digest = digest_of(manifest)
    for blob in (*layers, config):
        yield from two_requests(name, blob)
    yield Step("HEAD", f"/v2/{name}/manifests/{tag}", 404)
    yield put_manifest(name, manifest, digest)
    yield put_manifest(name, manifest, tag)
    accept = {"Accept": f"{OCI_MANIFEST}, {OCI_INDEX}, */*"}
    told = {"Docker-Content-Digest": digest, "Content-Type": OCI_MANIFEST}
    yield Step("HEAD", f"/v2/{name}/manifests/{tag}", 200, headers=accept, says=told)
    yield Step("GET", f"/v2/{name}/manifests/{digest}", 200, headers=accept, says=told)
    yield Step("GET", f"/v2/{name}/tags/list?n=100", 200)


def older_docker(name: str) -> Iterator[Step]:
    """Schema 2 of a daemon, with a charset behind the type, then a manifest list of the client."""
    pushed = image("docker", "docker")
    for blob in (*pushed.layers, pushed.config):
        yield Step("HEAD", f"/v2/{name}/blobs/{blob.digest}", 404)
        yield from streamed(name, blob, "elsewhere/base")
    with_charset = f"{pushed.manifest.media_type}; charset=utf-8"
    yield put_manifest(name, pushed.manifest, "1", content_type=with_charset)
    both = index_of([pushed], media="docker").index
    yield put_manifest(name, both, "both")
    accept = {"Accept": DOCKER_LIST, "Docker-Distribution-Api-Version": "registry/2.0"}
    told = {"Content-Type": DOCKER_LIST, "Docker-Content-Digest": digest_of(both)}
    yield Step("HEAD", f"/v2/{name}/manifests/both", 200, headers=accept, says=told)
    layer = pushed.layers[0]
    part = {"Content-Range": f"bytes 10-{layer.size_bytes - 1}/{layer.size_bytes}"}
    resumed = {"RANGE": "bytes=10-"}  # a pull that goes on
    yield Step("GET", f"/v2/{name}/blobs/{layer.digest}", 206, headers=resumed, says=part)


def regclient(name: str) -> Iterator[Step]:
    """regctl: chunks, a manifest by digest and by tag, the tag deleted alone."""
    pushed = image("regclient")
    for blob in (*pushed.layers, pushed.config):
        yield from chunked(name, blob)
    yield put_manifest(name, pushed.manifest, digest_of(pushed.manifest))
    yield put_manifest(name, pushed.manifest, "1")
    yield put_manifest(name, pushed.manifest, "2")
    yield Step("DELETE", f"/v2/{name}/manifests/2", 202)
    yield Step("HEAD", f"/v2/{name}/manifests/1", 200)
    yield Step("GET", f"/v2/{name}/referrers/{pushed.digest}", 200)


def buildkit(name: str) -> Iterator[Step]:
    """`--cache-to type=registry`: an index that lists layers and a config, not manifests."""
    config = TestBlob(b'{"layers":[],"records":[]}', CACHE_CONFIG)
    layer = image("buildkit").layers[0]
    entries = [blob.descriptor for blob in (layer, config)]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    cache = TestBlob(compact(document), OCI_INDEX)
    for blob in (layer, config):
        yield from two_requests(name, blob)
    yield put_manifest(name, cache, "cache")
    told = {"Content-Type": OCI_INDEX, "Docker-Content-Digest": digest_of(cache)}
    yield Step("GET", f"/v2/{name}/manifests/cache", 200, says=told)
    new = artifact(dataclasses.replace(config), layer)  # image-manifest=true, the newer form
    yield put_manifest(name, new, "cache")


def kaniko_and_jib(name: str) -> Iterator[Step]:
    """No slash after `uploads`, a mount without `from`, a manifest with no type of its own."""
    pushed = image("jib")
    for blob in (*pushed.layers, pushed.config):
        yield from two_requests(name, blob, "blobs/uploads")
    told = {"content_type": "application/json"}
    yield put_manifest(name, pushed.manifest, "1", **told)
    digest = digest_of(pushed.layers[0])
    there = {"Location": f"/v2/{name}/more/blobs/{digest}"}
    yield Step("POST", f"/v2/{name}/more/blobs/uploads/?mount={digest}", 201, says=there)
    get = {"Content-Type": OCI_MANIFEST, "ETag": f'"{pushed.digest}"'}
    yield Step("GET", f"/v2/{name}/manifests/1", 200, headers={"Accept": "*/*"}, says=get)


ROWS = (helm, older_docker, regclient, buildkit, kaniko_and_jib)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_a_client_is_answered_as_it_expects(shared_agent: Agent, row) -> None:
    host, _, port = shared_agent.registry.rpartition(":")
    location = ""
    with closing(http.client.HTTPConnection(host, int(port), timeout=LIMIT_SECONDS)) as connection:
        for step in row(f"imitated/{row.__name__}"):
            target = step.target.replace("{location}", location)
            body = step.body if isinstance(step.body, bytes) else iter(step.body)
            connection.request(step.method, target, body, dict(step.headers))
            answer = connection.getresponse()
            data = answer.read()
            assert answer.status == step.status, (step.method, target, answer.status, data)
            for key, value in step.says.items():
                assert value in (answer.getheader(key) or ""), (step.method, target, key)
            if step.method == "GET" and answer.getheader("Docker-Content-Digest"):
                assert str(sha256(data)) == answer.getheader("Docker-Content-Digest") or (
                    answer.status == 206
                )
            location = answer.getheader("Location") or location
    assert f"imitated/{row.__name__}" in {n.rpartition(":")[0] for n in shared_agent.images()}
    assert not [line for line in shared_agent.complaints() if "imitated" in line]
