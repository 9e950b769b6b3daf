"""The guard in front of the registry: logins, rules, TLS, limits, with real clients."""

import asyncio
import hashlib
import json
import logging
import shutil
import socket
import ssl
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

import pytest
from aiohttp import web

from airside.core.errors import ConfigError
from airside.oci.model import parse_document
from airside.oci.reference import Repository
from airside.ports.content import Connection, RuntimeBlob, RuntimeTag, StoredDocument
from airside.registry.auth import login as logins
from airside.registry.auth.files import SecurityFiles, check_exposure
from airside.registry.http import connections
from airside.registry.http import throttle as pace
from airside.registry.http.blob_response import BlobResponse, Transfers
from airside.registry.http.throttle import iter_body
from airside.registry.rules.access import Rights, Rule
from airside.registry.rules.answers import Part
from airside.registry.rules.visibility import VisibleContent
from support.guarded import Authority, Guarded, basic, htpasswd, replace_files, settings
from support.images import random_image
from support.memory import MemoryStore, MemoryView
from support.skopeo import digests_of, skopeo
from support.waiting import LIMIT_SECONDS, wait_until
from support.wire import Wire, request

TEAM = Repository("registry.example", "team/app")
PUBLIC = Repository("docker.io", "library/public")
TOKEN = "airside_" + "t" * 43
IMAGE, OTHER = random_image("team"), random_image("public")

ACCESS = f"""
[users.ann]
rules = [{{ repositories = ["registry.example/team/**"], actions = ["pull", "push", "delete"] }}]
[users."*"]
rules = [{{ repositories = ["docker.io/**"], actions = ["pull"] }}]
[tokens.ci]
sha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"
rules = [{{ repositories = ["registry.example/team/*"], actions = ["pull", "push"] }}]
"""
ANN, BOB = basic("ann", "hunter2"), basic("bob", "swordfish")
TEAM_MANIFEST = "/v2/registry.example/team/app/manifests/1"
PUBLIC_MANIFEST = "/v2/public/manifests/1"
UPLOAD = "/v2/registry.example/team/app/blobs/uploads/"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def content():
    view, store = MemoryView(), MemoryStore()
    for repository, image in ((TEAM, IMAGE), (PUBLIC, OTHER)):
        document = parse_document(image.manifest.raw, image.manifest.media_type, "test")
        view.put(repository, document, "1")
        for blob in image.blobs:
            store.add(blob.raw)
    return view, store


@pytest.fixture
def files(tmp_path):
    (tmp_path / "htpasswd").write_text(htpasswd(ann="hunter2", bob="swordfish"))
    (tmp_path / "access.toml").write_text(ACCESS)
    return {"htpasswd": tmp_path / "htpasswd", "access": tmp_path / "access.toml"}


def passed(reply):
    """Whether the guard let it through; what is behind may have said no."""
    return reply.status not in {401, 403, 413, 429}


def audits(caplog):
    return [record.fields for record in caplog.records if record.name == "airside.audit"]


# --- who may what


def test_users_tokens_and_nobody_each_see_what_is_theirs(content, files, caplog):
    caplog.set_level(logging.INFO, "airside.audit")
    with Guarded(*content, settings(**files)) as registry:
        ask = registry.ask
        for target in ("/v2/", PUBLIC_MANIFEST, TEAM_MANIFEST, "/v2/_catalog"):
            refused = ask(target)
            assert (refused.status, refused.code) == (401, "UNAUTHORIZED")
            assert refused.challenge == 'Basic realm="airside"'
            assert ask(target, "HEAD").status == 401
        assert ask("/healthz").body == b"ok\n"
        assert ask("/").status == 200
        assert not audits(caplog)  # nobody tried anything

        for who, team, public in (
            (ANN, 200, 403),
            (BOB, 404, 200),  # his rules let him look at docker.io, where it is not
            ({"Authorization": f"Bearer {TOKEN}"}, 200, 403),
            (basic("whoever", TOKEN), 200, 403),
        ):
            assert ask("/v2/", headers=who).status == 200
            assert ask(TEAM_MANIFEST, headers=who).status == team
            assert ask("/v2/team/app/manifests/1", headers=who).status == team
            exact = ask("/v2/team/app/manifests/1?ns=registry.example", headers=who).status
            assert exact == (403, 200)[team == 200]
            assert ask(PUBLIC_MANIFEST, headers=who).status == public
            blob = f"/v2/registry.example/team/app/blobs/{IMAGE.layers[0].digest}"
            assert ask(blob, headers=who).status == team
            listed = json.loads(ask("/v2/_catalog", headers=who).body)["repositories"]
            expected = ["registry.example/team/app"] if team == 200 else []
            assert listed == expected + ["docker.io/library/public"] * (public == 200)
        denied = audits(caplog)
        assert {entry["event"] for entry in denied} == {"denied"}
        assert {entry["user"] for entry in denied} == {"ann", "bob", "ci"}
        assert {entry["client"] for entry in denied} == {"127.0.0.1"}
    for secret in ("hunter2", "swordfish", TOKEN, ANN["Authorization"]):
        assert secret not in caplog.text


