"""What the catalog lacks comes from a registry upstream: a stub that misbehaves as told."""

import http.client
import json
import sys
import threading
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

import pytest

from airside.catalog.pushes import PushedBlob
from airside.catalog.retention import Policy
from airside.core.errors import AirsideError
from airside.core.settings import Limits
from airside.core.upstream_config import Upstream
from airside.oci.reference import Repository
from airside.registry.http.request_access import Access
from airside.registry.proxy import upstreams
from airside.registry.proxy.fetch import Fetch
from airside.registry.rules.access import Rights, Rule
from support.images import oci_archive, random_image
from support.nodes import import_now, node_at, visible, wrong_blobs
from support.skopeo import run
from support.upstreams import Handler, pulling_through, stubbed, token_server
from support.waiting import LIMIT_SECONDS, wait_until

HOME = Repository("docker.io", "library/app")
IMAGE = random_image("upstream", layers=1, layer_bytes=3_000_000)
NEWER = random_image("upstream-newer", layers=1)
LAYER = IMAGE.layers[0]
TAG, DIGEST = "/v2/app/manifests/1", f"/v2/app/manifests/{IMAGE.digest}"
BLOB = f"/v2/app/blobs/{LAYER.digest}"
AWAY = Upstream("docker.io", "http://127.0.0.1:1")
PATIENCE = 2.0


@pytest.fixture
def stub():
    with stubbed() as found:
        found.put(IMAGE, "1")
        yield found


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def site(
    tmp_path, stub=None, clock=None, *, limits=None, access=None, seconds=LIMIT_SECONDS, **table
):
    """A node whose docker.io is the stub."""
    upstream = AWAY if stub is None else Upstream("docker.io", stub.url, **table)
    changes = {"upstream": (upstream,), "upstream_seconds": seconds, "grace_seconds": 0.0}
    with (
        node_at(tmp_path / "data", limits=limits or Limits(), **changes) as node,
        pulling_through(node, clock or Clock(), access) as (registry, _),
    ):
        yield node, registry
        assert wrong_blobs(node) == []


def same(registry, target, **headers):
    """HEAD says what GET does; gives the GET's."""
    head = registry.ask(target, "HEAD", **headers)
    got = registry.ask(target, "GET", **headers)
    for reply in (got, head):
        reply.headers.pop("Date")
    assert (head.status, head.headers, head.body) == (got.status, got.headers, b"")
    return got


# --- what is served


def test_an_image_comes_from_upstream_once_and_is_ours_from_then_on(tmp_path, stub):
    full = f"/v2/docker.io/library/app/manifests/{IMAGE.digest}?"
    with site(tmp_path, stub) as (node, registry):
        for target in (f"{TAG}?ns=docker.io", TAG, DIGEST, full):
            found = same(registry, target)
            assert (found.status, found.body) == (200, IMAGE.manifest.raw)
            assert found.headers["Content-Type"] == IMAGE.manifest.media_type
        for blob in IMAGE.blobs:
            found = same(registry, f"/v2/app/blobs/{blob.digest}?ns=docker.io")
            assert (found.status, found.body) == (200, blob.raw)
        assert registry.ask(BLOB, Range="bytes=5-9").body == LAYER.raw[5:10]
        stub.act = lambda handler: handler.say(500) or True
        for target in (TAG, DIGEST, BLOB, f"{BLOB}?ns=docker.io"):
            assert registry.ask(target).status == 200
        assert stub.asked("manifests") == 1
        assert stub.asked(str(LAYER.digest)) == 1
        [row] = node.catalog.images()
        assert (row.reference, row.source, row.origin) == (f"{HOME}:1", "peer", stub.url)
        assert row.archives == ()
        assert node.catalog.tag_states() == []  # no runtime is told of it
        assert node.catalog.states() == {}
        node.importer.write_index()
    for words in (("images",), ("explain", f"{HOME}:1")):
        told = run(sys.executable, "-m", "airside", *words, "--data", tmp_path / "data")
        assert f"pulled through from {stub.url}" in told
    with site(tmp_path) as (node, registry):  # after a restart, with the upstream away
        assert registry.ask(BLOB).body == LAYER.raw
        assert same(registry, TAG).body == IMAGE.manifest.raw


