"""`make bench`: measures Airside beside its peers and the physical limit, in the same run.

Figures go to the terminal, with `--json FILE` to a file, and into docs/performance.md. Absolute
times depend on the machine, ratios much less: each is taken within a round, in which all sides run
one after the other. `make bench ARGS=quick` does as many rounds as fit into a minute and a half,
a profile, and the neighbours. `scripts/loaded.py make bench ARGS=importing` measures on a busy
machine.
"""

import argparse
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import file_system
import machine
import other_parts
import report
from importing import Importing, measures
from neighbour import eight_at_once, neighbour
from observing import Observing, describe
from pairs import Measure
from profiles import profile
from real_set import real_set

PARTS = ("importing", "profile", "neighbour", "eight", "observing", *other_parts.PARTS)
QUICK = ("importing", "profile", "neighbour", "eight")
_QUICK_SECONDS, _QUICK_END_SECONDS = 75.0, 130.0
"""Of a quick run: the time for imports, and the time after which no part begins."""


class Bench:
    """One run: `results` is what `--json` writes, `sections` what goes into the document."""

    def __init__(self, options: argparse.Namespace, base: Path) -> None:
        self._options, self._base = options, base
        self._images = real_set()
        self._importing = Importing(base, self._images, options.containerd, options.snapshotter)
        self._loads = [os.getloadavg()[0]]
        self.results: dict[str, Any] = {"schema": 1, "parts": {}, **self._told()}
        self.sections: dict[str, str] = {}

    def run(self, part: str) -> None:
        """Run one part, and keep its figures."""
        self._loads = [os.getloadavg()[0]]
        method = getattr(self, f"_{part}_part", None)
        if method is not None:
            method()
        else:
            parts = other_parts.OtherParts(
                self._base, self._images, self._options.rounds, self._options.memory_mb
            )
            getattr(parts, part)()
            self._keep(part, parts.rows, report.rows(parts.rows, self._told()))

    def _keep(self, part: str, figures: object, section: str) -> None:
        self.results["parts"][part] = {"load": self._told()["load"], "figures": figures}
        self.sections[part] = section

    def _told(self) -> dict[str, Any]:
        """Returns the conditions of the part so far."""
        self._loads.append(os.getloadavg()[0])
        images = self._images
        return {
            "date": machine.today(),
            "commit": machine.commit(),
            "machine": machine.machine(),
            "containerd": machine.version_of(self._options.containerd),
            "snapshotter": self._options.snapshotter,
            "directory": str(self._base.parent),
            "load": [min(self._loads), max(self._loads)],
            "ways": dict(self._importing.ways),
            "set": {
                "images": len(images.names),
                "layers": len(images.layers),
                "entries": images.entries,
                "megabytes": round(images.total_bytes / 1e6),
                "pinned": images.described["pinned"],
            },
        }

    def _measures(self) -> list[Measure]:
        return [
            each
            for each in measures(self._options.snapshotter)
            if self._options.measure in (None, each.name)
        ]

    def _importing_part(self) -> None:
        """Rounds over all measures, as many as are asked for and fit into the time."""
        measured = self._measures()
        end = time.monotonic() + self._options.seconds
        for _ in range(self._options.rounds):
            for each in measured:
                if time.monotonic() < end:
                    self._importing.round(each)
                    self._loads.append(os.getloadavg()[0])
                    _print(each)
        figures = [each.as_json() for each in measured if each.rounds]
        told = self._told()
        version, snapshotter = self._options.containerd, self._options.snapshotter
        variant = [v for v in (version, snapshotter) if v not in ("2.1", "overlayfs")]
        part = " ".join(["importing", *variant])
        self._keep(part, figures, report.importing(measured, told))

    def _profile_part(self) -> None:
        names = [each.name for each in self._measures()]
        names = names[:1] if self._options.is_quick else names
        found = [profile(self._importing, name).as_json() for name in names]
        print(json.dumps(found, indent=1), flush=True)
        self._keep("profile", found, report.profiles(found, self._told()))

    def _neighbour_part(self) -> None:
        found = neighbour(self._importing)
        print(json.dumps(found, indent=1), flush=True)
        self._keep("neighbour", found, report.neighbour(found, self._told()))

    def _eight_part(self) -> None:
        found = eight_at_once(self._importing)
        print(json.dumps(found, indent=1), flush=True)
        self._keep("eight", found, report.eight(found, self._told()))

    def _observing_part(self) -> None:
        pairs = Observing(self._base, *self._images.slow()).run(min(3, self._options.rounds))
        found = describe(pairs)
        print(json.dumps(found, indent=1), flush=True)
        self._keep("observing", found, report.observing(found, self._told()))


def _print(measure: Measure) -> None:
    """Print the ratios so far."""
    figures = " / ".join(measure.medians(side) for side in measure.sides)
    ratios = f"ctr/ours {measure.peer_ratio}, ours/limit {measure.limit_ratio}"
    print(f"{measure.what:45} {figures} s; {ratios}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3600.0, help="no new round after them")
    parser.add_argument("--measure", help="one measure, such as 'unpacked plain'")
    parser.add_argument("--directory", type=Path, help="directory of the loop file")
    parser.add_argument("--containerd", default="2.1", help="1.6, 1.7 or 2.1")
    parser.add_argument("--snapshotter", default="overlayfs", help="overlayfs, native or erofs")
    parser.add_argument("--memory-mb", type=int, default=2048)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--no-document", action="store_true", help="leave docs/performance.md")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"quick, or of {', '.join(PARTS)}")
    options = parser.parse_args()
    options.is_quick = options.parts == ["quick"]
    if options.is_quick:
        options.parts, options.seconds = list(QUICK), min(options.seconds, _QUICK_SECONDS)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    options.parts = options.parts or list(PARTS)
    return options


def main() -> None:
    options = _options()
    file_system.own_mounts()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and remove the loop file
    parent = options.directory or file_system.default_directory()
    base = Path(tempfile.mkdtemp(prefix="airside-bench-", dir=parent))
    try:
        bench = Bench(options, base)
        end = time.monotonic() + (_QUICK_END_SECONDS if options.is_quick else math.inf)
        for part in options.parts:
            if time.monotonic() > end:
                print(f"{part}: not measured, for the time is over")
                continue
            bench.run(part)
            _save(options, bench.results, bench.sections)
    finally:
        shutil.rmtree(base)


def _save(
    options: argparse.Namespace, results: Mapping[str, Any], sections: Mapping[str, str]
) -> None:
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    if not options.no_document:
        report.write(sections)


if __name__ == "__main__":
    main()
