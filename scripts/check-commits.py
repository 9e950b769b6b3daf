#!/usr/bin/env python3
"""Checks commit messages: one in a file, as git's commit-msg hook has it, or those since a commit.

A message is `room: what the commit does`, at most 72 characters, an empty line, and a body that
says why. docs/contributing.md has the rules in words. Merge commits are not judged.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAX_SUBJECT = 72
AREAS = ("all", "bench", "build", "ci", "docs", "fuzz", "packaging", "scripts", "tests")
"""What a subject may name besides the packages of `src/airside`."""

_SUBJECT = re.compile(r"([a-z_]+(?:, [a-z_]+)*): (\S.*)")
_CAPITAL = re.compile(r"[A-Z][a-z]+\b")
_UNFINISHED = re.compile(r"\bwip\b|^(?:fixup|squash|amend)!", re.IGNORECASE | re.MULTILINE)
_SCISSORS = "# ------------------------ >8 ------------------------"


def rooms(root: Path) -> frozenset[str]:
    """The packages of `src/airside`, of whatever depth."""
    package = root / "src/airside"
    return frozenset(path.parent.name for path in package.rglob("*/__init__.py"))


def problems(message: str, names: frozenset[str]) -> list[str]:
    """Returns what is wrong with a message; `names` are those that a subject may begin with."""
    subject, _, rest = message.strip().partition("\n")
    found = []
    if len(subject) > MAX_SUBJECT:
        found.append(f"the subject has {len(subject)} characters, at most {MAX_SUBJECT}")
    if subject.endswith("."):
        found.append("the subject ends in a full stop")
    found += _shape(subject, names)
    if not rest.strip():
        found.append("there is no body: say why, and what was measured")
    elif not rest.startswith("\n"):
        found.append("no empty line between the subject and the body")
    if _UNFINISHED.search(message):
        found.append("it is marked as unfinished (wip, fixup)")
    return found


def _shape(subject: str, names: frozenset[str]) -> list[str]:
    match = _SUBJECT.fullmatch(subject)
    if match is None:
        return ["the subject is not of the form `room: what the commit does`"]
    unknown = [name for name in match[1].split(", ") if name not in names]
    found = [f"{name} is neither a package nor one of {', '.join(AREAS)}" for name in unknown]
    if _CAPITAL.match(match[2]):
        found.append("what follows the room begins with a capital letter")
    return found


def without_comments(text: str) -> str:
    """The message in the file of an editor: no lines of `#`, nothing below the scissors."""
    kept = text.partition(_SCISSORS)[0].splitlines()
    return "\n".join(line for line in kept if not line.startswith("#"))


def messages_since(base: str, root: Path) -> list[str]:
    """Returns the messages of `base..HEAD`, the oldest first. Raises CalledProcessError."""
    command = ["git", "log", "--reverse", "--no-merges", "--format=%B%x00", f"{base}..HEAD"]
    run = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    return [message.strip() for message in run.stdout.split("\0") if message.strip()]


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Prints the problems of each message; returns 1 if there is one, else 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "file", nargs="?", type=Path, help="a message, as the hook commit-msg has it"
    )
    which.add_argument("--since", metavar="BASE", help="judge the commits of BASE..HEAD")
    given = parser.parse_args(arguments)
    if given.since:
        messages = messages_since(given.since, root)
    else:
        messages = [without_comments(given.file.read_text())]
    names = rooms(root) | frozenset(AREAS)
    failed = False
    for message in messages:
        for problem in problems(message, names):
            print(f"{message.partition(chr(10))[0]!r}: {problem}")
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
