"""The Python files of `src`, parsed once each, as the checks read them."""

import ast
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "airside"
GENERATED = "proto"
"""The directory of what protoc writes: no check reads it."""


@dataclass(frozen=True, slots=True)
class Module:
    """One file of the package."""

    name: str
    """The dotted name; a package has the name of its directory."""
    path: Path
    is_package: bool
    text: str
    tree: ast.Module


def modules(root: Path) -> list[Module]:
    """The modules of `root/src/airside`, sorted by path, without generated ones."""
    source = root / "src"
    found = []
    for path in sorted((source / PACKAGE).rglob("*.py")):
        if GENERATED in path.parts:
            continue
        parts = list(path.relative_to(source).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        if is_package:
            parts.pop()
        text = path.read_text()
        found.append(Module(".".join(parts), path, is_package, text, ast.parse(text)))
    return found
