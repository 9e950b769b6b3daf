"""The graph of imports between rooms, computed from the code: its rules and its drawing.

A room is what stands at the top of `src/airside`: a package or a module. An import inside a
function or under `TYPE_CHECKING` counts as any other. `python -m checks.rooms` prints the floors,
`--format dot` a graph for graphviz.
"""

import argparse
import ast
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from checks.source import PACKAGE, ROOT, Module, modules

MAX_ENTRIES = 16
"""Packages and modules at the top of `src/airside`, `__init__` not counted."""
MAX_FLOORS = 11
LAYERS_CONTRACT = "imports go down only"

Edges = Mapping[tuple[str, str], int]
"""From importer to imported: how many modules of the one import how many of the other."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Rooms and the arrows between them."""

    rooms: tuple[str, ...]
    arrows: Edges

    def imports_of(self, room: str) -> list[str]:
        """The rooms that `room` imports, sorted."""
        return sorted(target for source, target in self.arrows if source == room)


def room_graph(root: Path) -> Graph:
    """Reads the imports of each module of `root/src/airside`."""
    found = modules(root)
    names = {module.name for module in found}
    arrows: Counter[tuple[str, str]] = Counter()
    rooms = {_room(module.name) for module in found} - {""}
    for module in found:
        for target in set(imported_modules(module, names)):
            arrow = (_room(module.name), _room(target))
            if "" not in arrow and arrow[0] != arrow[1]:
                arrows[arrow] += 1
    return Graph(tuple(sorted(rooms)), arrows)


def imported_modules(module: Module, names: Iterable[str]) -> Iterator[str]:
    """Yields the modules of this package that `module` imports, those of functions too."""
    known = frozenset(names)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            candidates = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            candidates = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for candidate in candidates:
            if candidate.split(".")[0] == PACKAGE:
                yield candidate if candidate in known else candidate.rpartition(".")[0]


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    parts = module.name.split(".")
    above = node.level - 1 if module.is_package else node.level
    return ".".join([*parts[: len(parts) - above], *([node.module] if node.module else [])])


def _room(module: str) -> str:
    """The room of a dotted name; empty for the package itself."""
    return ".".join(module.split(".")[1:2])


def circles(arrows: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Returns the sets of names that reach each other, each sorted."""
    targets: dict[str, set[str]] = {}
    for source, target in arrows:
        targets.setdefault(source, set()).add(target)
    reached = {source: _reached(source, targets) for source in targets}
    found = {
        tuple(sorted({name} | {other for other in far if name in reached.get(other, ())}))
        for name, far in reached.items()
        if name in far
    }
    return [list(circle) for circle in sorted(found)]


def _reached(start: str, targets: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = targets.get(waiting.pop(), set()) - found
        found |= new
        waiting.extend(new)
    return found


def floors(graph: Graph) -> list[list[str]]:
    """Returns the rooms by floor, the ground first: a room stands above all that it imports.

    Rooms of a circle, and what stands on them, are on no floor.
    """
    placed: set[str] = set()
    found: list[list[str]] = []
    while True:
        floor = [
            room
            for room in graph.rooms
            if room not in placed and placed.issuperset(graph.imports_of(room))
        ]
        if not floor:
            return found
        found.append(floor)
        placed.update(floor)


def declared_layers(root: Path) -> list[set[str]]:
    """The layers of the import contract in `pyproject.toml`, from the top."""
    tool = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(c["layers"] for c in tool["contracts"] if c["name"] == LAYERS_CONTRACT)
    return [{room.strip() for room in layer.split("|")} for layer in layers]


def problems(root: Path) -> list[str]:
    """Returns a line for each broken rule: entries, floors, circles, arrows that run up."""
    graph = room_graph(root)
    found = []
    if len(graph.rooms) > MAX_ENTRIES:
        found.append(f"{len(graph.rooms)} entries in src/{PACKAGE}, at most {MAX_ENTRIES}")
    if (count := len(floors(graph))) > MAX_FLOORS:
        found.append(f"{count} floors, at most {MAX_FLOORS}")
    return found + _circles_everywhere(root) + _upward(graph, declared_layers(root))


def _circles_everywhere(root: Path) -> list[str]:
    """Circles among what stands side by side in a package, the rooms included."""
    found = modules(root)
    names = {module.name for module in found}
    arrows: dict[str, set[tuple[str, str]]] = {}
    for module in found:
        for target in imported_modules(module, names):
            package, source, other = _side_by_side(module.name, target)
            if source and other:
                arrows.setdefault(package, set()).add((source, other))
    return [
        f"circle in {package}: {', '.join(circle)}"
        for package in sorted(arrows)
        for circle in circles(arrows[package])
    ]


def _side_by_side(source: str, target: str) -> tuple[str, str, str]:
    """The package that holds both modules, and what of it holds each; "" for the package itself."""
    left, right = source.split("."), target.split(".")
    shared = 0
    while shared < min(len(left), len(right)) and left[shared] == right[shared]:
        shared += 1
    return (
        ".".join(left[:shared]),
        ".".join(left[shared : shared + 1]),
        ".".join(right[shared : shared + 1]),
    )


def _upward(graph: Graph, layers: list[set[str]]) -> list[str]:
    """An arrow must end on a lower layer than it begins; `__main__` stands above all."""
    depth = {room: number for number, layer in enumerate(layers) for room in layer}
    found = []
    for source, target in sorted(graph.arrows):
        if target not in depth:
            found.append(f"{source} imports {target}, which is on no layer")
        elif source in depth and depth[source] >= depth[target]:
            found.append(f"{source} imports {target}, which is not below it")
    return found


def as_text(graph: Graph) -> str:
    """One line per room, the top floor first, with the rooms that it imports."""
    width = max(map(len, graph.rooms))
    levels = floors(graph)
    lines = [
        f"{number:>3}  {room:<{width}}  {' '.join(graph.imports_of(room))}".rstrip()
        for number, floor in reversed(list(enumerate(levels, 1)))
        for room in floor
    ]
    lines.append(f"{len(graph.rooms)} rooms, {len(levels)} floors, {len(graph.arrows)} arrows")
    return "\n".join(lines)


def as_dot(graph: Graph) -> str:
    """The graph for graphviz: `dot -Tsvg`. An arrow's label counts the imports behind it."""
    return "\n".join(
        [
            "digraph rooms {",
            "  rankdir=TB; node [shape=box];",
            *(f"  {{ rank=same; {'; '.join(floor)} }}" for floor in floors(graph)),
            *(
                f'  {source} -> {target} [label="{count}"];'
                for (source, target), count in sorted(graph.arrows.items())
            ),
            "}",
        ]
    )


def main() -> None:
    """Prints the graph of this repository."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--format", choices=["text", "dot"], default="text")
    graph = room_graph(ROOT)
    print(as_dot(graph) if parser.parse_args().format == "dot" else as_text(graph))


if __name__ == "__main__":
    main()