def test_writing_needs_the_action_on_the_repository(content, files):
    mount = f"{UPLOAD}?mount={OTHER.layers[0].digest}&from="
    token = {"Authorization": f"Bearer {TOKEN}"}
    with Guarded(*content, settings(**files)) as registry:
        ask = registry.ask
        assert passed(ask(UPLOAD, "POST", ANN))
        assert passed(ask(UPLOAD, "POST", token))
        assert ask(UPLOAD, "POST", BOB).status == 403
        assert ask(UPLOAD, "POST").status == 401
        assert ask(f"{UPLOAD}x", "GET", BOB).status == 403
        assert ask("/v2/team/app/blobs/uploads/", "POST", ANN).status == 403  # another repository
        assert passed(ask("/v2/team/app/blobs/uploads/?ns=registry.example", "POST", ANN))
        assert passed(ask(TEAM_MANIFEST, "DELETE", ANN))
        assert ask(TEAM_MANIFEST, "DELETE", token).status == 403
        assert ask("/v2/team/app/manifests/1", "DELETE", BOB).status == 403
        assert passed(ask(f"{mount}registry.example/team/app", "POST", ANN))
        assert passed(ask(f"{mount}public", "POST", ANN))  # as an upload: tests/system
        assert ask("/v2/%72egistry.example/team/app/manifests/1", "PUT", BOB).status == 403
        assert ask("/v2/registry.example//team/app/manifests/1", "PUT", BOB).status == 400


def test_without_any_setting_everything_is_as_before(content):
    with Guarded(*content) as registry:
        assert registry.ask("/v2/").status == 200
        assert registry.ask("/v2/", headers=BOB).status == 200  # logins of elsewhere do no harm
        assert registry.ask(TEAM_MANIFEST).body == IMAGE.manifest.raw
        assert passed(registry.ask(UPLOAD, "POST"))
    with Guarded(*content, is_loopback=False) as registry:
        assert registry.ask(TEAM_MANIFEST).status == 200
        refused = registry.ask(UPLOAD, "POST")
        assert (refused.status, refused.code, refused.challenge) == (403, "DENIED", "")


def test_rules_for_anonymous_clients_alone(content, tmp_path):
    path = tmp_path / "access.toml"
    path.write_text('[anonymous]\nrules=[{repositories=["docker.io/**"], actions=["pull"]}]')
    with Guarded(*content, settings(access=path)) as registry:
        assert registry.ask("/v2/").status == 200
        assert registry.ask(PUBLIC_MANIFEST).status == 200
        assert registry.ask("/v2/team/app/manifests/1").status == 404
        hidden = registry.ask("/v2/team/app/manifests/1?ns=registry.example")
        assert (hidden.status, hidden.code) == (403, "DENIED")
        path.write_text(path.read_text() + ACCESS)
        assert registry.secured.reload()
        assert registry.ask(PUBLIC_MANIFEST).status == 200
        assert registry.ask("/v2/team/app/manifests/1").challenge.startswith("Bearer ")
        assert registry.ask("/v2/team/app/manifests/1?ns=docker.io").status == 404


def test_a_read_only_registry_refuses_writing_to_everybody(content, files):
    with Guarded(*content, settings(**files, read_only=True)) as registry:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            path = TEAM_MANIFEST if method in {"PUT", "DELETE"} else UPLOAD
            refused = registry.ask(path, method, ANN)
            assert (refused.status, refused.code) == (405, "UNSUPPORTED")
        assert registry.ask(TEAM_MANIFEST, headers=ANN).status == 200


