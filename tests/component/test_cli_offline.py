"""The command line with real files and catalogs, and with a stand-in for the agent."""

import json
import os
import re
import signal
import socketserver
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from airside.archive.sample import write_sample
from airside.catalog.view import open_view
from airside.cli.main import main
from airside.diagnostics import reports as report
from support.images import docker_archive, flip_bit, oci_archive, random_image, random_index
from support.program import PROGRAM, changed_within, run_main
from support.program import command as airside

DOCS = (Path(__file__).parents[2] / "docs/cli.md").read_text(encoding="utf-8")
NAME = "docker.io/airside/hello:1"


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.setenv("AIRSIDE_RUNTIME", "none")  # never the host's own

    def run(*args):
        if PROGRAM:
            return run_main(*args)
        code = main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def sample(tmp_path):
    path = tmp_path / "hello.tar.gz"
    write_sample(path)
    return path


def from_json(out):
    value = json.loads(out)
    assert value["schema"] == 1
    return value


def program(*args, **options):
    """The command as a process of its own."""
    return subprocess.Popen(
        [*airside(), *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def assert_documented(command, keys):
    text = re.search(rf"^## {command}\n(.*?)(?=^## |\Z)", DOCS, re.MULTILINE | re.DOTALL)[1]
    missing = [key for key in keys if f"`{key}`" not in text and key != "schema"]
    assert not missing, f"not in docs/cli.md under {command}: {missing}"


# Importing without an agent, then reading the catalog


def test_what_was_imported_is_listed(run, data, sample):
    code, out, _ = run("import", "--data", data, sample)
    assert code == 0
    assert out.startswith(f"imported: {sample} (1 image, 7 new blobs, ")
    assert f"  {NAME}\n" in out

    code, out, _ = run("status", "--data", data, "--json")
    status = from_json(out)
    assert (code, status["running"], status["data"]) == (0, False, str(data))
    assert (status["images"], status["archives"]) == (1, {"imported": 1})
    assert_documented("status", status)

    code, out, _ = run("images", "--data", data, "--json")
    [image] = from_json(out)["items"]
    assert (code, image["reference"], image["archives"]) == (0, NAME, [str(sample)])
    assert_documented("images", image)

    code, out, _ = run("archives", "--data", data, "--json")
    [archive] = from_json(out)["items"]
    assert (code, archive["state"], archive["images"]) == (0, "imported", [NAME])
    assert_documented("archives", archive)

    code, out, _ = run("events", "--data", data, "--json")
    events = from_json(out)["items"]
    assert code == 0
    assert {"settled", "imported", "tag-added"} <= {event["kind"] for event in events}
    assert_documented("events", events[0])


def test_lists_as_text_are_whole(run, data, sample):
    run("import", "--data", data, sample)
    code, out, _ = run("images", "--data", data)
    assert code == 0
    assert re.search(rf"^{NAME}  sha256:[0-9a-f]{{64}}  .*{sample}$", out, re.MULTILINE)
    code, out, _ = run("archives", "--data", data)
    assert re.search(rf"^{sample}  imported  oci-layout \(gzip\) .*", out, re.MULTILINE)
    code, out, _ = run("events", "--data", data, "--limit", 2)
    assert len(out.splitlines()) == 3
    code, out, _ = run("status", "--data", data)
    assert "agent     not running" in out
    assert "archives  1 imported" in out


@changed_within
def test_lists_fit_a_terminal(run, data, sample, monkeypatch):
    run("import", "--data", data, sample)
    monkeypatch.setattr("airside.cli.output.is_terminal", lambda: True)
    monkeypatch.setattr("airside.cli.images.is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    for command in ("images", "archives", "events", "status"):
        code, out, _ = run(command, "--data", data)
        assert code == 0
        assert all(len(line) <= 120 for line in out.splitlines())
    _, out, _ = run("images", "--data", data)
    assert re.search(r"sha256:[0-9a-f]{12} ", out)
    assert str(sample.parent) not in out


def test_neither_agent_nor_catalog_is_told(run, data):
    for command in ("status", "images", "archives", "events"):
        code, out, err = run(command, "--data", data)
        assert (code, out) == (1, "")
        assert str(data) in err
        assert "hint: start the agent" in err
        code, out, err = run(command, "--data", data, "--json")
        assert (code, err) == (1, "")
        assert from_json(out)["error"]["code"] == "not_found"
    assert not data.exists()


def test_a_health_check_fails_where_no_agent_runs(run, data, sample):
    run("import", "--data", data, sample)
    assert run("status", "--data", data)[0] == 0
    code, out, _ = run("status", "--data", data, "--check")
    assert (code, "not running" in out) == (1, True)


@changed_within
def test_a_catalog_that_may_not_be_read_says_what_to_do(run, data, sample, monkeypatch):
    run("import", "--data", data, sample)
    monkeypatch.setattr(os, "access", lambda *_args: False)
    code, out, err = run("images", "--data", data)
    assert (code, out) == (1, "")
    assert "hint: run the command as root" in err


def test_following_needs_an_agent(run, data, sample):
    run("import", "--data", data, sample)
    code, _, err = run("events", "--follow", "--data", data)
    assert code == 1
    assert "no agent runs" in err


def test_import_goes_on_after_a_bad_file(run, data, sample, tmp_path):
    bad, cut = tmp_path / "bad.tar", tmp_path / "cut.tar.gz"
    bad.write_bytes(b"no archive" * 200)
    cut.write_bytes(sample.read_bytes()[:-40])
    code, out, _ = run("import", "--data", data, "--json", bad, cut, sample)
    items = from_json(out)["items"]
    assert code == 3
    assert [item["state"] for item in items] == ["rejected", "incomplete", "imported"]
    assert all(item["reason"] for item in items[:2])
    code, out, _ = run("import", "--data", data, "--json", tmp_path / "absent", bad)
    items = from_json(out)["items"]
    assert code == 1
    assert [item["state"] for item in items] == ["failed", "rejected"]
    assert items[0]["error"]["code"] == "not_found"
    assert_documented("import", items[0])


def test_import_tells_what_was_not_taken(run, data, tmp_path):
    path = tmp_path / "two.tar"
    good, other = random_image("good"), random_image("other")
    oci_archive(
        path, {"example.com/good:1": good, "example.com/other:1": other},
        drop_blobs=[other.layers[-1].digest],
    )  # fmt: skip
    code, out, _ = run("import", "--data", data, path)
    assert code == 3
    assert out.startswith(f"partial: {path} (1 image")
    assert re.search(r"^  problem: example.com/other:1: blob sha256:", out, re.MULTILINE)


def test_import_while_the_store_is_in_use_names_the_process(run, data, sample):
    code = (
        "import sys; from airside.core.settings import Settings\n"
        "from airside.agent.node import open_node\n"
        "from pathlib import Path\n"
        "with open_node(Settings(data=Path(sys.argv[1]))): print('open', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(data)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        exit_code, out, _ = run("import", "--data", data, "--json", sample)
        other.communicate(b"\n")
    assert exit_code == 1
    error = from_json(out)["error"]
    assert (error["code"], error["pid"]) == ("conflict", str(other.pid))


@changed_within
def test_import_into_a_directory_of_another_user_says_what_to_do(run, data, sample, monkeypatch):
    def refused(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("airside.store.data_directory.os.open", refused)
    code, out, err = run("import", "--data", data, sample)
    assert (code, out) == (1, "")
    assert f"no agent runs, and cannot open {data / 'lock'}: Permission denied" in err
    assert "hint: run the command as root" in err


# Inspecting


def test_inspect_tells_what_an_archive_holds(run, tmp_path):
    path = tmp_path / "a.tar.zst"
    index = random_index("index")
    oci_archive(path, {"example.com/app:1": index}, compression="zstd")
    code, out, _ = run("inspect", "--json", path)
    [item] = from_json(out)["items"]
    assert (code, item["state"], item["format"]) == (0, "imported", "oci-layout")
    assert item["compression"] == "zstd"
    [image] = item["images"]
    assert image == {
        "references": ["example.com/app:1"],
        "digest": str(index.digest),
        "complete": True,
    }
    platforms = {d["platform"] for d in item["documents"] if d["kind"] == "manifest"}
    assert platforms == {str(each.platform) for each in index.images}
    assert_documented("inspect", item)

    code, out, _ = run("inspect", path)
    assert code == 0
    assert "complete: every image can be imported" in out
    for each in index.images:
        for layer in each.layers:
            assert re.search(rf"{each.platform}\s+layer\s+{layer.digest}\s", out)


def test_inspect_of_a_list_tells_its_names_and_the_lines_that_are_none(run, tmp_path):
    path = tmp_path / "needed.txt"
    path.write_text("# ours\nbusybox\nNo Name\n")
    code, out, _ = run("inspect", "--json", path)
    assert code == 3
    [item] = json.loads(out)["items"]
    assert (item["state"], item["format"], item["size_bytes"]) == ("partial", "list", 23)
    assert [i["references"] for i in item["images"]] == [["docker.io/library/busybox:latest"]]
    assert [p["image"] for p in item["problems"]] == ["No Name"]
    assert_documented("inspect", item)
    code, out, _ = run("inspect", path)
    assert code == 3
    assert "line 3: " in out
    assert "docker.io/library/busybox:latest" in out
    path.write_text("busybox")
    assert run("inspect", path)[0] == 0
    path.write_bytes(b"\0")
    code, out, _ = run("inspect", "--json", path)
    assert code == 3
    assert json.loads(out)["items"][0]["error"]["code"] == "archive_format"


def test_an_import_of_a_list_without_an_agent_is_refused(run, tmp_path):
    path = tmp_path / "needed.txt"
    path.write_text("busybox\n")
    code, out, _ = run("import", path)
    assert code == 1
    assert "container runtime" in out
    assert "no archives yet" in run("archives")[2]


def test_inspect_writes_nothing(run, sample, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    assert run("inspect", sample)[0] == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_inspect_notes_that_layers_were_not_decompressed(run, tmp_path):
    path = tmp_path / "a.tar"
    image = random_image("packed", media="docker", compression="gzip")
    docker_archive(path, {"example.com/app:1": image})
    code, out, _ = run("inspect", path)
    assert code == 0
    assert "note: compressed layers of this docker-archive were not decompressed" in out


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_inspect_of_one_incomplete_image_says_which(run, tmp_path, compression):
    path = tmp_path / ("a.tar" if compression == "none" else "a.tar.zst")
    good, other = random_image("good"), random_image("other")
    images = {"example.com/good:1": good, "example.com/other:1": other}
    lost = other.layers[-1].digest
    oci_archive(path, images, compression=compression, drop_blobs=[lost])
    code, out, _ = run("inspect", path)
    assert code == 3
    assert "partial: not every image can be imported" in out
    assert f"problem: example.com/other:1: blob {lost} is not in the archive" in out
    assert "\nexample.com/other:1 (incomplete)\n" in out
    code, out, _ = run("inspect", "--json", path)
    [item] = from_json(out)["items"]
    complete = {image["references"][0]: image["complete"] for image in item["images"]}
    assert complete == {"example.com/good:1": True, "example.com/other:1": False}


def test_inspect_finds_damage(run, tmp_path):
    path = tmp_path / "a.tar"
    oci_archive(path, {"example.com/app:1": random_image("a", layers=1, layer_bytes=100_000)})
    flip_bit(path, 60_000)
    code, out, _ = run("inspect", path)
    assert code == 3
    assert "damaged" in out


def test_inspect_of_a_cut_archive_is_incomplete(run, sample, tmp_path):
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(sample.read_bytes()[:-40])
    code, out, _ = run("inspect", cut, sample)
    assert code == 3
    assert "  incomplete: the file is truncated\n  problem: " in out
    assert NAME in out
    code, out, _ = run("inspect", "--json", cut)
    [item] = from_json(out)["items"]
    assert (code, item["state"]) == (3, "incomplete")
    assert item["error"]["code"] == "archive_truncated"
    assert_documented("inspect", item)


def test_inspect_of_what_is_not_there_failed(run, tmp_path):
    code, out, _ = run("inspect", "--json", tmp_path / "absent.tar")
    assert code == 1
    assert from_json(out)["items"][0]["state"] == "failed"


# The sample


def test_the_sample_is_written_and_described(run, tmp_path):
    path = tmp_path / "x.tar.zst"
    code, out, _ = run("sample", path, "--json")
    [item] = from_json(out)["items"]
    assert (code, item["images"], item["size_bytes"]) == (0, [NAME], path.stat().st_size)
    assert_documented("sample", item)
    code, out, _ = run("sample", path, "--format", "docker", "--platform", "linux/aarch64")
    assert code == 0
    assert out.startswith(f"{path}: {NAME} (docker, ")
    _, out, _ = run("inspect", path)
    assert "linux/arm64  manifest" in out


def test_a_sample_of_unknown_suffix_is_wrong_usage(run, tmp_path):
    code, _, err = run("sample", tmp_path / "x.rar")
    assert code == 2
    assert "hint: end it with one of" in err
    code, _, err = run("sample", tmp_path / "absent" / "x.tar")
    assert code == 1


# As a process


def test_a_reader_that_goes_away_is_no_error(data, sample, run):
    run("import", "--data", data, sample)
    with program("config", "show") as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_full_output_is_told():
    with (
        Path("/dev/full").open("wb") as full,
        subprocess.Popen(
            [*airside(), "config", "show"], stdout=full, stderr=subprocess.PIPE
        ) as process,
    ):
        err = process.stderr.read()
    assert process.returncode == 1
    assert err.startswith(b"airside: cannot write the output")
    assert b"Traceback" not in err


@changed_within
def test_names_that_the_encoding_lacks_are_escaped(tmp_path):
    path = tmp_path / "ä\udcff.tar"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    with program("sample", path, env=environment) as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert rb"\xe4\udcff.tar" in out


@pytest.mark.parametrize(
    "command", [["status"], ["images", "--json"], ["inspect"], ["import"]], ids=" ".join
)
def test_only_the_agent_imports_the_web_framework(data, sample, run, command):
    run("import", "--data", data, sample)
    target = [sample] if command[0] in ("inspect", "import") else []
    where = [] if command[0] == "inspect" else ["--data", data]
    args = [str(arg) for arg in (*command, *where, *target)]
    code = (
        "import sys; from airside.cli.main import main; code = main(sys.argv[1:]);"
        " sys.exit(code or bool({'aiohttp', 'asyncio', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_ends_an_import_in_good_order(data, tmp_path, run, number, code):
    archive = tmp_path / "slow.tar"
    docker_archive(archive, {"example.com/app:1": random_image("a", media="docker")})
    slow = (
        "import sys, time; from airside.archive import ingest\n"
        "from airside.cli.main import main\n"
        "before = ingest.ArchiveIngest.add_scanned\n"
        "def slow(self, *args):\n"
        "    print('reading', flush=True)\n"
        "    while not self.stop(): time.sleep(0.01)\n"
        "    before(self, *args)\n"
        "ingest.ArchiveIngest.add_scanned = slow\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    args = ["import", "--data", str(data), str(archive)]
    with subprocess.Popen(
        [sys.executable, "-c", slow, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"reading\n"
        process.send_signal(number)
        _, err = process.communicate()
    assert process.returncode == code
    assert b"Traceback" not in err
    assert run("images", "--data", data)[:2] == (0, "")


# With a stand-in for the agent


class _Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append((self.path, None))
        self._answer(self.server.answers[self.path])

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        self._answer(self.server.answers[self.path])

    def _answer(self, answer):
        if isinstance(answer, tuple):
            status, value = answer
            raw = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for value in answer:
            raw = json.dumps(value).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))
        self.wfile.write(b"0\r\n\r\n")

    def address_string(self):
        return "local"

    def log_message(self, *_args):
        pass


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextmanager
def agent(data, answers):
    """Answers by path: (status, JSON value), or a list of NDJSON lines. Gives what was asked."""
    data.mkdir(exist_ok=True, parents=True)
    here = Path.cwd()
    os.chdir(data)  # the path may be too long for a socket's address
    try:
        server = _Server("airside.sock", _Agent)
    finally:
        os.chdir(here)
    server.answers, server.asked = answers, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def event(number, **fields):
    blank = {"at": "2026-01-02T03:04:05Z", "path": "", "reference": "", "digest": "", "detail": ""}
    return {"id": number, "kind": "imported", **blank, **fields}


STATUS = {
    "schema": 1, "running": True, "pid": 42, "version": "9.9", "data": "/d", "images": 3,
    "repositories": 2, "unbacked": 1, "blobs": 4, "blob_bytes": 5_000_000,
    "archives": {"rejected": 1, "imported": 2}, "listen": "127.0.0.1:5050", "runtimes": [],
    "directories": [{"path": "/i", "mode": "poll", "reason": "a network file system", "files": 1}],
    "uptime_seconds": 200,
    "imports": [
        {"path": "/i/a.tar", "done_bytes": 500, "total_bytes": 2000, "rate_bytes_per_second": 1e6}
    ],
}  # fmt: skip


def test_the_agent_is_asked_first(run, data):
    with agent(data, {"/v1/status": (200, STATUS)}):
        code, out, _ = run("status", "--data", data, "--json")
        found = json.loads(out)
        verdict = found.pop("verdict")
        assert (code, found) == (0, STATUS)
        code, out, _ = run("status", "--data", data)
    assert code == 0
    assert not verdict["well"]
    assert out.startswith("1 archive of 3 is not imported completely (1 rejected)\n  → run ")
    assert verdict["sentence"] == out.splitlines()[0] + out.splitlines()[1].replace("  →", ";")
    assert "agent      running, process 42, for 3 min 20 s" in out
    assert "images     3 in 2 repositories, 1 without an archive" in out
    assert "archives   2 imported, 1 rejected" in out
    assert "directory  /i (poll, a network file system, 1 file)" in out
    assert "importing  /i/a.tar: 25 % of 2.0 kB, 1.0 MB/s" in out


def test_a_socket_path_of_any_length_is_reached(run, tmp_path):
    data = tmp_path / ("d" * 120)
    with agent(data, {"/v1/status": (200, STATUS)}):
        assert run("status", "--data", data, "--json")[0] == 0


def test_an_error_of_the_agent_keeps_its_code(run, data):
    error = {"code": "storage_full", "message": "the disk is full", "hint": "free space"}
    with agent(data, {"/v1/images": (503, {"schema": 1, "error": error})}):
        code, out, _ = run("images", "--data", data, "--json")
        assert code == 1
        assert from_json(out)["error"] == error
        code, _, err = run("images", "--data", data)
    assert err == "airside: the disk is full\n  hint: free space\n"


def test_events_are_followed_from_the_last_one_shown(run, data):
    answers = {
        "/v1/events?limit=2": (200, {"schema": 1, "items": [event(5), event(7, path="/a.tar")]}),
        "/v1/events?follow=1&after=7": [event(7), event(8, reference="x:1", detail={"n": 1})],
    }
    with agent(data, answers):
        code, out, err = run("events", "--follow", "--limit", 2, "--json", "--data", data)
        assert [json.loads(line)["id"] for line in out.splitlines()[:3]] == [5, 7, 8]
        code, out, err = run("events", "--follow", "--limit", 2, "--data", data)
    assert code == 1
    assert "the agent closed the stream" in err
    assert [line.split("  ")[1].strip() for line in out.splitlines()] == ["imported"] * 3
    assert out.splitlines()[2].endswith("x:1  n=1")


def test_following_only_what_is_new(run, data):
    answers = {
        "/v1/events?limit=1": (200, {"schema": 1, "items": [event(7)]}),
        "/v1/events?follow=1&after=7": [event(8)],
    }
    with agent(data, answers):
        _, out, _ = run("events", "-f", "-n", 0, "--data", data)
    assert len(out.splitlines()) == 1


def test_the_agent_imports(run, data, sample, monkeypatch):
    result = {
        "path": str(sample), "state": "imported", "images": [NAME], "problems": [], "reason": "",
        "new_blobs": 7, "seconds": 1.25,
    }  # fmt: skip
    lines = [{"done_bytes": 1, "total_bytes": 2}, {"result": result}]
    monkeypatch.chdir(sample.parent)
    with agent(data, {"/v1/import": lines}) as asked:
        code, out, _ = run("import", sample.name, "--data", data)
    assert asked == [("/v1/import", {"path": str(sample)})]
    assert (code, out) == (0, f"imported: {sample} (1 image, 7 new blobs, 1.2 s)\n  {NAME}\n")
    assert not (data / "catalog.db").exists()


@pytest.mark.parametrize(
    ("lines", "code", "state"),
    [
        ([{"error": {"code": "archive_truncated", "message": "cut"}}], 3, "incomplete"),
        ([{"error": {"code": "storage_full", "message": "full"}}], 1, "failed"),
        ([{"done_bytes": 1, "total_bytes": 2}], 1, "failed"),
        ((400, {"error": {"code": "request_invalid", "message": "no"}}), 3, "rejected"),
    ],
)
def test_an_import_that_the_agent_cannot_do_is_told(run, data, sample, lines, code, state):
    with agent(data, {"/v1/import": lines}):
        found, out, _ = run("import", "--data", data, "--json", sample)
    assert (found, from_json(out)["items"][0]["state"]) == (code, state)


def test_no_answer_at_all_is_told(run, data):
    class Mute(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(1)

    data.mkdir()
    with socketserver.UnixStreamServer(str(data / "airside.sock"), Mute) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        code, _, err = run("status", "--data", data)
        thread.join()
    assert code == 1
    assert "incomplete response from the agent" in err


def test_ctrl_c_ends_following(data):
    never = threading.Event()

    def lines():
        yield event(8)
        never.wait(20)

    answers = {
        "/v1/events?limit=1": (200, {"schema": 1, "items": []}),
        "/v1/events?follow=1&after=0": lines(),
    }
    with (
        agent(data, answers),
        program("events", "-f", "-n", "0", "--json", "--data", data) as process,
    ):
        assert json.loads(process.stdout.readline())["id"] == 8
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
        never.set()
        time.sleep(0.05)
    assert process.returncode == 130
    assert b"Traceback" not in err


# The reports


def test_the_reports_have_a_schema(run, data, sample):
    run("import", "--data", data, sample)
    with closing(open_view(data / "catalog.db")) as view:
        for make in (
            report.images_report,
            report.archives_report,
            report.events_report,
            report.status_report,
        ):
            assert make(view)["schema"] == 1
