"""`python -m checks [NAME...]`: runs the checks and prints each problem; exits with 1 for any."""

import sys

from checks import documents, limits, rooms, shell
from checks.source import ROOT

CHECKS = {
    "documents": documents.problems,
    "shell": shell.problems,
    "limits": limits.problems,
    "rooms": rooms.problems,
}


def main(names: list[str]) -> int:
    """Returns the exit code: 0 if no check has a problem, 1 if one has, 2 for an unknown name."""
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        print(f"checks: no check {', '.join(unknown)}: choose from {', '.join(CHECKS)}")
        return 2
    failed = False
    for name in names or CHECKS:
        found = CHECKS[name](ROOT)
        for problem in found:
            print(f"{name}: {problem}")
        print(f"{name}: {len(found)} problems" if found else f"{name}: ok")
        failed = failed or bool(found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
