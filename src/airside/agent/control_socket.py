"""The Unix socket in the data directory on which the control service listens. Async."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from aiohttp import web

from airside.store.access_modes import give_to_group

SOCKET_NAME = "airside.sock"
_PRIVATE_MODE, _GROUP_MODE = 0o600, 0o660
_CLEANUP_SECONDS = 1.0
_MAX_ADDRESS_BYTES = 107
"""The longest path that fits into a socket address (unix(7))."""


@asynccontextmanager
async def serving_control(
    app: web.Application, data: Path, *, group: int | None = None
) -> AsyncIterator[None]:
    """Serve the application on the control socket for as long as the context lasts.

    Only this user may connect, and members of the group with this GID.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLEANUP_SECONDS)
    await runner.setup()
    path = data / SOCKET_NAME
    try:
        with _short_path(path) as short:
            short.unlink(missing_ok=True)
            await web.UnixSite(runner, str(short)).start()
            if group is not None:
                give_to_group(short, group, f"{path} to the group {group}")
            short.chmod(_PRIVATE_MODE if group is None else _GROUP_MODE)
        yield
    finally:
        await runner.cleanup()
        path.unlink(missing_ok=True)


@contextmanager
def _short_path(path: Path) -> Iterator[Path]:
    """A path to the same file that fits into a socket address."""
    if len(os.fsencode(path)) <= _MAX_ADDRESS_BYTES:
        yield path
        return
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{descriptor}/{path.name}")
    finally:
        os.close(descriptor)
