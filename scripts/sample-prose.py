#!/usr/bin/env python3
"""Prints docstrings, log lines and commit subjects drawn at random, to read beside the guide.

The same seed draws the same of the same code. How to write: docs/contributing.md.
"""

import argparse
import ast
import random
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from checks.source import ROOT, Module, modules

COUNT = 10
LOG_METHODS = frozenset({"debug", "info", "warning", "error", "exception", "critical"})
RECENT_COMMITS = 100
_LOGGER = re.compile(r"(?:^|[._])log(?:ger)?$", re.IGNORECASE)


def docstrings(root: Path) -> list[str]:
    """All docstrings of `src`, those of fields among them, each with its file and line."""
    return [found for module in modules(root) for found in _docstrings_of(module, root)]


def _docstrings_of(module: Module, root: Path) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            text = "\n    ".join(line.strip() for line in node.value.value.strip().splitlines())
            yield f"{_where(module, node, root)}\n    {text}"


def log_lines(root: Path) -> list[str]:
    """All log calls of `src`, with their arguments as written."""
    return [
        f"{_where(module, call, root)}\n    {method}: {', '.join(map(ast.unparse, call.args))}"
        for module in modules(root)
        for call, method in _log_calls(module)
    ]


def _log_calls(module: Module) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(module.tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in LOG_METHODS
            and _LOGGER.search(ast.unparse(node.func.value))
        ):
            yield node, node.func.attr


def subjects(root: Path) -> list[str]:
    """The subjects of recent commits, without merges."""
    command = ["git", "log", "--no-merges", f"-{RECENT_COMMITS}", "--format=%h %s"]
    run = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    return run.stdout.splitlines()


def _where(module: Module, node: ast.expr | ast.stmt, root: Path) -> str:
    return f"{module.path.relative_to(root)}:{node.lineno}"


SOURCES: dict[str, Callable[[Path], list[str]]] = {
    "Docstrings": docstrings,
    "Log lines": log_lines,
    "Commit subjects": subjects,
}


def sample(root: Path, seed: int, count: int = COUNT) -> str:
    """Returns `count` of each source, drawn by `seed`."""
    draw = random.Random(seed)
    parts = []
    for title, source in SOURCES.items():
        found = source(root)
        parts += [f"{title} ({len(found)} in all)", ""]
        parts += [*draw.sample(found, min(count, len(found))), ""]
    return "\n".join(parts)


def main() -> None:
    """Prints the sample of this repository."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=COUNT)
    given = parser.parse_args()
    print(sample(ROOT, given.seed, given.count))


if __name__ == "__main__":
    main()
