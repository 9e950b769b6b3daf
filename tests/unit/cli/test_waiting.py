"""What takes longer than a second says so, on standard error, and leaves no trace of it."""

import io
import re
import threading
from types import SimpleNamespace

import pytest

from airside.cli import waiting
from airside.cli.waiting import shown_waiting
from support.waiting import wait_until


class Terminal(io.StringIO):
    is_terminal = True

    def isatty(self):
        return self.is_terminal


@pytest.fixture
def errors(monkeypatch):
    monkeypatch.setattr(waiting, "_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(waiting, "_TICK_SECONDS", 0.01)
    monkeypatch.setattr(waiting, "_LINE_SECONDS", 0.01)
    stream = Terminal()
    monkeypatch.setattr(waiting, "sys", SimpleNamespace(stderr=stream))  # pytest sets its own again
    return stream


def test_a_terminal_sees_that_the_work_goes_on_and_nothing_of_it_stays(errors):
    with shown_waiting("collecting \x1b[2J", quiet=True):
        wait_until(lambda: errors.getvalue().count("\r") > 1)
    text = errors.getvalue()
    assert re.match(r"\rcollecting \\x1b\[2J: 0.00 s …\x1b\[K", text)
    assert text.endswith("\r\x1b[K")


def test_elsewhere_there_are_lines_unless_they_are_not_wanted(errors):
    errors.is_terminal = False
    with shown_waiting("collecting"):
        wait_until(lambda: "collecting: 0.00 s\n" in errors.getvalue())
    errors.seek(errors.truncate(0))
    before = threading.active_count()
    with shown_waiting("collecting", quiet=True):
        assert threading.active_count() == before
    assert errors.getvalue() == ""


def test_a_terminal_sees_nothing_of_what_is_quick(errors, monkeypatch):
    monkeypatch.setattr(waiting, "_FIRST_SECONDS", 1000.0)
    with pytest.raises(ValueError, match="no"), shown_waiting("collecting"):
        raise ValueError("no")
    assert errors.getvalue() == ""
