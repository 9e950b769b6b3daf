"""Work on a data directory from the command line while no agent runs."""

from contextlib import ExitStack

from airside.agent.node import Node, open_node
from airside.cli.client import NotPermittedError
from airside.core.errors import StoreError
from airside.core.settings import Settings


def open_alone(settings: Settings, stack: ExitStack) -> Node:
    """Hold the data directory until the stack ends. Raises ConflictError, NotPermittedError."""
    try:
        return stack.enter_context(open_node(settings))
    except StoreError as exc:
        if not isinstance(exc.__cause__, PermissionError):
            raise
        raise NotPermittedError(
            f"no agent runs, and {exc.message}",
            hint="run it as root (sudo), or choose a directory of yours with --data",
        ) from exc
