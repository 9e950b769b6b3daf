"""The frozen program: everything that is imported late is in it, and it costs no more."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

import airside
from airside.cli.main import airside as commands
from support import agent as agents
from support import program
from support.agent import Agent
from support.images import oci_archive, random_image
from support.shipped import frozen
from support.waiting import LIMIT_SECONDS

PROGRAM = str(frozen() / "bin/airside")
MEGABYTE = 1 << 20


def run(*words, **options):
    done = subprocess.run(
        [PROGRAM, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
        **options,
    )
    return done.returncode, done.stdout, done.stderr


@contextmanager
def running(tmp_path, words, monkeypatch, **environ):
    """An agent of the program, or of this tree (`words` empty), in a process of its own."""
    monkeypatch.setattr(program, "PROGRAM", words)
    monkeypatch.setattr(agents, "PROGRAM", words)
    images = tmp_path / "images"
    images.mkdir(exist_ok=True)
    with Agent(images, tmp_path / "data", environ=environ, before=["env"]) as found:
        yield found


def test_it_says_its_version():
    code, out, _ = run("--version", "--json")
    found = json.loads(out)
    assert (code, found["version"], found["python"][:5]) == (0, airside.__version__, "3.11.")


@pytest.mark.parametrize("name", commands.list_commands(None))
def test_every_command_is_in_it(name):
    code, out, err = run(name, "--help")
    assert (code, err) == (0, "")
    assert f"Usage: airside {name}" in out


def test_it_needs_nothing_of_the_environment(tmp_path):
    environ = {"PYTHONHOME": "/nonexistent", "PYTHONPATH": "/nonexistent", "LANG": "C"}
    code, out, err = run("sample", tmp_path / "ä.tar", env=environ, cwd="/")
    assert (code, err) == (0, "")
    assert "docker.io/airside/hello:1" in out


def test_an_agent_of_it_imports_serves_and_shows_its_page(tmp_path, monkeypatch):
    with running(tmp_path, PROGRAM, monkeypatch) as agent:
        for suffix in ("", ".gz", ".zst", ".xz", ".bz2", ".lz4"):
            name = f"docker.io/site/app:1{suffix.replace('.', '-')}"
            path = agent.watched / f"app.tar{suffix}"
            oci_archive(path, {name: random_image(f"a{suffix}")}, compression=suffix.lstrip("."))
            agent.wait_imported(path)
        assert len(agent.images()) == 6
        assert agent.get("/v2/site/app/manifests/1-zst")[0] == 200
        code, page = agent.get("/ui/")
        assert (code, page[:15]) == (200, b"<!doctype html>")
        code, metrics = agent.get("/metrics")
        assert code == 200
        assert b"airside_build_info" in metrics
        code, out, _ = run("doctor", "--data", agent.data, "--json")
        found = {item["id"]: item["severity"] for item in json.loads(out)["items"]}
        assert found["agent.fallback"] == "ok"


def test_while_it_hangs_its_fallback_server_answers(tmp_path, monkeypatch):
    with running(tmp_path, PROGRAM, monkeypatch, AIRSIDE_ANSWER_SECONDS="1") as agent:
        agent.wait_for(lambda: agent.status()["fallback"]["state"] == "running")
        fallback = agent.status()["fallback"]["pid"]
        command = Path(f"/proc/{fallback}/cmdline").read_bytes().split(b"\0")
        assert command[:2] == [os.fsencode(PROGRAM), b"fallback-server"]
        address = agent.registry
        ask = ["curl", "-s", "-m", "60", "-o", "/dev/null", "-w", "%{http_code}"]
        os.kill(agent.pid, signal.SIGSTOP)
        try:
            url = f"http://{address}/v2/a/manifests/1"
            answers = [
                subprocess.run([*ask, u], capture_output=True, text=True, check=False).stdout
                for u in (f"{url}?ns=docker.io", url)
            ]
        finally:
            os.kill(agent.pid, signal.SIGCONT)
        assert answers == ["404", "503"]
        assert agent.get("/v2/")[0] == 200


def test_an_idle_agent_of_it_takes_at_most_10_megabytes_more(tmp_path, monkeypatch):
    taken = {}
    for words in ("", PROGRAM):
        with running(tmp_path, words, monkeypatch) as agent:
            agent.wait_idle()
            agent.wait_for(lambda: agent.status()["fallback"]["state"] == "running")  # noqa: B023
            numbers = (agent.pid, agent.status()["fallback"]["pid"])
            taken[words] = [_resident_bytes(number) for number in numbers]
    print({sys.executable if not k else k: [v // 1024 for v in vs] for k, vs in taken.items()})
    for mine, wheels in zip(taken[PROGRAM], taken[""], strict=True):
        assert mine <= wheels + 10 * MEGABYTE


def _resident_bytes(number: int) -> int:
    text = Path(f"/proc/{number}/status").read_text()
    [line] = [line for line in text.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024