def test_bodies_that_are_too_large_are_refused_by_their_length(content):
    with Guarded(*content) as registry:
        with registry_connection(registry) as sock:
            head = f"PUT {TEAM_MANIFEST} HTTP/1.1\r\nHost: x\r\nContent-Length: {5 << 20}\r\n\r\n"
            sock.sendall(head.encode())
            assert b" 413 " in sock.recv(4096)
        with registry_connection(registry) as sock:
            sock.sendall(f"GET /v2/ HTTP/1.1\r\nHost: {'x' * 9000}\r\n\r\n".encode())
            assert b" 400 " in sock.recv(4096)


def registry_connection(registry):
    return socket.create_connection(("127.0.0.1", registry.port), timeout=LIMIT_SECONDS)


def test_what_a_container_runtime_holds_is_hidden_by_the_same_rules():
    document = StoredDocument(IMAGE.digest, IMAGE.manifest.media_type, IMAGE.manifest.raw)

    class Content:
        def tag(self, _repository, _tag, _only):
            return RuntimeTag(document, (IMAGE.digest,))

        def document(self, _repository, _digest, _only):
            return document

        def blob(self, _repository, _digest, _only):
            return RuntimeBlob(1, lambda: None)

        def is_client(self, _connection):
            return True

    seen = VisibleContent(Content(), Rights((Rule(("docker.io/**",), frozenset({"pull"})),)))
    for repository, is_seen in ((PUBLIC, True), (TEAM, False)):
        assert (seen.tag(repository, "1") is not None) is is_seen
        assert (seen.document(repository, IMAGE.digest) is not None) is is_seen
        assert (seen.blob(repository, IMAGE.digest) is not None) is is_seen
    assert seen.is_client(Connection(("127.0.0.1", 1), ("127.0.0.1", 2)))


# --- logins


def test_one_bcrypt_for_many_layers_and_none_for_the_next_pull(content, files, monkeypatch):
    checks = []

    def counted(secret, kept, cost):
        checks.append(kept)
        return check(secret, kept, cost)

    check = logins.check_password
    monkeypatch.setattr(logins, "check_password", counted)
    with (
        Guarded(*content, settings(**files)) as registry,
        ThreadPoolExecutor(8) as clients,
    ):
        found = clients.map(lambda _: registry.ask(TEAM_MANIFEST, headers=ANN).status, range(20))
        assert set(found) == {200}
        assert registry.ask("/v2/", headers=ANN).status == 200
        assert len(checks) == 1
        assert registry.ask("/v2/", headers=basic("nobody", "x")).status == 401
        assert len(checks) == 2  # an unknown user costs one too


def test_failed_logins_are_held_back_then_refused_and_told(content, files, caplog):
    caplog.set_level(logging.INFO, "airside.audit")
    with Guarded(*content, settings(**files)) as registry:
        assert registry.ask("/v2/", headers=ANN).status == 200
        statuses = [
            registry.ask("/v2/", headers=basic(user, f"wrong{n}")).status
            for n, user in enumerate(["ann", "nobody"] * 13)
        ]
        assert statuses[:20] == [401] * 20
        assert statuses[20:] == [429] * 6  # an unknown user is refused as a known one is
        assert len(registry.slept) == 20
        assert registry.slept[:5] == sorted(registry.slept[:5])
        assert registry.ask("/v2/", headers=ANN).status == 200  # known to be good
        refused = registry.ask("/v2/", headers=basic("ann", "wrong"))
        assert (refused.status, refused.code) == (429, "TOOMANYREQUESTS")
        assert int(refused.headers["Retry-After"]) > 0
        assert b"logins of this user from" in refused.body
        assert registry.ask("/v2/", headers=basic("bob", "wrong")).status == 401
        unknown = [
            registry.ask("/v2/", headers={"Authorization": f"Bearer airside_{n}"})
            for n in range(11)
        ]
        assert [reply.status for reply in unknown] == [401] * 10 + [429]
        assert b"logins with a token from" in unknown[-1].body
        assert registry.ask("/v2/", headers={"Authorization": f"Bearer {TOKEN}"}).status == 200
    told = audits(caplog)
    assert {entry["event"] for entry in told} == {"login failed"}
    assert {entry["user"] for entry in told} == {"ann", "bob", ""}  # nothing of unknown users
    assert "wrong" not in caplog.text
    assert "nobody" not in caplog.text


