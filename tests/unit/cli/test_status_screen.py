"""`airside status` on a screen: what is the matter comes first, and all of it fits."""

import pytest

from airside.cli import output
from airside.cli.status_screen import fit_screen, status_text
from airside.cli.terminal import cell_width
from airside.diagnostics.verdict import Concern, Verdict

FEW = [("agent", "running, process 42"), ("images", "3 in 2 repositories")]
MANY = [
    ("agent", "running, process 42"),
    ("version", "0.2.0"),
    ("UNPUBLISHED", "registry.example/应用:1 is failed in /run/containerd.sock: " + "why " * 60),
    *[("runtime", f"/run/{n}/containerd.sock (containerd 2.1)") for n in range(9)],
    *[("directory", f"/srv/images/{n} (inotify, 3 files)\x1b[2J") for n in range(40)],
    ("activity", "idle"),
]
WELL = Verdict(Concern("well", "ok", {"images": "3"}))
BAD = Verdict(
    Concern("full", "problem", {"free": "1 kB"}),
    tuple(Concern("absent", "warning", {"path": f"/{n}", "reason": "x"}) for n in range(7)),
)


@pytest.mark.parametrize("rows", [FEW, MANY], ids=["few", "many"])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (132, 50), (40, 24), (30, 15), (200, 12)])
@pytest.mark.parametrize("verdict", [WELL, BAD], ids=["well", "bad"])
def test_the_verdict_comes_first_and_the_rest_fits_the_screen(
    monkeypatch, verdict, rows, width, height
):
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", str(height))
    lines = status_text(verdict, rows).splitlines()
    assert lines[0].startswith(verdict.first.found[:25])
    assert len(lines) < max(height, 13 if verdict is BAD else 0)  # a prompt fits below
    assert [line for line in lines if cell_width(line) > width] == []
    assert not any("\x1b" in line for line in lines)


def test_repeated_details_are_counted_and_said_to_be_shortened():
    lines = fit_screen(["All is well"], MANY, 80, 12)
    assert any("runtime" in line and "(1 of 9) /run/0" in line for line in lines)
    assert lines[-1] == "shortened to this screen: airside status | cat shows all"


def test_in_a_pipe_everything_is_there(monkeypatch):
    monkeypatch.setattr(output, "is_terminal", lambda: False)
    text = status_text(BAD, MANY)
    assert text.startswith("The disk is full (1 kB free): imports wait\n  → free space, or")
    assert text.count("The watched directory") == 7
    assert text.count("/srv/images/") == 40
    assert "why " * 59 in text