def test_a_range_and_a_condition_hold_for_what_is_only_coming(tmp_path, stub):
    with site(tmp_path, stub) as (_node, registry):
        head = registry.ask(BLOB, "HEAD")
        assert (head.status, int(head.headers["Content-Length"])) == (200, len(LAYER.raw))
        assert stub.asked("blobs") == 0
        past = registry.ask(BLOB, Range=f"bytes={len(LAYER.raw)}-")
        assert past.status == 416
        assert registry.ask(BLOB, If_None_Match=f'"{LAYER.digest}"').status == 304
        part = registry.ask(BLOB, Range="bytes=2000000-2000009")
        assert (part.status, part.body) == (206, LAYER.raw[2_000_000:2_000_010])
        wait_until(lambda: registry.ask(BLOB).body == LAYER.raw)
        assert stub.asked("blobs") == 1


def test_many_clients_wait_for_one_fetch_and_read_it_while_it_comes(tmp_path, stub):
    release = threading.Event()

    def slowly(handler: Handler) -> bool:
        if "/blobs/" not in handler.path:
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(LAYER.raw)))
        handler.end_headers()
        handler.wfile.write(LAYER.raw[:2_000_000])
        handler.wfile.flush()
        assert release.wait(LIMIT_SECONDS)
        handler.wfile.write(LAYER.raw[2_000_000:])
        return True

    stub.act = slowly
    with site(tmp_path, stub) as (_node, registry), ThreadPoolExecutor(12) as pool:
        manifests = [pool.submit(registry.ask, TAG) for _ in range(6)]
        assert {reply.result().body for reply in manifests} == {IMAGE.manifest.raw}
        host, _, port = registry.address.partition(":")
        with closing(http.client.HTTPConnection(host, int(port), timeout=LIMIT_SECONDS)) as first:
            first.request("GET", BLOB)
            answer = first.getresponse()
            assert answer.read(1_000_000) == LAYER.raw[:1_000_000]  # long before it is whole
            others = [pool.submit(registry.ask, BLOB) for _ in range(6)]
            with closing(
                http.client.HTTPConnection(host, int(port), timeout=LIMIT_SECONDS)
            ) as gone:
                gone.request("GET", BLOB)
                gone.getresponse().read(10)
            wait_until(lambda: registry.ask(BLOB, "HEAD").status == 200)
            release.set()
            assert answer.read() == LAYER.raw[1_000_000:]
        assert {reply.result().body for reply in others} == {LAYER.raw}
    assert stub.asked("manifests") == 1
    assert stub.asked("blobs") == 1


def test_a_tag_is_asked_for_again_and_kept_while_the_upstream_is_away(tmp_path, stub):
    clock = Clock()
    with site(tmp_path, stub, clock) as (node, registry):
        assert registry.ask(TAG).body == IMAGE.manifest.raw
        stub.put(NEWER, "1")
        assert registry.ask(TAG).body == IMAGE.manifest.raw
        clock.now += 61
        assert same(registry, TAG).body == NEWER.manifest.raw
        asked = len(stub.seen)
        clock.now += 61
        assert registry.ask(TAG).body == NEWER.manifest.raw
        assert [how for how, _, _ in stub.seen[asked:]] == ["HEAD"]  # no body for what is known
        stub.act = lambda handler: handler.say(503) or True
        clock.now += 61
        assert same(registry, TAG).body == NEWER.manifest.raw
        failures = node.meters.read()["airside_pull_through_failures_total"]
        assert sum(failures.values()) == 1
        stub.act, stub.tells = None, False
        clock.now += 61
        assert same(registry, TAG).body == NEWER.manifest.raw
        del stub.held["manifests/1"]
        clock.now += 61
        assert registry.ask(TAG).status == 200
        assert visible(node) == {f"{HOME}:1": NEWER.digest}


