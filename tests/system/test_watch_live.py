"""`airside watch`: on a terminal, through restarts of the agent, in a pipe, and as JSON lines."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent import Agent
from support.host import without_settings
from support.images import oci_archive, random_image
from support.processes import die_with_parent
from support.schemas import check_output
from support.screen import OnTerminal
from support.waiting import wait_until

pytestmark = pytest.mark.system

HOSTILE = "镜像-\u202egpj\x1b[2J.tar"


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    root = tmp_path_factory.mktemp("watched")
    (root / "images").mkdir()
    with Agent(root / "images", root / "data") as agent:
        yield agent


def drop(agent: Agent, name: str, *, of: str = "") -> Path:
    path = agent.images_paths[0] / name
    oci_archive(path, {f"example.com/{of or 'watch'}:1": random_image(name, layers=1)})
    return path


def test_an_archive_that_arrives_is_on_the_screen_and_q_leaves_it_clean(agent: Agent) -> None:
    with OnTerminal("watch", "--data", agent.data) as shown:
        shown.wait_for("All is well", "q quits")
        assert shown.screen.alternate
        drop(agent, "first.tar")
        shown.wait_for("Last events", "imported", "first.tar", "All is well: 1 image")
        shown.press("q")
        assert shown.wait_end() == 0
        assert shown.is_as_before()


def test_what_is_wrong_comes_first_and_strangers_names_are_text(agent: Agent) -> None:
    with OnTerminal("watch", "--data", agent.data) as shown:
        shown.wait_for("q quits")
        bad = agent.images_paths[0] / HOSTILE
        bad.write_bytes(b"no archive" * 1000)
        shown.wait_for("not imported completely", "airside archives", r"\u202egpj\x1b[2J.tar")
        bad.unlink()
        shown.wait_for("All is well")
        shown.press("\x03")
        assert shown.wait_end() == 130
        assert shown.is_as_before()


def test_a_screen_of_any_size_is_not_overrun(agent: Agent) -> None:
    drop(agent, f"{'long-' * 30}.tar", of="x" * 100)
    with OnTerminal("watch", "--data", agent.data, columns=132, rows=40) as shown:
        shown.wait_for("q quits", "long-")
        for columns, rows in ((40, 12), (20, 5), (80, 24)):
            shown.resize(columns, rows)
            shown.wait_for("q quits", "All is")
            assert shown.screen.widest <= columns
        os.kill(shown.process.pid, signal.SIGTERM)
        assert shown.wait_end() == 143
        assert shown.is_as_before()


def test_no_color_is_respected(agent: Agent) -> None:
    with OnTerminal("watch", "--data", agent.data, NO_COLOR="1") as shown:
        shown.wait_for("q quits", "All is well")
        shown.press("q")
        assert shown.wait_end() == 0
        assert not re.search(rb"\x1b\[(3|9)[0-7]", shown.raw)


def test_the_shell_gets_its_terminal_while_watch_is_stopped(agent: Agent) -> None:
    with OnTerminal("watch", "--data", agent.data) as shown:
        shown.wait_for("q quits", "All is well")
        os.kill(shown.process.pid, signal.SIGTSTP)
        wait_until(lambda: stopped(shown.process.pid), "it stops")
        shown.wait_for("")
        assert shown.is_as_before()
        os.kill(shown.process.pid, signal.SIGCONT)
        shown.wait_for("q quits", "All is well")
        shown.press("q")
        assert shown.wait_end() == 0


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_an_agent_that_is_restarted_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    agent = Agent(tmp_path / "images", tmp_path / "data")
    with OnTerminal("watch", "--data", tmp_path / "data") as shown:
        shown.wait_for("no agent runs", "waiting for it")
        with agent:
            shown.wait_for("All is well")
        shown.wait_for("The agent does not run", "away: no agent runs")
        with agent:
            drop(agent, "again.tar")
            shown.wait_for("All is well: 1 image", "again.tar")
        shown.press("q")
        assert shown.wait_end() == 0


@pytest.mark.parametrize("json_lines", [False, True], ids=["text", "json"])
def test_in_a_pipe_each_change_is_a_line(agent: Agent, *, json_lines: bool) -> None:
    words = ["watch", "--data", str(agent.data), *(["--json"] if json_lines else [])]
    with subprocess.Popen(
        [sys.executable, "-m", "airside", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=without_settings(),
        preexec_fn=die_with_parent,  # noqa: PLW1509 - it only makes one system call
    ) as process:
        assert process.stdout is not None
        try:
            lines = iter(process.stdout)
            if json_lines:
                read_json(lines)
                drop(agent, "piped-json.tar")
                while not is_imported(read_json(lines), "piped-json.tar"):
                    pass
            else:
                read_until(lines, r"^[-0-9]{10} [:0-9]{8}  status      All is well")
                drop(agent, "piped-text.tar")
                read_until(lines, r"^[-0-9]{10} [:0-9]{8}  imported    .*/piped-text\.tar$")
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait() == 130


def read_until(lines: Iterator[str], pattern: str) -> None:
    for line in lines:
        assert "\x1b" not in line
        if re.search(pattern, line.rstrip()):
            return
    raise AssertionError(pattern)


def read_json(lines: Iterator[str]) -> dict[str, object]:
    value = json.loads(next(lines))
    check_output("watch", value)
    return dict(value)


def is_imported(value: dict[str, object], name: str) -> bool:
    event = value.get("event")
    return isinstance(event, dict) and event["kind"] == "imported" and event["path"].endswith(name)
