"""`airside status --check`, the health check of the image: what a running agent makes of it."""

from pathlib import Path

import pytest

from airside.cli.main import main
from support.agent import Agent

pytestmark = pytest.mark.system


@pytest.fixture
def check(agent: Agent, capsys: pytest.CaptureFixture[str]):
    def check() -> tuple[int, str]:
        code = main(["status", "--check", "--data", str(agent.data)])
        return code, capsys.readouterr().out

    return check


def test_it_ends_well_also_after_a_bad_archive_and_badly_without_an_agent(agent: Agent, check):
    code, out = check()
    assert code == 0, out
    archive: Path = agent.watched / "bad.tar"
    archive.write_bytes(b"no archive" * 1000)
    agent.wait_state(archive, "rejected")
    code, out = check()
    assert code == 0, out
    agent.stop()
    code, out = check()
    assert code == 1, out
    agent.start()