def test_what_was_dropped_or_pushed_is_never_overruled(tmp_path, stub):
    clock = Clock()
    with site(tmp_path, stub, clock) as (node, registry):
        assert registry.ask(TAG).body == IMAGE.manifest.raw
        archive = tmp_path / "newer.tar"
        oci_archive(archive, {"app:1": NEWER})
        import_now(node, archive)
        assert registry.ask(TAG).body == NEWER.manifest.raw
        assert len(node.catalog.tag_states()) == 1
        for _ in range(2):
            clock.now += 61
            assert same(registry, f"{TAG}?ns=docker.io").body == NEWER.manifest.raw
        assert stub.asked("manifests/1") == 1
        name = Repository("", "own/app")
        node.catalog.pushes.record([PushedBlob(name, LAYER.digest, len(LAYER.raw))], 0.0)
        for target in ("/v2/own/app/manifests/1", f"/v2/own/app/manifests/{IMAGE.digest}"):
            assert registry.ask(target).status == 404
        assert registry.ask("/v2/docker.io/own/app/manifests/1").status == 200
        assert stub.asked("own/app") == 1


def test_an_upstream_does_not_take_the_short_name_of_an_image_dropped_for_another(tmp_path, stub):
    stub.put(IMAGE, "2")
    with site(tmp_path, stub) as (node, registry):
        archive = tmp_path / "dropped.tar"
        oci_archive(archive, {"registry.example/library/app:1": NEWER})
        import_now(node, archive)
        for target in (
            "/v2/library/app/manifests/1",
            "/v2/registry.example/library/app/manifests/1",
        ):
            assert registry.ask(target).body == NEWER.manifest.raw
        assert stub.asked("manifests/1") == 0
        assert registry.ask("/v2/library/app/manifests/2").body == IMAGE.manifest.raw


def test_referrers_are_joined_with_those_upstream(tmp_path, stub):
    said = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 3}
    said |= {"digest": "sha256:" + "5" * 64, "artifactType": "sbom/x"}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json"}
    body = json.dumps(index | {"manifests": [said]}).encode()
    stub.held[f"referrers/{IMAGE.digest}"] = (body, index["mediaType"])
    target = f"/v2/app/referrers/{IMAGE.digest}"
    with site(tmp_path, stub) as (_node, registry):
        assert json.loads(same(registry, target).body)["manifests"] == [said]
        other = registry.ask(f"{target}?artifactType=other")
        assert json.loads(other.body)["manifests"] == []
        absent = same(registry, f"/v2/app/referrers/{NEWER.digest}")
        assert (absent.status, json.loads(absent.body)["manifests"]) == (200, [])
    assert stub.asked("referrers") == 2


def test_what_nobody_asks_for_any_more_goes(tmp_path, stub):
    with site(tmp_path, stub) as (node, registry):
        assert registry.ask(TAG).status == 200
        assert registry.ask(BLOB).status == 200
        keep = node.settings.upstream_keep_seconds
        node.cache_writer.touch([f"{HOME}:1"])
        now = node.clock()
        found = node.catalog.collect(Policy(now + keep - 60, 1, 0.0, upstream_keep_seconds=keep))
        assert found.items == ()
        found = node.catalog.collect(Policy(now + keep + 60, 1, 0.0, upstream_keep_seconds=keep))
        assert [item.reference for item in found.items] == [f"{HOME}:1"]
        assert visible(node) == {}


def test_where_space_is_low_it_goes_before_what_cannot_be_had_again(tmp_path, stub):
    with site(tmp_path, stub) as (node, registry):
        assert registry.ask(TAG).status == 200
        archive = tmp_path / "newer.tar"
        oci_archive(archive, {"newer:1": NEWER})
        import_now(node, archive)
        freed = node.garbage.make_room(node.clock(), short_bytes=1 << 60)
        assert freed
        assert set(visible(node).values()) == {NEWER.digest}


def test_who_may_not_pull_a_repository_gets_nothing_of_it_from_upstream(tmp_path, stub):
    access = Access(Rights((Rule(("docker.io/team/**",), frozenset({"pull"})),)))
    with site(tmp_path, stub, access=access) as (_node, registry):
        for target in (TAG, f"{TAG}?ns=docker.io", DIGEST, BLOB):
            assert same(registry, target).status == 404
        assert stub.seen == []
        assert registry.ask("/v2/team/app/manifests/1").status == 200
        assert registry.ask(BLOB.replace("/app/", "/team/app/")).body == LAYER.raw
        assert registry.ask(BLOB).status == 404  # though the store has it


# --- upstreams that misbehave


