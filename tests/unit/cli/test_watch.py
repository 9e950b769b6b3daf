"""What `airside watch` says of an agent that hangs, ends or begins with another catalog."""

import pytest

from airside.cli.client import ControlClient, NoAgentError
from airside.cli.watch import _Changes
from airside.cli.watch_feed import Feed, Moment
from airside.cli.watch_screen import screen, verdict_now
from airside.core.errors import UnavailableError
from support.waiting import wait_until
from unit.diagnostics.test_verdict import WELL

STATUS = WELL | {"imports": [], "blob_bytes": 1, "runtimes": []}


def event(number, kind="imported"):
    return {"id": number, "kind": kind, "at": "", "reference": f"a:{number}", "path": ""}


@pytest.mark.parametrize(
    ("error", "code"),
    [(NoAgentError("no agent"), "stopped"), (UnavailableError("no answer in time"), "silent")],
)
def test_an_agent_that_hangs_is_not_called_stopped(tmp_path, monkeypatch, error, code):
    answers = [STATUS]

    def get(_self, path, *_args, **_kwargs):
        if path == "/v1/status" and answers:
            return answers.pop()
        raise error

    monkeypatch.setattr(ControlClient, "get", get)
    monkeypatch.setattr("airside.cli.watch_feed._LEAST_SECONDS", 0.001)
    monkeypatch.setattr("airside.cli.watch_feed._pause", lambda _status: 0.001)
    feed = Feed(tmp_path, lambda: None)
    feed.start()
    try:
        wait_until(lambda: feed.moment().away and feed.moment().status)
        assert verdict_now(feed.moment()).first.code == code
    finally:
        feed._fatal = error


def test_the_events_of_another_catalog_are_told_once():
    changes = _Changes()
    moments = [(7, 8), (1,), (1, 2)]
    told = [
        [each["id"] for each in changes.events(Moment(events=tuple(map(event, numbers))))]
        for numbers in moments
    ]
    assert told == [[7, 8], [1], [2]]


def test_a_feed_forgets_the_events_of_another_catalog(tmp_path, monkeypatch):
    pages = [[event(7), event(8)], [event(1)]]
    monkeypatch.setattr(ControlClient, "get", lambda *_a, **_k: {"items": pages.pop(0)})
    monkeypatch.setattr(ControlClient, "iter_lines", lambda *_a, **_k: iter(()))
    feed = Feed(tmp_path, lambda: None)
    feed._follow_once()
    feed._follow_once()
    assert [each["id"] for each in feed.moment().events] == [1]


@pytest.mark.parametrize("width", [1, 8, 20])
@pytest.mark.parametrize("height", [1, 2, 5, 24])
def test_a_tiny_screen_is_not_overrun(width, height):
    moment = Moment(STATUS, events=(event(1, "published"), event(2, "a kind with a long name")))
    lines = screen(moment, "12:00:00", width, height)
    assert len(lines) <= height
