"""Uploads of archives over HTTP: tus 1.0.0, forms and `curl -T`, by whom, and broken ones.

One agent serves all of this file; its archives have names of their own.
"""

import base64
import hashlib
import http.client
import json
import socket
import subprocess
from contextlib import closing

import pytest

from support.agent import Agent
from support.guarded import basic, htpasswd
from support.images import oci_archive, random_image
from support.waiting import LIMIT_SECONDS, wait_until

pytestmark = pytest.mark.system

TUS = {"Tus-Resumable": "1.0.0"}
STREAM = {**TUS, "Content-Type": "application/offset+octet-stream"}
BYTES = bytes(range(256)) * 8192
MIB = 1 << 20


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    place = tmp_path_factory.mktemp("uploads")
    (place / "images").mkdir()
    config = 'limits.archive_upload_bytes = "2MiB"\n'
    with Agent(place / "images", place / "data", config=config) as running:
        yield running


def ask(agent, method, target, body=None, **headers):
    """One request on a connection of its own: (status, headers, text)."""
    with closing(http.client.HTTPConnection(agent.registry, timeout=LIMIT_SECONDS)) as connection:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, target, body, headers=named)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()


def begin(agent, name, length, **said):
    pairs = {"filename": name, **said}
    metadata = ",".join(f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in pairs.items())
    headers = {**TUS, "Upload-Length": str(length), "Upload-Metadata": metadata}
    return ask(agent, "POST", "/ui/uploads", **headers)


def begun(agent, name, length, **said):
    status, headers, text = begin(agent, name, length, **said)
    assert status == 201, text
    return headers["Location"]


def append(agent, url, offset, body):
    return ask(agent, "PATCH", url, body, **STREAM, Upload_Offset=str(offset))


def offset(agent, url):
    status, headers, _ = ask(agent, "HEAD", url, **TUS)
    assert status == 200
    return int(headers["Upload-Offset"])


def hidden(agent):
    return {path.name for path in agent.watched.iterdir() if path.name.startswith(".")}


def told(agent, url):
    return json.loads(ask(agent, "GET", url)[2])


def half_sent(agent, url, at, body, announced):
    """A connection that sent a part of what it announced."""
    host, port = agent.registry.split(":")
    connection = socket.create_connection((host, int(port)), timeout=LIMIT_SECONDS)
    head = [f"PATCH {url} HTTP/1.1", f"Host: {agent.registry}", f"Content-Length: {announced}"]
    head += [f"{name}: {value}" for name, value in {**STREAM, "Upload-Offset": at}.items()]
    connection.sendall("\r\n".join([*head, "", ""]).encode() + body)
    return connection


def stored(agent, name):
    return (agent.watched / name).read_bytes()


def test_an_upload_in_pieces_is_imported_and_tells_so(agent, tmp_path):
    archive = tmp_path / "pieces.tar"
    oci_archive(archive, {"vendor/pieces:1": random_image(1)})
    body = archive.read_bytes()
    half = len(body) // 2
    sha256 = hashlib.sha256(body).hexdigest()
    url = begun(agent, "pieces.tar", len(body), sha256=sha256)
    assert append(agent, url, 0, body[:half])[0] == 204
    assert offset(agent, url) == half
    assert told(agent, url)["state"] == "uploading"
    assert not (agent.watched / "pieces.tar").exists()
    status, headers, _ = append(agent, url, half, body[half:])
    assert (status, headers["Upload-Offset"]) == (204, str(len(body)))
    found = wait_until(
        lambda: (now := told(agent, url))["state"] == "imported" and now,
        what="the import is told",
    )
    assert found["images"] == ["docker.io/vendor/pieces:1"]
    assert stored(agent, "pieces.tar") == body
    assert append(agent, url, len(body), b"")[0] == 204  # the last answer may have been lost


