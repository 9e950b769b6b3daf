"""An agent that is connected to no container runtime keeps lists waiting, and says so."""

import time

import pytest

from airside.importer.list_importer import NO_RUNTIME
from support.agent import Agent
from support.command import airside

pytestmark = pytest.mark.system

NAME = "docker.io/library/busybox:1"


def test_a_dropped_list_waits_and_is_shown_like_an_archive(agent: Agent):
    path = agent.watched / "needed.txt"
    path.write_text(f"{NAME}\nNo Name\n")
    found = agent.wait_state(path, "waiting")
    assert (found["kind"], found["format"], found["reason"]) == ("list", "list", NO_RUNTIME)
    assert {problem["image"] for problem in found["problems"]} == {NAME, "No Name"}
    assert agent.status()["archives"] == {"waiting": 1}
    assert agent.complaints() == []
    explained = agent.ask(f"/v1/explain?what={path}")
    assert (explained["kind"], explained["archive_kind"]) == ("archive", "list")
    assert explained["advice"]
    assert NO_RUNTIME in airside("explain", "--data", agent.data, path).stdout
    assert NO_RUNTIME in agent.get(f"/ui/archive?path={path}")[1].decode()
    agent.restart()
    agent.wait_state(path, "waiting")
    path.unlink()
    agent.wait_state(path, "removed")


def test_looking_for_a_runtime_again_and_again_is_no_event(agent: Agent):
    path = agent.watched / "needed.txt"
    path.write_text(f"{NAME}\n")
    agent.wait_state(path, "waiting")
    after = agent.now()
    time.sleep(4.0)  # two looks: after 1 s and 2 s
    assert agent.events(after=after) == []


def test_an_import_by_hand_is_refused_with_what_to_do(agent: Agent):
    path = agent.data.parent / "needed.txt"
    path.write_text(f"{NAME}\n")
    error = agent.import_file(path)["error"]
    assert error["code"] == "unavailable"
    assert "import archives" in error["message"]
    assert path not in agent.archives()
