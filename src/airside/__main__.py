"""`python -m airside`, and what a frozen build runs.

The fallback server and the worker that writes layers are chosen before anything of the command line
is imported: they stay small.
"""

import sys

from airside.agent import FALLBACK_COMMAND
from airside.containerd.layer_writer import WORKER_COMMAND


def main() -> int:
    """Runs the program that the arguments name. Returns its exit code."""
    if sys.argv[1:2] == [FALLBACK_COMMAND]:
        from airside.agent import fallback_server  # noqa: PLC0415 - no command needs it

        fallback_server.main(sys.argv[2:])
        return 0
    if sys.argv[1:2] == [WORKER_COMMAND]:
        from airside.containerd.layer_writer import worker  # noqa: PLC0415 - no command needs it

        worker.main(sys.argv[2:])
        return 0
    from airside.cli.main import main as command_line  # noqa: PLC0415 - see above

    return command_line()


if __name__ == "__main__":
    sys.exit(main())