def test_a_connection_that_breaks_keeps_what_came(agent):
    url = begun(agent, "broken.tar", len(BYTES))
    with closing(half_sent(agent, url, 0, BYTES[: MIB * 3 // 2], len(BYTES))):
        wait_until(lambda: told(agent, url)["offset"] >= MIB, what="a piece is stored")
    kept = offset(agent, url)
    assert MIB <= kept <= MIB * 3 // 2
    assert append(agent, url, kept, BYTES[kept:])[0] == 204
    assert stored(agent, "broken.tar") == BYTES


def test_a_newer_request_takes_over_from_one_that_hangs(agent):
    url = begun(agent, "hangs.tar", len(BYTES))
    with closing(half_sent(agent, url, 0, BYTES[: MIB * 3 // 2], len(BYTES))):
        wait_until(lambda: told(agent, url)["offset"] >= MIB, what="a piece is stored")
        kept = offset(agent, url)
        assert append(agent, url, kept, BYTES[kept:])[0] == 204
        assert stored(agent, "hangs.tar") == BYTES


def test_bytes_at_a_wrong_offset_are_refused_and_the_upload_stays(agent):
    url = begun(agent, "offset.tar", 10)
    assert append(agent, url, 0, b"12345")[0] == 204
    status, _, text = append(agent, url, 0, b"12345")
    assert status == 409
    assert "5" in text
    assert append(agent, url, 5, b"678901")[0] == 400
    assert append(agent, url, 5, b"67890")[0] == 204
    assert stored(agent, "offset.tar") == b"1234567890"


def test_an_upload_goes_on_after_the_agent_was_killed(tmp_path):
    (tmp_path / "images").mkdir()
    with Agent(tmp_path / "images", tmp_path / "data") as agent:
        url = begun(agent, "killed.tar", len(BYTES))
        assert append(agent, url, 0, BYTES[:500_000])[0] == 204
        agent.kill()
        agent.start()
        assert offset(agent, url) == 500_000
        assert append(agent, url, 500_000, BYTES[500_000:])[0] == 204
        assert stored(agent, "killed.tar") == BYTES


def test_a_cancelled_upload_is_gone(agent):
    url = begun(agent, "cancelled.tar", 10)
    append(agent, url, 0, b"12345")
    assert ask(agent, "DELETE", url, **TUS)[0] == 204
    assert ask(agent, "HEAD", url, **TUS)[0] == 404
    assert append(agent, url, 5, b"67890")[0] == 404
    assert not [path for path in agent.watched.iterdir() if url[-32:] in path.name]


REFUSED = {
    "no name": (400, lambda agent: begin(agent, "", 1)),
    "another directory": (400, lambda agent: begin(agent, "../x.tar", 1)),
    "a hidden name": (400, lambda agent: begin(agent, ".x.tar", 1)),
    "no length": (400, lambda agent: ask(agent, "POST", "/ui/uploads", **TUS)),
    "another version": (412, lambda agent: ask(agent, "POST", "/ui/uploads", Tus_Resumable="2")),
    "no tus": (412, lambda agent: ask(agent, "POST", "/ui/uploads", b"x")),
    "too large": (413, lambda agent: begin(agent, "x.tar", 3 << 20)),
    "too large by PUT": (
        413,
        lambda agent: ask(agent, "PUT", "/ui/uploads/x.tar", b"x" * (3 << 20)),
    ),
    "a path by PUT": (400, lambda agent: ask(agent, "PUT", "/ui/uploads/..%2Fx.tar", b"x")),
    "a wrong sum by PUT": (
        422,
        lambda agent: ask(agent, "PUT", f"/ui/uploads/x.tar?sha256={'0' * 64}", b"x"),
    ),
    "an unknown upload": (404, lambda agent: ask(agent, "HEAD", f"/ui/uploads/{'0' * 32}", **TUS)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_taken_is_refused_with_the_reason(agent, case):
    status, request = REFUSED[case]
    found, _, text = request(agent)
    assert found == status, text
    assert not (agent.watched / "x.tar").exists()


FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:1"},
    {"Host": "evil.example"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_no_other_page_uploads_appends_or_cancels(agent, headers):
    url = begun(agent, f"foreign{FOREIGN.index(headers)}.tar", 5)
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    for method, target, more in (
        ("POST", "/ui/uploads", {**TUS, "Upload-Length": "1", "Upload-Metadata": "filename eA=="}),
        ("POST", "/ui/uploads", form),
        ("PUT", "/ui/uploads/evil.tar", {}),
        ("PATCH", url, {**STREAM, "Upload-Offset": "0"}),
        ("DELETE", url, TUS),
    ):
        status, _, text = ask(agent, method, target, b"x", **more, **headers)
        assert status == (421 if "Host" in headers else 403), (method, text)
    assert offset(agent, url) == 0
    assert not (agent.watched / "evil.tar").exists()


@pytest.mark.needs("curl")
def test_a_form_without_scripts_stores_its_files(agent, tmp_path):
    names = ("form-a.tar", "form-b.tar")
    for name in names:
        (tmp_path / name).write_bytes(name.encode() * 1000)
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}"]
    command += [word for name in names for word in ("-F", f"file=@{tmp_path / name}")]
    command.append(f"http://{agent.registry}/ui/uploads")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"303 http://{agent.registry}/ui/"
    for name in names:
        assert stored(agent, name) == name.encode() * 1000


def test_a_form_that_cannot_be_stored_is_answered_by_a_page_with_the_reason(agent):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="twice.tar"\r\n\r\none\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="<img src=x>.part"\r\n\r\n'
        b"two\r\n--x--\r\n"
    )
    form = {"Content-Type": "multipart/form-data; boundary=x", "Accept-Language": "zh"}
    status, headers, text = ask(agent, "POST", "/ui/uploads", body, **form)
    assert status == 400
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "上传失败" in text
    assert "&lt;img src=x&gt;.part" in text
    assert "<img" not in text
    assert stored(agent, "twice.tar") == b"one"
    assert ask(agent, "POST", "/ui/uploads", body, **form)[0] == 409


@pytest.mark.parametrize("count", [0, 2, 3, 5, 6, 100_000])
def test_a_form_that_ends_in_the_middle_of_a_file_stores_nothing(agent, count):
    """Whether the length announces it or not: a file is whole when a boundary follows it."""
    head = '--x\r\nContent-Disposition: form-data; name="file"; filename="short.tar"\r\n\r\n'
    body = head.encode() + (b"one\r\n-" + b"y" * 200_000)[:count]
    form, before = {"Content-Type": "multipart/form-data; boundary=x"}, hidden(agent)
    assert ask(agent, "POST", "/ui/uploads", body, **form)[0] == 400
    assert not (agent.watched / "short.tar").exists()
    assert hidden(agent) == before


@pytest.mark.needs("curl")
def test_curl_uploads_a_file_and_replaces_it_only_when_told(agent, tmp_path):
    file = tmp_path / "curl.tar"
    file.write_bytes(BYTES)
    url = f"http://{agent.registry}/ui/uploads/"

    def curl(*words):
        command = ["curl", "-s", "-w", "%{http_code}", "-o", "/dev/null", "-T", file, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert curl(url) == "201"
    assert curl(url) == "409"
    file.write_bytes(BYTES[::-1])
    digest = hashlib.sha256(BYTES[::-1]).hexdigest()
    assert curl(f"{url}curl.tar?replace=1&sha256={digest}") == "201"
    assert stored(agent, "curl.tar") == BYTES[::-1]


def test_only_who_may_push_everywhere_uploads(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "users").write_text(htpasswd(ada="a", bob="b"))
    (tmp_path / "access.toml").write_text(
        '[users.ada]\nrules = [{repositories = ["**"], actions = ["pull", "push"]}]\n'
        '[users.bob]\nrules = [{repositories = ["**"], actions = ["pull"]},'
        ' {repositories = ["site/**"], actions = ["push"]}]\n'
        '[anonymous]\nrules = [{repositories = ["**"], actions = ["pull"]}]\n'
    )
    environ = {
        "AIRSIDE_HTPASSWD": str(tmp_path / "users"),
        "AIRSIDE_ACCESS": str(tmp_path / "access.toml"),
    }
    with Agent(tmp_path / "images", tmp_path / "data", environ=environ) as agent:
        target = "/ui/uploads/x.tar"
        status, headers, _ = ask(agent, "PUT", target, b"x")
        assert (status, headers["WWW-Authenticate"].split()[0]) == (401, "Basic")
        assert ask(agent, "PUT", target, b"x", **basic("bob", "b"))[0] == 403
        assert ask(agent, "PUT", target, b"x", **basic("ada", "a"))[0] == 201
        assert "upload: ada from 127.0.0.1" in agent.log