def test_failed_logins_of_strangers_do_not_crowd_out_a_first_login(content, files, monkeypatch):
    """From the same address: as many as may have a connection, more than can be checked soon."""
    gate, check = threading.Event(), logins.check_password

    def slow(secret, kept, cost):
        assert gate.wait(LIMIT_SECONDS)
        return secret == "hunter2" and check(secret, kept, cost)

    monkeypatch.setattr(logins, "check_password", slow)
    with Guarded(*content, settings(**files)) as registry, ThreadPoolExecutor(101) as clients:
        strangers = [
            clients.submit(registry.ask, "/v2/", headers=basic(f"stranger{n}", f"wrong{n}"))
            for n in range(100)
        ]
        wait_until(lambda: len(registry.logins._running) == 100, "all are checked or wait")
        first = clients.submit(registry.ask, "/v2/", headers=ANN)
        wait_until(lambda: len(registry.logins._running) == 101, "the first login waits too")
        gate.set()
        assert first.result(LIMIT_SECONDS).status == 200
        assert {stranger.result(LIMIT_SECONDS).status for stranger in strangers} == {401}


def test_the_password_of_a_client_that_is_gone_is_not_checked(content, files, monkeypatch):
    gate, checked = threading.Event(), []

    def slow(secret, _kept, _cost):
        checked.append(secret)
        return not gate.wait(LIMIT_SECONDS)

    monkeypatch.setattr(logins, "check_password", slow)
    with Guarded(*content, settings(**files)) as registry:
        connections = [registry.connect() for _ in range(12)]
        for n, connection in enumerate(connections):
            connection.request("GET", "/v2/", headers=basic("stranger", f"wrong{n}"))
            wait_until(lambda n=n: len(registry.logins._running) == min(n + 1, 10))
        for connection in connections:
            connection.close()
        wait_until(lambda: registry.listener.connections == 0, "the registry has noticed it")
        gate.set()
        wait_until(lambda: not registry.logins._running, "nothing waits")
    assert sorted(checked) == ["wrong0", "wrong1"]


def test_sessions_for_clients_where_anonymous_ones_may_pull(content, files):
    with Guarded(*content, settings(**files, anonymous="pull")) as registry:
        ask = registry.ask
        assert ask(TEAM_MANIFEST).status == 200
        assert ask("/v2/_catalog").status == 200
        challenged = ask(UPLOAD, "POST")
        assert challenged.challenge == (
            f'Bearer realm="http://{registry.address}/token",service="airside",'
            'scope="repository:registry.example/team/app:pull,push"'
        )
        assert ask("/v2/").challenge.startswith("Bearer realm=")

        def session(scope, headers=None):
            reply = ask(f"/token?service=airside&scope={scope}", headers=headers)
            assert reply.headers["Cache-Control"] == "no-store"
            return {"Authorization": f"Bearer {json.loads(reply.body)['token']}"}

        team = "repository:registry.example/team/app"
        nobody, ann = session(f"{team}:pull"), session(f"{team}:pull,push", ANN)
        assert ask("/v2/", headers=nobody).status == ask("/v2/", headers=ann).status == 200
        assert ask(TEAM_MANIFEST, headers=nobody).status == 200
        assert ask(UPLOAD, "POST", nobody).status == 401
        assert passed(ask(UPLOAD, "POST", ann))
        insufficient = ask(TEAM_MANIFEST, "DELETE", ann)
        assert insufficient.status == 401
        assert 'error="insufficient_scope"' in insufficient.challenge
        assert ask("/v2/_catalog", headers=ann).status == 401
        assert ask("/token", headers=ann).status == 403
        assert ask("/token", headers=basic("ann", "wrong")).status == 401
        assert ask("/token?scope=x").status == 400
        assert ask("/token", "POST", body=b"").status == 405
        changed = {"Authorization": ann["Authorization"] + "0"}
        assert ask(TEAM_MANIFEST, headers=changed).status == 401
        # a changed password ends the session at once
        files["htpasswd"].write_text(htpasswd(ann="another", bob="swordfish"))
        assert registry.secured.reload()
        assert ask(TEAM_MANIFEST, headers=ann).status == 401


# --- files that change


