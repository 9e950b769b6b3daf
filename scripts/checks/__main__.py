"""`python -m checks [NAME...]`: runs the checks, prints each problem, exits with 1 if there is one.

A problem that begins with a line of `pending.txt` is printed and does not count. The list only
shrinks: nothing is added to it.
"""

import sys
from pathlib import Path

from checks import documents, limits, rooms
from checks.source import ROOT

CHECKS = {"documents": documents.problems, "limits": limits.problems, "rooms": rooms.problems}
PENDING = Path(__file__).with_name("pending.txt")


def main(names: list[str]) -> int:
    """Returns the exit code: 0 if no check has a problem, 1 if one has, 2 for an unknown name."""
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        print(f"checks: no check {', '.join(unknown)}: choose from {', '.join(CHECKS)}")
        return 2
    pending = tuple(PENDING.read_text().splitlines()) if PENDING.exists() else ()
    failed = False
    for name in names or CHECKS:
        found = [f"{name}: {problem}" for problem in CHECKS[name](ROOT)]
        counted = [problem for problem in found if not problem.startswith(pending)]
        for problem in counted:
            print(problem)
        waiting = f", {len(found) - len(counted)} pending" if len(found) > len(counted) else ""
        print(f"{name}: {len(counted)} problems{waiting}" if counted else f"{name}: ok{waiting}")
        failed = failed or bool(counted)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
