"""Prints the coverage of each room from a report of `coverage json`; fails below the thresholds.

The pure rooms are those of the import contract of that name. Lines and branches count alike, as
`coverage report` counts them. The worst files of a room below its threshold are listed.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "airside"
PURE_CONTRACT = "pure rooms have no clock, socket, process, thread or log"
PURE_PERCENT = 97.0
"""Of the pure rooms, by unit tests alone."""
ROOM_PERCENT = 90.0
"""Of every room, by the whole suite, in the processes that it starts too."""
WORST_FILES = 5


@dataclass(frozen=True, slots=True)
class Count:
    """Lines and branches of a file or room."""

    covered: int
    total: int

    def __add__(self, other: "Count") -> "Count":
        return Count(self.covered + other.covered, self.total + other.total)

    @property
    def percent(self) -> float:
        """100 if there is nothing to cover."""
        return 100.0 * self.covered / self.total if self.total else 100.0


def counts(report: Mapping[str, object]) -> dict[str, Count]:
    """Returns the counts of each module, by dotted name without `airside.`."""
    files = report["files"]
    assert isinstance(files, dict)
    found = {}
    for path, entry in files.items():
        parts = Path(path).with_suffix("").parts
        name = ".".join(parts[parts.index(PACKAGE) + 1 :]).removesuffix(".__init__")
        summary = entry["summary"]
        found[name] = Count(
            summary["covered_lines"] + summary["covered_branches"],
            summary["num_statements"] + summary["num_branches"],
        )
    return found


def of_room(room: str, modules: Mapping[str, Count]) -> dict[str, Count]:
    """Returns the modules of a room: itself and what is below it."""
    return {name: n for name, n in modules.items() if name == room or name.startswith(f"{room}.")}


def pure_rooms(root: Path) -> list[str]:
    """The rooms that `pyproject.toml` declares pure, without `airside.`."""
    tool = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = [c for c in tool["contracts"] if c["name"] == PURE_CONTRACT]
    return [name.removeprefix(f"{PACKAGE}.") for name in contract["source_modules"]]


def all_rooms(root: Path) -> list[str]:
    """The packages at the top of `src/airside`."""
    return sorted(path.parent.name for path in (root / "src" / PACKAGE).glob("*/__init__.py"))


def table(rooms: Mapping[str, float], modules: Mapping[str, Count]) -> tuple[str, bool]:
    """Returns a line for each room, and True if none is below its percentage."""
    lines, good = [], True
    for room, least in rooms.items():
        files = of_room(room, modules)
        whole = sum(files.values(), Count(0, 0))
        enough = bool(files) and whole.percent >= least
        good = good and enough
        verdict = "" if enough else f"  below {least:g} %" if files else "  not measured"
        lines.append(f"{room:<24} {whole.percent:6.1f} %  {whole.total:6}{verdict}")
        if not enough:
            worst = sorted(files, key=lambda name: files[name].covered - files[name].total)
            lines += [f"    {files[n].percent:6.1f} %  {n}" for n in worst[:WORST_FILES]]
    return "\n".join(lines), good


def main(arguments: list[str]) -> int:
    """Returns 0, or 1 if a room is below its threshold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("--pure", action="store_true", help="judge the pure rooms only")
    given = parser.parse_args(arguments)
    modules = counts(json.loads(given.report.read_text()))
    if given.pure:
        least = dict.fromkeys(pure_rooms(ROOT), PURE_PERCENT)
    else:
        least = dict.fromkeys(all_rooms(ROOT), ROOM_PERCENT)
    text, good = table(least, modules)
    print(text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