def test_passwords_and_rules_are_taken_up_while_running(content, files, caplog):
    with Guarded(*content, settings(**files)) as registry:
        assert registry.ask("/v2/", headers=BOB).status == 200
        assert not registry.secured.reload()
        files["htpasswd"].write_text(htpasswd(ann="hunter2"))
        assert registry.secured.reload()
        assert registry.ask("/v2/", headers=BOB).status == 401  # though it was remembered
        files["htpasswd"].write_text("bob:plain\n")
        assert not registry.secured.reload()
        assert "not bcrypt" in caplog.text
        assert "plain" not in caplog.text
        assert registry.ask(TEAM_MANIFEST, headers=ANN).status == 200
        files["htpasswd"].write_text(htpasswd(ann="hunter2"))
        files["access"].write_text(ACCESS.replace("team/**", "none/**"))
        assert registry.secured.reload()
        assert registry.ask(TEAM_MANIFEST, headers=ANN).status == 403
        files["access"].unlink()
        assert not registry.secured.reload()
        assert registry.ask(TEAM_MANIFEST, headers=ANN).status == 403


@pytest.mark.needs("openssl")
def test_a_certificate_is_taken_up_while_running_and_a_broken_one_is_not(
    content, authority, tmp_path, caplog
):
    target = (tmp_path / "tls.crt", tmp_path / "tls.key")
    replace_files(authority.server(), target)
    other = Authority(tmp_path / "other")
    values = settings(tls_cert=target[0], tls_key=target[1])
    with Guarded(*content, values, trust=authority.trust()) as registry:
        kept = registry.connect()
        kept.request("GET", "/v2/")
        assert kept.getresponse().read() == b"{}"
        target[0].write_text("-----BEGIN CERTIFICATE-----\n")
        assert not registry.secured.reload()
        assert "stays in force" in caplog.text
        assert registry.ask("/v2/").status == 200
        shutil.copy(other.server()[0], target[0])  # the key is still the old one
        assert not registry.secured.reload()
        assert registry.ask("/v2/").status == 200
        replace_files(other.server(), target)
        assert registry.secured.reload()
        with pytest.raises(ssl.SSLCertVerificationError):
            registry.ask("/v2/")
        assert registry.ask("/v2/", trust=other.trust()).status == 200
        layer = f"/v2/registry.example/team/app/blobs/{IMAGE.layers[0].digest}"
        assert registry.ask(layer, trust=other.trust()).body == IMAGE.layers[0].raw
        kept.request("GET", "/v2/")
        assert kept.getresponse().status == 200
        kept.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            registry.ask("/v2/", trust=ssl.create_default_context())


@pytest.mark.needs("openssl")
def test_the_common_name_of_a_client_certificate_is_the_user(content, authority, files, tmp_path):
    cert, key = authority.server()
    clients = Authority(tmp_path / "clients")
    ann, bob = clients.issue("ann"), clients.issue("bob")
    values = settings(tls_cert=cert, tls_key=key, client_ca=tmp_path / "ca.crt", **files)
    shutil.copy(clients.cert, tmp_path / "ca.crt")
    with Guarded(*content, values) as registry:
        ask, trust = registry.ask, authority.trust
        assert ask("/v2/", trust=trust()).status == 401
        assert ask("/v2/", trust=trust(ann)).status == 200
        assert ask(TEAM_MANIFEST, trust=trust(ann)).status == 200
        assert passed(ask(UPLOAD, "POST", trust=trust(ann)))
        assert ask(f"{TEAM_MANIFEST}?ns=x.example", trust=trust(bob)).status == 403
        assert ask(TEAM_MANIFEST, headers=ANN, trust=trust(bob)).status == 200  # the password
        with pytest.raises((ssl.SSLError, ConnectionError, HTTPException)):
            ask("/v2/", trust=trust(authority.issue("ann")))  # of an authority for servers
        shutil.copy(authority.cert, tmp_path / "ca.crt")
        assert registry.secured.reload()
        with pytest.raises((ssl.SSLError, ConnectionError, HTTPException)):
            ask("/v2/", trust=trust(ann))


@pytest.mark.needs("openssl")
def test_what_is_wrong_at_the_start_is_told(authority, files, tmp_path):
    cert, key = authority.server()
    for values, said in (
        ({"tls_cert": tmp_path / "none"}, "cannot use"),
        ({"tls_cert": cert}, "PEM"),
        ({"tls_cert": cert, "tls_key": key, "client_ca": files["access"]}, "access.toml"),
        ({"htpasswd": tmp_path / "none"}, "cannot read"),
        ({"htpasswd": files["access"]}, "line 2 is not USER:HASH"),
        ({"access": files["htpasswd"]}, "not valid TOML"),
    ):
        with pytest.raises(ConfigError) as refused:
            SecurityFiles(settings(**values), is_loopback=True)
        assert said in refused.value.message


