"""Names of modules and of what they define, as documents write them: `airside.oci.digest`."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from checks.source import PACKAGE, Module, modules

_DOTTED = re.compile(r"(?<![\w./-])airside(?:\.[A-Za-z_]\w*)+")
_IN_ROOM = re.compile(r"[a-z_]\w*(?:\.\w+)*")
_GENERATED = "airside.containerd.proto"
_FILES = (".db", ".sock", ".toml", ".service")
_STRING = re.compile(r"\"([a-z_]+(?:\.[a-z_]+)+)\"")


def dotted_names(text: str) -> Iterator[tuple[int, str]]:
    """Yields the offset and the name of each `airside.…`, not of files and of calls in code."""
    for match in _DOTTED.finditer(text):
        if not match[0].endswith(_FILES) and not text.startswith("(", match.end()):
            yield match.start(), match[0]


@dataclass(frozen=True, slots=True)
class Names:
    """What the package defines."""

    modules: dict[str, Module]
    strings: frozenset[str]
    """Dotted strings of the code: loggers, checks of the doctor."""

    def is_of_room(self, code: str) -> bool:
        """True if code in backticks is `room.name`, of a room of this package."""
        room, _, rest = code.partition(".")
        is_name = (
            _IN_ROOM.fullmatch(rest) and not code.endswith(_FILES) and code not in self.strings
        )
        return f"{PACKAGE}.{room}" in self.modules and bool(is_name)

    def __contains__(self, name: str) -> bool:
        if name in self.modules or name in self.strings or name.startswith(_GENERATED):
            return True
        parts = name.split(".")
        for split in range(len(parts) - 1, 0, -1):
            module = self.modules.get(".".join(parts[:split]))
            if module is not None:
                return _defines(module.tree.body, parts[split:])
        return False


def names_of(root: Path) -> Names:
    """Reads the modules of `root/src`; what protoc generates is not known."""
    found = modules(root)
    strings = {name for module in found for name in _STRING.findall(module.text)}
    return Names({module.name: module for module in found}, frozenset(strings))


def _defines(body: Iterable[ast.stmt], path: list[str]) -> bool:
    for statement in body:
        if path[0] not in _bound(statement):
            continue
        if len(path) == 1:
            return True
        return isinstance(statement, ast.ClassDef) and _defines(statement.body, path[1:])
    return False


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement of a module or class defines or imports."""
    match statement:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return {statement.name}
        case ast.Import() | ast.ImportFrom():
            return {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
        case ast.Assign():
            targets = statement.targets
        case ast.AnnAssign():
            targets = [statement.target]
        case _:
            return set()
    return {target.id for target in targets if isinstance(target, ast.Name)}
