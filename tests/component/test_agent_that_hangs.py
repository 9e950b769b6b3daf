"""What commands answer while an agent has the data directory and does not answer."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from airside.archive.sample import SAMPLE_NAME, write_sample
from airside.cli import fetch_report
from airside.cli.main import main
from airside.store.data_lock import locked

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("AIRSIDE_RUNTIME", "none")
    monkeypatch.setattr(fetch_report, "ANSWER_SECONDS", 0.2)

    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(params=["accepts", "is full"])
def hanging(request: pytest.FixtureRequest, run: Run, tmp_path: Path) -> Iterator[Path]:
    """A data directory with an image, whose agent accepts connections only, or none any more."""
    data = tmp_path / "data"
    write_sample(tmp_path / "hello.tar")
    assert run("import", tmp_path / "hello.tar", "--data", data)[0] == 0
    path = str(data / "airside.sock")
    with ExitStack() as stack:
        stack.enter_context(locked(data))
        agent = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
        agent.bind(path)
        agent.listen(0)
        if request.param == "is full":
            waiting = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
            waiting.connect(path)
        yield data


def test_status_answers_from_the_catalog_and_says_so(run: Run, hanging: Path) -> None:
    code, out, _ = run("status", "--data", hanging, "--json")
    status = json.loads(out)
    assert code == 0
    assert (status["running"], status["pid"], status["images"]) == (True, os.getpid(), 1)
    assert "does not answer" in status["silent"]
    code, out, err = run("status", "--data", hanging)
    assert f"process {os.getpid()} does not answer" in out
    assert "does not answer" in err


@pytest.mark.parametrize("command", ["images", "archives", "events"])
def test_lists_are_those_of_the_catalog_and_say_so(run: Run, hanging: Path, command: str) -> None:
    code, out, _ = run(command, "--data", hanging, "--json")
    report = json.loads(out)
    assert code == 0
    assert "does not answer" in report["silent"]
    assert SAMPLE_NAME in json.dumps(report["items"])
    code, out, err = run(command, "--data", hanging)
    assert code == 0
    assert SAMPLE_NAME in out or command == "archives"
    assert "does not answer" in err


def test_without_a_readable_catalog_the_error_is_that_it_hangs(run: Run, hanging: Path) -> None:
    for path in hanging.glob("catalog.db*"):
        path.unlink()
    code, out, _ = run("images", "--data", hanging, "--json")
    assert code == 1
    assert json.loads(out)["error"]["code"] == "agent_silent"