def test_other_than_loopback_addresses_need_tls_or_a_word():
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        assert check_exposure(settings(), host)
    for host in ("0.0.0.0", "::", "192.0.2.1", "2001:db8::1"):
        with pytest.raises(ConfigError) as refused:
            check_exposure(settings(listen=f"{host}:1"), host)
        assert "insecure = true" in refused.value.context["hint"]
        assert not check_exposure(settings(insecure=True), host)
        assert not check_exposure(settings(tls_cert="x"), host)
    for values in ({"tls_key": "x"}, {"client_ca": "x"}):
        with pytest.raises(ConfigError):
            check_exposure(settings(**values), "127.0.0.1")
    with pytest.raises(ConfigError):
        check_exposure(settings(), "no such host")


def test_localhost_counts_only_if_it_is(monkeypatch):
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", (ip, 0)) for ip in ("127.0.0.1", "10.1.1.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(ConfigError):
        check_exposure(settings(), "localhost")


# --- connections, slow clients, bandwidth


def test_connections_are_limited_and_come_back(content, monkeypatch):
    monkeypatch.setattr(connections, "IDLE_SECONDS", 1e9)
    with Guarded(*content, settings(max_client_connections=3)) as registry:
        held = [registry_connection(registry) for _ in range(3)]
        wait_until(lambda: registry.listener.connections == 3)
        with registry_connection(registry) as more:
            assert more.recv(1) == b""
        assert registry.listener.refused == 1
        held.pop().close()
        wait_until(lambda: registry.listener.connections == 2)
        assert registry.ask("/v2/").status == 200
        for sock in held:
            sock.close()
        wait_until(lambda: registry.listener.connections == 0)
    with Guarded(*content, settings(max_connections=1)) as registry, registry_connection(registry):
        wait_until(lambda: registry.listener.connections == 1)
        with registry_connection(registry) as more:
            assert more.recv(1) == b""


def test_idle_connections_give_way_to_the_next_of_their_client(content, monkeypatch):
    """A client that holds all its connections and asks nothing keeps nobody out on loopback."""
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.0)
    with Guarded(*content, settings(max_client_connections=2)) as registry:
        held = [registry_connection(registry) for _ in range(2)]
        wait_until(lambda: registry.listener.connections == 2)
        for _ in range(4):
            assert registry.ask("/v2/").status == 200
        assert registry.listener.refused == 0
        assert held[0].recv(1) == b""
        for sock in held:
            sock.close()
        wait_until(lambda: registry.listener.connections == 0)


def test_requests_that_move_no_bytes_give_way_and_busy_ones_do_not(content, monkeypatch):
    monkeypatch.setattr(connections, "IDLE_SECONDS", 1e9)
    with Guarded(*content, settings(max_client_connections=1)) as registry:
        with registry_connection(registry) as slow:
            slow.sendall(b"GET /v2/ HTTP/1.1\r\nX-Slow: ")
            wait_until(lambda: registry.listener.connections == 1)
            with registry_connection(registry) as more:
                assert more.recv(1) == b""
            monkeypatch.setattr(connections, "SLOW_SECONDS", 0.0)
            assert registry.ask("/v2/").status == 200
            assert slow.recv(1) == b""
        wait_until(lambda: registry.listener.connections == 0)


@pytest.mark.parametrize("kind", ["blob", "rest of an answer"])
def test_a_connection_whose_client_still_receives_does_not_give_way(
    kind, content, monkeypatch, tmp_path
):
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.0)
    count = 16 << 20 if kind == "blob" else 200_000
    (tmp_path / "blob").write_bytes(bytes(count))

    async def send(_request):
        if kind != "blob":
            return web.Response(body=bytes(count))
        part = Part(200, (), 0, count)
        return BlobResponse(part, (tmp_path / "blob").open("rb"), reads, Transfers())

    def app(_guard):
        made = web.Application()
        made.router.add_get("/", send)
        return made

    with (
        ThreadPoolExecutor(1) as reads,
        Guarded(*content, settings(max_client_connections=1), app=app) as registry,
        socket.socket() as slow,
    ):
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", registry.port))
        slow.settimeout(LIMIT_SECONDS)
        slow.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n")
        assert slow.recv(1) == b"H"
        with registry_connection(registry) as more:
            assert more.recv(1) == b""
        assert registry.listener.refused == 1
        received = 1
        while received < count:
            piece = slow.recv(1 << 20)
            assert piece, f"cut after {received} bytes"
            received += len(piece)


