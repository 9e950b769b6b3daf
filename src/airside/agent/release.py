"""Releases foreign names in the connected runtimes: in the agent, or for a command without one."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from typing import Any

from aiohttp import web

from airside.agent.control_requests import parse_body, parse_flag, parse_text
from airside.agent.node import Node
from airside.agent.runtime_connections import claimed_by
from airside.containerd.release import Release
from airside.core.errors import ConflictError, RequestInvalidError, UnavailableError
from airside.ports.content import OtherAgent, Runtime

Claimed = tuple[str, Runtime, OtherAgent | None]
"""The socket of a connected runtime, and the other agent that has claimed it."""
_MOST_NAMES = 1000


def release_names(
    node: Node, runtimes: Iterable[Claimed], only: Sequence[str], *, dry_run: bool
) -> dict[str, Any]:
    """Returns the report of `airside runtime release`.

    Raises ConflictError if another agent lives, whose names they may be; UnavailableError if no
    runtime is connected.
    """
    connected = list(runtimes)
    if not connected:
        raise UnavailableError("no containerd is connected: nothing was released")
    for socket, _, other in connected:
        if other is not None:
            raise ConflictError(f"{socket}: {claimed_by(other)}: stop that agent first")
    items = [
        {
            "socket": socket,
            "name": item.name,
            "digest": item.digest,
            "agent": item.agent,
            "state": item.state,
        }
        for socket, runtime, _ in connected
        for item in Release(socket, node.catalog, node.settings, node.clock).run(
            runtime, only, dry_run=dry_run
        )
    ]
    return {"schema": 1, "dry_run": dry_run, "items": items}


class ReleaseRequest:
    """The request of the control socket. Belongs to the event loop's thread."""

    def __init__(self, node: Node, reads: Executor, runtimes: Callable[[], list[Claimed]]) -> None:
        self._node, self._reads, self._runtimes = node, reads, runtimes

    async def answer(self, request: web.Request) -> web.Response:
        body = parse_body(await request.read(), "names", "dry_run")
        dry_run, names = parse_flag(body, "dry_run"), body.get("names", [])
        if not isinstance(names, list) or len(names) > _MOST_NAMES:
            raise RequestInvalidError(f"names must be a list of at most {_MOST_NAMES} texts")
        only = [parse_text({"name": name}, "name") for name in names]
        runtimes = self._runtimes()
        found = await asyncio.get_running_loop().run_in_executor(
            self._reads,
            lambda: release_names(self._node, runtimes, only, dry_run=dry_run),
        )
        return web.json_response(found)
