"""Logs: lines for people, or one JSON object a line."""

import io
import json
import logging
import re
import sys

import pytest

from airside.core.logs import JsonFormatter, TextFormatter, human_bytes, set_up_logs


def record(level=logging.INFO, message="imported %s", args=("é",), error=None):
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("airside.x", level, __file__, 1, message, args, info)


def failure():
    try:
        raise ValueError("odd")  # noqa: TRY301 - a traceback is wanted
    except ValueError as exc:
        return exc


def test_json_is_one_line_with_all_that_matters():
    text = JsonFormatter().format(record(message="two\nlines %s"))
    assert "\n" not in text
    value = json.loads(text)
    assert set(value) == {"at", "level", "logger", "message"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", value["at"])
    assert value["level"] == "info"
    assert value["logger"] == "airside.x"
    assert value["message"] == "two\nlines é"
    assert "é" in text


def test_json_has_the_traceback():
    value = json.loads(JsonFormatter().format(record(logging.ERROR, error=failure())))
    assert "ValueError: odd" in value["traceback"]


def test_text_shows_the_level_where_it_is_not_info():
    formatter = TextFormatter()
    assert re.fullmatch(r"\d\d:\d\d:\d\d imported é", formatter.format(record()))
    assert formatter.format(record(logging.WARNING)).endswith(" warning: imported é")
    text = formatter.format(record(logging.ERROR, error=failure()))
    assert text.splitlines()[-1] == "ValueError: odd"


def test_a_file_name_cannot_forge_a_line_or_steer_the_terminal():
    text = TextFormatter().format(record(args=("a\n12:00:00 b\x1b[2J.tar",)))
    assert text.endswith(" imported a\\n12:00:00 b\\x1b[2J.tar")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def _logging_as_before():
    root, ours = logging.getLogger(), logging.getLogger("airside")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


@pytest.mark.usefixtures("_logging_as_before")
@pytest.mark.parametrize(
    ("form", "stream", "is_json"),
    [
        ("auto", Terminal(), False),
        ("auto", io.StringIO(), True),
        ("text", io.StringIO(), False),
        ("json", Terminal(), True),
    ],
)
def test_the_form_follows_the_terminal_unless_it_is_set(form, stream, is_json, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    set_up_logs(form=form, level="info")
    logging.getLogger("airside.test").info("shown")
    logging.getLogger("airside.test").debug("not shown")
    logging.getLogger("another.library").info("not shown")
    [line] = stream.getvalue().splitlines()
    assert line.startswith("{") is is_json


@pytest.mark.usefixtures("_logging_as_before")
def test_setting_up_twice_shows_each_line_once(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    set_up_logs(form="json", level="info")
    set_up_logs(form="json", level="debug")
    logging.getLogger("airside.test").debug("once")
    assert len(stream.getvalue().splitlines()) == 1


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (12_345_678, "12.3 MB"),
        (5_000_000_000, "5.0 GB"),
        (7_000_000_000_000_000, "7000.0 TB"),
    ],
)
def test_sizes_for_people(count, text):
    assert human_bytes(count) == text