def test_a_new_request_is_not_slow_for_what_its_connection_did_before(content, monkeypatch):
    monkeypatch.setattr(connections, "IDLE_SECONDS", 1e9)
    monkeypatch.setattr(connections, "SLOW_SECONDS", 1e-9)
    begun, go = threading.Event(), threading.Event()

    async def answer(_request):
        return web.Response(text="ok")

    async def work(_request):
        begun.set()
        await asyncio.to_thread(go.wait, LIMIT_SECONDS)
        return web.Response(text="ok")

    def app(_guard):
        made = web.Application()
        made.router.add_get("/", answer)
        made.router.add_get("/work", work)
        return made

    with (
        Guarded(*content, settings(max_client_connections=1), app=app) as registry,
        Wire(f"127.0.0.1:{registry.port}") as wire,
    ):
        wire.send(request("GET", "/"))
        assert wire.read("GET").status == 200
        wire.send(request("GET", "/work"))
        assert begun.wait(LIMIT_SECONDS)
        with registry_connection(registry) as more:
            assert more.recv(1) == b""
        go.set()
        assert wire.read("GET").status == 200


@pytest.mark.needs("openssl")
def test_a_handshake_that_fails_gives_its_place_back(content, authority):
    cert, key = authority.server()
    with Guarded(*content, settings(tls_cert=cert, tls_key=key)) as registry:
        with registry_connection(registry) as sock:
            wait_until(lambda: registry.listener.connections == 1)
            sock.sendall(b"GET /v2/ HTTP/1.1\r\n\r\n")
            wait_until(lambda: registry.listener.connections == 0)
        with registry_connection(registry):
            wait_until(lambda: registry.listener.connections == 1)
        wait_until(lambda: registry.listener.connections == 0)
        assert registry.ask("/v2/", trust=authority.trust()).status == 200


def test_a_head_that_does_not_end_is_given_up(content):
    with (
        Guarded(*content, keepalive_seconds=0.3) as registry,
        registry_connection(registry) as sock,
    ):
        sock.sendall(b"GET /v2/ HTTP/1.1\r\nX-Slow: ")
        assert sock.recv(100) == b""
        wait_until(lambda: registry.listener.connections == 0)


def uploads(guard):
    async def take(request):
        total = 0
        async for piece in iter_body(request, 0.3 if "slow" in request.query else 60):
            total += len(piece)
        return web.json_response(total, status=201)

    app = web.Application(middlewares=[guard.middleware, told])
    app.router.add_route("*", "/{path:.*}", take)
    return app


@web.middleware
async def told(request, handler):
    try:
        return await handler(request)
    except Exception as exc:  # noqa: BLE001 - as the registry answers
        return web.Response(status=400, text=str(exc))


def test_slow_bodies_are_given_up_and_pushes_are_audited(content, caplog):
    caplog.set_level(logging.INFO, "airside.audit")
    target = f"/v2/team/app/blobs/uploads/x?digest=sha256:{'0' * 64}"
    with Guarded(*content, app=uploads) as registry:
        assert registry.ask(target, "PUT", body=b"x" * 300_000).body == b"300000"
        with registry_connection(registry) as sock:
            head = f"PUT {target}&slow HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nx"
            sock.sendall(head.encode())
            assert b"less than 65536 bytes" in sock.recv(65536)
        assert registry.ask("/v2/team/app/manifests/1", "DELETE").status == 201
    told_of = [(entry["event"], entry["repository"], entry["status"]) for entry in audits(caplog)]
    assert told_of == [("push", "team/app", 201), ("delete", "team/app", 201)]


def test_caps_count_every_byte_of_blobs_and_bodies(content, monkeypatch):
    taken = []

    async def take(self, client, count):
        taken.append((client, count, self.slice_bytes))

    monkeypatch.setattr(pace.Throttle, "take", take)
    view, store = content
    blob = store.add(b"b" * 100_000)
    view.put_blob(TEAM, blob)
    path = f"/v2/registry.example/team/app/blobs/{blob}"
    values = settings(bandwidth_bytes=160_000, client_bandwidth_bytes=80_000)
    with Guarded(view, store, values) as registry:
        assert registry.ask(path).body == b"b" * 100_000
    assert sum(count for _, count, _ in taken) == 100_000
    assert {(client, slice_bytes) for client, _, slice_bytes in taken} == {("127.0.0.1", 10_000)}
    taken.clear()
    with Guarded(view, store, values, app=uploads) as registry:
        registry.ask(UPLOAD, "POST", body=b"x" * 5000)
    assert sum(count for _, count, _ in taken) == 5000
    taken.clear()
    with Guarded(view, store) as registry:
        assert len(registry.ask(path).body) == 100_000
    assert not taken


