"""Manual pages and completions, by the programs that read them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "packaging"), str(ROOT / "scripts")]

from packages import completions, manual, roff  # noqa: E402 - of the build, not installed

from airside.cli.main import airside as command  # noqa: E402

PAGES = manual.pages(command, "2026-01-01")


def text_of(page):
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-rLL=120n", "-P-c", "-P-b", "-P-u"],
        input=page.encode(),
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    return done.stdout.decode()


def test_there_is_a_page_of_each_command_and_of_the_settings():
    names = {f"airside-{name}.1" for name in ("run", "mirror-write", "install", "tag-rollback")}
    assert names | {"airside.1", "airside.toml.5"} <= set(PAGES)


@pytest.mark.needs("groff")
def test_every_page_is_formatted_without_a_warning():
    for name, page in PAGES.items():
        assert page.isascii()
        assert "NAME" in text_of(page), name


@pytest.mark.needs("groff")
def test_a_page_has_every_option_with_its_help_and_the_example():
    text = text_of(PAGES["airside-install.1"])
    for words in ("--k3s", "-n, --dry-run", "change nothing.", "sudo airside install --k3s"):
        assert words in text
    text = text_of(PAGES["airside.toml.5"])
    for words in ("min_free_bytes", '"256MiB"', "[[retention_rules]]", "older_than_seconds"):
        assert words in text


@pytest.mark.needs("groff")
def test_text_that_looks_like_roff_stays_text():
    body = [*roff.paragraphs(".TH \\fBx\\fR\n\n\b\n.so /etc/passwd\n'quoted'  `code` ~^…\n")]
    text = text_of(roff.page("x", 1, "2026-01-01", "1", title="a - b", body=body))
    for words in (".TH \\fBx\\fR", ".so /etc/passwd", "'quoted'  `code` ~^…"):
        assert words in text


# --- completions: each shell reads its file, and is asked what it would offer

SCRIPTS = {
    "bash": """
        source {file}
        COMP_WORDS=(airside mi) COMP_CWORD=1 COMPREPLY=()
        _airside_completion airside mi airside
        echo "${{COMPREPLY[@]}}"
        COMP_WORDS=(airside run --log-f) COMP_CWORD=2 COMPREPLY=()
        _airside_completion airside --log-f run
        echo "${{COMPREPLY[@]}}"
    """,
    "fish": """
        source {file}
        complete --do-complete "airside mi"
        complete --do-complete "airside run --log-f"
    """,
    "zsh": """
        compdef() {{ :; }}
        compadd() {{ shift 2>/dev/null; print -r -- $completions_without_descriptions; }}
        _describe() {{ print -r -- ${{(P)@[-2]:-${{(P)3}}}} ${{(P)@[3]}}; }}
        words=(airside mi) CURRENT=2
        source {file}
        _airside_completion
        words=(airside run --log-f) CURRENT=3
        _airside_completion
    """,
}


@pytest.fixture
def program(tmp_path):
    """A directory with `airside`, as a shell finds it."""
    file = tmp_path / "bin/airside"
    file.parent.mkdir()
    file.write_text(f'#!/bin/sh\nexec {sys.executable} -m airside "$@"\n')
    file.chmod(0o755)
    return file.parent


@pytest.mark.parametrize("shell", [pytest.param(s, marks=pytest.mark.needs(s)) for s in SCRIPTS])
def test_a_shell_completes_commands_and_options(tmp_path, program, shell):
    [text] = [t for path, t in completions.files(command).items() if f"/{shell}" in path]
    file = tmp_path / "completion"
    file.write_text(text)
    done = subprocess.run(
        [shutil.which(shell), "-c", SCRIPTS[shell].format(file=file)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PATH": f"{program}:{os.environ['PATH']}", "HOME": str(tmp_path)},
    )
    assert "mirror" in done.stdout, done.stderr
    assert "--log-format" in done.stdout, done.stderr
