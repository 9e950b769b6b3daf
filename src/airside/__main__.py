"""`python -m airside`, and what a frozen build runs.

The fallback server is chosen before anything of the command line is imported: it stays small.
"""

import sys

from airside.agent import FALLBACK_COMMAND


def main() -> int:
    """Runs the program that the arguments name. Returns its exit code."""
    if sys.argv[1:2] == [FALLBACK_COMMAND]:
        from airside.agent import fallback_server  # noqa: PLC0415 - no command needs it

        fallback_server.main(sys.argv[2:])
        return 0
    from airside.cli.main import main as command_line  # noqa: PLC0415 - see above

    return command_line()


if __name__ == "__main__":
    sys.exit(main())