# --- real clients


def run(*words, stdin=""):
    return subprocess.run(
        [str(word) for word in words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.needs("openssl")
@pytest.mark.needs("curl")
@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("anonymous", ["none", "pull"])
def test_curl_and_skopeo_log_in_over_tls(content, authority, files, tmp_path, anonymous):
    cert, key = authority.server()
    certs = tmp_path / "certs"
    certs.mkdir()
    shutil.copy(authority.cert, certs / "ca.crt")
    values = settings(tls_cert=cert, tls_key=key, anonymous=anonymous, **files)
    with Guarded(*content, values) as registry:
        url = f"https://{registry.address}"
        curl = ("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", authority.cert)
        for words, status in (
            (("-u", "ann:hunter2", url + TEAM_MANIFEST), "200"),
            (("-u", "ann:wrong", url + TEAM_MANIFEST), "401"),
            (("-H", f"Authorization: Bearer {TOKEN}", url + TEAM_MANIFEST), "200"),
            ((url + TEAM_MANIFEST,), "200" if anonymous == "pull" else "401"),
            (("-X", "POST", url + UPLOAD), "401"),
            (("-X", "POST", "-u", "bob:swordfish", url + UPLOAD), "403"),
        ):
            assert run(*curl, *words).stdout == status, words

        auth = tmp_path / "auth.json"
        login = ("skopeo", "login", "--authfile", auth, "--cert-dir", certs, registry.address)
        wrong = run(*login, "-u", "ann", "--password-stdin", stdin="wrong")
        assert wrong.returncode != 0
        for user, secret in (("token", TOKEN), ("ann", "hunter2")):
            done = run(*login, "-u", user, "--password-stdin", stdin=secret)
            assert done.returncode == 0, done.stderr
            source = f"docker://{registry.address}/registry.example/team/app:1"
            copy = ("copy", "--preserve-digests", "--src-cert-dir", certs)
            target = tmp_path / user
            skopeo(*copy, "--src-authfile", auth, source, f"dir:{target}")
            assert set(digests_of(target)) == {blob.digest for blob in IMAGE.blobs}
        none = tmp_path / "none.json"
        none.write_text("{}")
        words = ("--src-authfile", none, source, f"dir:{tmp_path / 'anonymous'}")
        pulled = run("skopeo", "--insecure-policy", *copy, *words)
        assert (pulled.returncode == 0) is (anonymous == "pull"), pulled.stderr
        pushing = ("--dest-cert-dir", certs, f"dir:{tmp_path / 'ann'}", source)
        denied = run(
            *("skopeo", "--insecure-policy", "copy"), "--dest-creds=bob:swordfish", *pushing
        )
        assert denied.returncode != 0
        assert "denied" in denied.stderr.lower() or "unauthorized" in denied.stderr.lower()


@pytest.mark.needs("openssl")
@pytest.mark.needs("skopeo")
def test_skopeo_pulls_with_a_client_certificate(content, authority, files, tmp_path):
    cert, key = authority.server()
    certs = tmp_path / "certs"
    certs.mkdir()
    client = authority.issue("ann")
    for source, name in ((authority.cert, "ca.crt"), (client[0], "c.cert"), (client[1], "c.key")):
        shutil.copy(source, certs / name)
    values = settings(tls_cert=cert, tls_key=key, client_ca=authority.cert, access=files["access"])
    with Guarded(*content, values) as registry:
        source = f"docker://{registry.address}/registry.example/team/app:1"
        copy = ("copy", "--preserve-digests", "--src-cert-dir", certs)
        skopeo(*copy, source, f"dir:{tmp_path / 'out'}")
        assert set(digests_of(tmp_path / "out")) == {blob.digest for blob in IMAGE.blobs}
        certs.joinpath("c.cert").unlink()
        certs.joinpath("c.key").unlink()
        without = ("skopeo", "--insecure-policy", *copy, source, f"dir:{tmp_path / 'no'}")
        assert run(*without).returncode != 0
