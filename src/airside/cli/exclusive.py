"""Opens a data directory exclusively, for a command while no agent runs."""

import os
from contextlib import ExitStack

from airside.agent.node import Node, open_node
from airside.cli.client import NotPermittedError
from airside.core.errors import StoreError
from airside.core.settings import Settings
from airside.store.access_modes import PRIVATE_UMASK


def open_alone(settings: Settings, stack: ExitStack) -> Node:
    """Locks the data directory until the stack closes. Raises ConflictError, NotPermittedError.

    Until then new files of this process are private.
    """
    stack.callback(os.umask, os.umask(PRIVATE_UMASK))
    try:
        return stack.enter_context(open_node(settings))
    except StoreError as exc:
        if not isinstance(exc.__cause__, PermissionError):
            raise
        raise NotPermittedError(
            f"no agent runs, and {exc.message}",
            hint=exc.context.get("hint")
            or "run the command as root (sudo), or pass a directory of your own with --data",
        ) from exc
