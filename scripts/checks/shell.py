"""Blocks of shell in documents: bash parses each, and a translation has the same commands.

Nothing is run.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from checks.prose import Text, documents, shell_blocks, shell_lines

_TRANSLATED = re.compile(r"\.zh(?=\.md$)")


def problems(root: Path) -> list[str]:
    """Returns a line for each block that is no shell, and each translation with other commands."""
    texts = documents(root)
    found = [problem for text in texts for problem in wrong_shell(text)]
    originals = {text.file: text for text in texts}
    for text in texts:
        original = originals.get(_TRANSLATED.sub("", text.file))
        if original is text:
            continue
        found += (
            [f"{text.file}:1: a translation of no document"]
            if original is None
            else other_commands(text, original)
        )
    return found


def wrong_shell(text: Text) -> Iterator[str]:
    """What `bash -n` says of each block of shell."""
    for block in shell_blocks(text):
        done = subprocess.run(
            ["bash", "-n"], input=block.code, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            yield f"{block.where}: no shell: {done.stderr.strip().splitlines()[0]}"


def other_commands(text: Text, original: Text) -> Iterator[str]:
    """The first command that a translation has and its original has not, or the reverse."""
    ours, theirs = ([_bare(span.code) for span in shell_lines(each)] for each in (text, original))
    for command in ours:
        if command not in theirs:
            yield f"{text.file}:1: {original.file} lacks the command: {command}"
            return
    for command in theirs:
        if command not in ours:
            yield f"{text.file}:1: lacks the command of {original.file}: {command}"
            return


def _bare(line: str) -> str:
    """A command without its comment, which is translated."""
    return re.sub(r"\s+# (?!exit code).*", "", line).strip()