def never_whole(registry, target=BLOB):
    """The answer is cut off, or is a 404 if the fetch had failed before it began."""
    try:
        found = registry.ask(target)
    except (http.client.IncompleteRead, ConnectionResetError):
        return
    assert found.status == 404


def test_wrong_bytes_never_end_a_response_and_are_not_kept(tmp_path, stub, caplog):
    wrong = bytearray(LAYER.raw)
    wrong[7] ^= 1
    stub.held[f"blobs/{LAYER.digest}"] = (bytes(wrong), "")
    config = IMAGE.config.digest
    stub.held[f"blobs/{config}"] = (b"{}", "")
    stub.held[f"manifests/{NEWER.digest}"] = (IMAGE.manifest.raw, IMAGE.manifest.media_type)
    clock = Clock()
    with site(tmp_path, stub, clock) as (node, registry):
        never_whole(registry)
        for target in (f"/v2/app/blobs/{config}", f"/v2/app/manifests/{NEWER.digest}"):
            assert registry.ask(target).status == 404
        for _ in range(3):  # it isn't fetched again and again
            assert registry.ask(BLOB).status == 404
        assert stub.asked(str(LAYER.digest)) == 1
        assert list(node.store.digests()) == []
        assert list((tmp_path / "data" / "ingest").iterdir()) == []
        assert any("sends wrong bytes" in record.message for record in caplog.records)
        stub.put(IMAGE, "1")
        stub.held[f"blobs/{LAYER.digest}"] = (LAYER.raw, "")
        clock.now += upstreams.WRONG_SECONDS + 1
        assert registry.ask(BLOB).body == LAYER.raw


def test_what_failed_before_its_answer_began_is_a_404(tmp_path, stub, monkeypatch):
    """Fails on the code of before, which said that the client had sent wrong bytes."""
    answered = Fetch.until_answered

    async def late(fetch: Fetch) -> None:
        with suppress(AirsideError):
            await fetch.until_stored()
        await answered(fetch)

    monkeypatch.setattr(Fetch, "until_answered", late)
    stub.held[f"blobs/{LAYER.digest}"] = (bytes(len(LAYER.raw)), "")
    with site(tmp_path, stub) as (_node, registry):
        found = registry.ask(f"{BLOB}?ns=docker.io")
    assert found.status == 404
    assert b"the content hashes to" in found.body


def test_a_cut_transfer_goes_on_where_it_stopped_or_cuts_the_client_off(tmp_path, stub):
    resumes = True

    def cut(handler: Handler) -> bool:
        if "/blobs/" not in handler.path:
            return False
        if resumes and handler.headers.get("Range"):
            handler.say(206, LAYER.raw)
        else:
            handler.cut(LAYER.raw, 1_500_000)
        return True

    stub.act = cut
    with site(tmp_path / "a", stub) as (_node, registry):
        assert registry.ask(BLOB).body == LAYER.raw
        assert stub.asked("blobs") == 2
    resumes = False
    with site(tmp_path / "b", stub) as (node, registry):
        never_whole(registry)
        assert list(node.store.digests()) == []


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_refusal_is_a_404_that_says_why_and_is_not_asked_for_at_once(tmp_path, stub, status):
    stub.act = lambda handler: handler.say(status) or True
    clock = Clock()
    with site(tmp_path, stub, clock) as (_node, registry):
        for _ in range(3):
            for target in (TAG, DIGEST, BLOB):
                found = registry.ask(f"{target}?ns=docker.io")
                assert found.status == 404
        message = json.loads(registry.ask(TAG).body)["errors"][0]["message"]
        assert str(status) in message or "did not answer lately" in message
        assert len(stub.seen) <= 3
        stub.act = None
        clock.now += upstreams.PAUSE_SECONDS + 1
        assert registry.ask(TAG).status == 200


def test_an_upstream_that_says_nothing_delays_one_answer_and_no_other(tmp_path, stub):
    release = threading.Event()
    stub.act = lambda _handler: release.wait(LIMIT_SECONDS)
    try:
        with site(tmp_path, stub, seconds=PATIENCE) as (_node, registry):
            started = time.monotonic()
            assert registry.ask(f"{TAG}?ns=docker.io").status == 404
            assert time.monotonic() - started >= PATIENCE
            asked = len(stub.seen)
            for target in (TAG, DIGEST, BLOB, "/v2/app/manifests/2"):
                assert same(registry, target).status == 404
            assert len(stub.seen) == asked
            release.set()
    finally:
        release.set()


