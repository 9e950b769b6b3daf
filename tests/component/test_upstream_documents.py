"""Documents from registries upstream: what memory they and their tokens take."""

import json
from contextlib import contextmanager

import pytest

from airside.core.settings import KIB
from airside.core.upstream_config import Upstream
from airside.oci.model import OCI_INDEX, OCI_MANIFEST
from airside.registry.proxy import client as upstream_client
from airside.registry.proxy import pull_through as proxy
from support.images import random_image
from support.nodes import node_at
from support.upstreams import pulling_through, stubbed
from support.waiting import LIMIT_SECONDS

IMAGE = random_image("upstream", layers=1)
TAG = "/v2/app/manifests/1"


@pytest.fixture
def stub():
    with stubbed() as found:
        found.put(IMAGE, "1")
        yield found


@contextmanager
def site(tmp_path, stub, seconds=LIMIT_SECONDS):
    now = [1000.0]
    upstream = Upstream("docker.io", stub.url)
    changes = {"upstream": (upstream,), "upstream_seconds": seconds}
    with (
        node_at(tmp_path / "data", **changes) as node,
        pulling_through(node, lambda: now[0]) as (registry, pull_through),
    ):
        yield node, registry, pull_through, now


def test_a_manifest_from_upstream_waits_for_memory_and_then_counts_as_refused(tmp_path, stub):
    with site(tmp_path, stub, 0.2) as (node, registry, _, now):
        memory = node.document_memory
        taken = memory.ask(memory.total_bytes)
        answer = registry.ask(TAG)
        assert answer.status == 404
        assert b"other large documents" in answer.body
        assert memory.held_bytes == taken.amount
        memory.give_back(taken)
        now[0] += 10
        assert registry.ask(TAG).body == IMAGE.manifest.raw
        assert memory.held_bytes == 0


def test_a_manifest_from_upstream_is_in_a_file_while_it_arrives_and_reserves_its_parsing(
    tmp_path, stub, monkeypatch
):
    padding = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    raw = json.dumps(padding | {"annotations": {"a": "x" * 300 * KIB}}).encode()
    stub.held["manifests/large"] = (raw, OCI_INDEX)
    seen = []
    with site(tmp_path, stub) as (node, registry, _, _now):
        checked = proxy.checked_document

        def check(*arguments):
            seen.append(node.document_memory.held_bytes)
            return checked(*arguments)

        monkeypatch.setattr(proxy, "checked_document", check)
        writes = []
        write = upstream_client.DocumentBody.write
        monkeypatch.setattr(
            upstream_client.DocumentBody,
            "write",
            lambda body: (writes.append(body.size_bytes), write(body))[1],
        )
        assert registry.ask("/v2/app/manifests/large").body == raw
    assert seen[0] >= 4 * len(raw)
    assert writes


def test_a_list_of_referrers_that_takes_much_memory_is_left_out(tmp_path, stub):
    one = {"mediaType": OCI_MANIFEST, "size": 3, "digest": "sha256:" + "5" * 64}
    body = json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [one] * 5_000}
    ).encode()
    stub.held[f"referrers/{IMAGE.digest}"] = (body, OCI_INDEX)
    with site(tmp_path, stub) as (node, registry, _, _now):
        answer = registry.ask(f"/v2/app/referrers/{IMAGE.digest}")
        assert answer.status == 200
        assert json.loads(answer.body)["manifests"] == []
        assert node.document_memory.held_bytes == 0


def test_tokens_are_small_and_few(tmp_path, stub, monkeypatch):
    monkeypatch.setattr(upstream_client, "_MOST_TOKENS", 3)
    size = [100 * KIB]

    def act(handler):
        if handler.path.startswith("/token"):
            handler.say(200, json.dumps({"token": "t" * size[0], "expires_in": 300}).encode())
            return True
        if handler.headers.get("Authorization"):
            return False
        realm = f'Bearer realm="{handler.stub.url}/token",service="stub"'
        handler.say(401, Www_Authenticate=realm)
        return True

    stub.act = act
    with site(tmp_path, stub) as (_node, registry, pull_through, now):
        refused = registry.ask(TAG)
        assert refused.status == 404
        assert b"its token server sends more than 65536 bytes" in refused.body
        size[0] = 100
        now[0] += 10
        assert registry.ask(TAG).body == IMAGE.manifest.raw
        for number in range(6):
            registry.ask(f"/v2/app{number}/manifests/1")
        tokens = pull_through._upstreams.client("docker.io")._tokens
        assert len(tokens) == 3
        assert list(tokens)[-1].endswith("app5:pull")
