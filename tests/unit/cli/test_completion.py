"""What a shell is offered for an argument."""

import click
import pytest

from airside.cli.client import ControlClient, NoAgentError
from airside.cli.explain import explain
from airside.cli.main import airside

HELD = ["docker.io/library/app:1", "docker.io/library/web:2", "quay.io/x/bad\x1b:1", None]


def offered(command, word):
    context = click.Context(command, info_name=command.name, parent=click.Context(airside))
    parameter = next(p for p in command.params if isinstance(p, click.Argument))
    return [(item.value, item.type) for item in parameter.shell_complete(context, word)]


@pytest.fixture
def rollback():
    group = airside.get_command(click.Context(airside), "tag")
    return group.get_command(click.Context(group), "rollback")


def test_references_of_the_running_agent_are_offered(monkeypatch, rollback):
    def answer(_self, _path, **_others):
        return {"items": [{"reference": name} for name in HELD]}

    monkeypatch.setattr(ControlClient, "get", answer)
    assert offered(rollback, "docker.io/library/a") == [(HELD[0], "plain")]
    assert len(offered(rollback, "docker.io/")) == 2
    assert offered(rollback, "quay") == []  # a terminal's control characters are never printed
    assert offered(explain, "docker.io/library/w") == [(HELD[1], "plain")]
    assert offered(explain, "./archive") == [("./archive", "file")]


def test_without_an_agent_nothing_is_offered_but_files(monkeypatch, rollback):
    def fail(_self, _path, **_others):
        raise NoAgentError("no agent runs")

    monkeypatch.setattr(ControlClient, "get", fail)
    assert offered(rollback, "d") == []
    assert offered(explain, "d") == [("d", "file")]