def test_an_upstream_that_is_away_is_a_404_and_what_is_dropped_is_served(tmp_path):
    with site(tmp_path) as (node, registry):
        for target in (TAG, DIGEST, BLOB):
            assert same(registry, target).status == 404
        archive = tmp_path / "app.tar"
        oci_archive(archive, {"app:1": IMAGE})
        import_now(node, archive)
        assert registry.ask(TAG).body == IMAGE.manifest.raw
        assert registry.ask(BLOB).body == LAYER.raw


def test_offline_asks_nobody(tmp_path, stub):
    with site(tmp_path, stub, offline=True) as (_node, registry):
        for target in (TAG, DIGEST, BLOB):
            assert same(registry, target).status == 404
        assert registry.ask("/v2/quay.io/some/app/manifests/1").status == 404
    assert stub.seen == []


# --- tokens, redirects, limits


def test_a_token_is_got_with_the_password_and_neither_is_logged(tmp_path, stub, caplog):
    caplog.set_level("DEBUG")
    credentials = tmp_path / "credentials"
    credentials.write_text('username = "me"\npassword = "wrong-word"\n')
    stub.act = token_server("Basic " + b64encode(b"me:pass-word").decode())
    clock = Clock()
    with site(tmp_path, stub, clock, credentials=credentials) as (_node, registry):
        assert registry.ask(TAG).status == 404
        credentials.write_text('username = "me"\npassword = "pass-word"\n# re-read\n')
        clock.now += 10
        assert registry.ask(TAG).body == IMAGE.manifest.raw
        assert registry.ask(BLOB).body == LAYER.raw
        tokens = [path for _, path, _ in stub.seen if path.startswith("/token")]
        assert tokens[-1] == "/token?service=stub&scope=repository%3Alibrary%2Fapp%3Apull"
        assert len(tokens) == 2  # a token is used again
        credentials.write_text("password = pass-word\n")
        assert registry.ask("/v2/app/manifests/2").status == 404
    for secret in ("wrong-word", "pass-word", "secret-token"):
        assert secret not in caplog.text


def test_a_redirect_is_followed_without_what_is_secret(tmp_path, stub):
    credentials = tmp_path / "credentials"
    credentials.write_text('token = "secret-token"\n')
    with stubbed() as storage:
        storage.put(IMAGE, "1")

        def redirect(handler: Handler) -> bool:
            if "/blobs/" in handler.path:
                handler.say(307, Location=f"{storage.url}{handler.path}")
                return True
            return False

        stub.act = redirect
        with site(tmp_path, stub, credentials=credentials) as (_node, registry):
            assert registry.ask(TAG).status == 200
            assert same(registry, BLOB).body == LAYER.raw
        assert {authorization for _, _, authorization in storage.seen} == {""}
        assert {authorization for _, _, authorization in stub.seen} == {"Bearer secret-token"}
        stub.act = lambda handler: handler.say(302, Location=handler.path) or True
        with site(tmp_path / "b", stub) as (_node, registry):
            assert registry.ask(TAG).status == 404


def test_limits_hold(tmp_path, stub):
    limits = Limits(blob_bytes=2_000_000, document_bytes=1000)
    stub.held["manifests/large"] = (b" " * 2000 + IMAGE.manifest.raw, IMAGE.manifest.media_type)
    with site(tmp_path, stub, limits=limits) as (node, registry):
        assert registry.ask(BLOB).status == 404
        assert registry.ask("/v2/app/manifests/large").status == 404
        assert list(node.store.digests()) == []


def test_a_blob_that_the_store_has_is_linked_if_the_upstream_has_it_too(tmp_path, stub):
    with site(tmp_path, stub) as (_node, registry):
        assert registry.ask(BLOB).body == LAYER.raw
        other = BLOB.replace("/app/", "/other/")
        assert registry.ask(other).body == LAYER.raw
        assert stub.asked("blobs") == 1
        del stub.held[f"blobs/{LAYER.digest}"]
        third = same(registry, BLOB.replace("/app/", "/third/"))
        assert third.status == 404
