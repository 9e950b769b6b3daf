"""Tables on terminals of any width: nothing wider than the terminal, nothing lost, all aligned."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airside.cli import output, terminal
from airside.cli.table import aligned, fitted, indented_rows, write_table
from airside.cli.terminal import cell_width, choose_color, shortened, wrapped

COLUMNS = ("PATH", "STATE", "FORMAT", "SIZE", "REASON")
ROWS = [
    ("/var/lib/airside/images/app.tar.zst", "imported", "oci-layout (zstd)", "12.3 MB", ""),
    (
        "/var/lib/airside/images/镜像-应用程序.tar",
        "rejected",
        "",
        "1.0 kB",
        "它太短: it ends early " * 9,
    ),
    ("/srv/🚀🚀🚀/" + "x" * 90, "partial", "docker-archive", "999.9 GB", "é" * 50),
]


@pytest.fixture(autouse=True)
def automatic_color():
    yield
    choose_color("auto")


@pytest.fixture
def wide_terminal(monkeypatch):
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    return lambda width: monkeypatch.setenv("COLUMNS", str(width))


def letters(text):
    return re.sub(r"[\s─]", "", text)


@pytest.mark.parametrize("width", [*range(8, 60), 79, 80, 100, 132, 200, 500])
def test_a_table_is_never_wider_than_the_terminal(width):
    lines, _ = fitted(COLUMNS, ROWS, width, right=("SIZE",), optional=("FORMAT", "SIZE"))
    assert [line for line in lines if cell_width(line) > width] == []


def test_a_column_that_is_left_out_is_named_and_the_others_are_whole():
    lines, left_out = fitted(COLUMNS, ROWS, 80, right=("SIZE",), optional=("FORMAT", "SIZE"))
    assert left_out == ["FORMAT"]
    assert not any("docker-archive" in line for line in lines)
    found = letters("".join(lines))
    assert found.count("x") >= 90
    assert found.count("é") == 50


@given(st.integers(2, 40), st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"])))
def test_a_text_that_is_wrapped_loses_nothing(width, text):
    parts = wrapped(text, width)
    assert "".join(parts) == text
    assert all(cell_width(part) <= width for part in parts)
    assert cell_width(shortened(text, width)) <= width


def test_a_very_narrow_terminal_gets_lines_instead_of_columns():
    lines, left_out = fitted(COLUMNS, ROWS, 24, right=("SIZE",), optional=("FORMAT",))
    assert left_out == []
    assert "STATE  imported" in lines
    assert "SIZE  12.3 MB" in lines


def test_wide_and_combining_characters_are_aligned():
    text = aligned([["应用", "1"], ["a\u0301b", "2"], ["🚀", "3"]], [False, False])
    assert {cell_width(line.rpartition(" ")[0]) for line in text.splitlines()} == {5}


def test_what_is_piped_is_whole_and_without_colour_unless_it_is_asked_for(capsys):
    write_table(COLUMNS, ROWS, right=("SIZE",), optional=COLUMNS)
    whole = capsys.readouterr().out
    assert "\x1b" not in whole
    assert all(cell.strip() in whole for row in ROWS for cell in row)
    choose_color("always")
    try:
        write_table(COLUMNS, ROWS, right=("SIZE",))
    finally:
        choose_color("auto")
    coloured = capsys.readouterr().out
    assert "\x1b[31mrejected\x1b[0m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == whole


def test_names_of_strangers_reach_no_terminal_as_control(wide_terminal, capsys):
    wide_terminal(60)
    hostile = "a\x1b[2J\x07\u202egpj.exe\u2066\x9b31m\nb"
    write_table(("PATH", "STATE"), [(hostile, "imported")])
    text = capsys.readouterr().out
    assert r"a\x1b[2J\x07\u202egpj" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


def test_no_color_and_a_dumb_terminal_turn_colours_off(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert terminal.styled("x", "red") == "\x1b[31mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert terminal.styled("x", "red") == "x"
    choose_color("always")
    assert terminal.styled("x", "red") == "\x1b[31mx\x1b[0m"
    choose_color("auto")
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert terminal.styled("x", "red") == "x"


def test_a_long_text_goes_on_below_itself():
    lines = indented_rows([("agent", "running"), ("runtime", "/run/containerd " * 8)], 40)
    assert all(cell_width(line) <= 40 for line in lines)
    assert lines[0] == "agent    running"
    assert all(line.startswith("         /run") for line in lines[2:])
