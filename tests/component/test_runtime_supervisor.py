"""When the agent compares a runtime with the catalog."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from airside.agent.node import Node
from airside.agent.runtime_supervisor import RuntimeSupervisor
from airside.containerd import publish_failures
from airside.core.errors import DigestMismatchError
from airside.core.settings import Settings
from support.images import docker_archive, random_image
from support.memory_runtime import MemoryRuntime
from support.nodes import import_now, node_at, settings_at
from support.waiting import wait_until_async

NAME = "docker.io/library/app:1"


class CountedRuntime(MemoryRuntime):
    """A runtime that counts how often it was asked for all its blobs."""

    def __init__(self) -> None:
        super().__init__()
        self.checks = 0

    def blobs(self) -> frozenset[str]:
        self.checks += 1
        return super().blobs()


async def supervise(
    node: Node, settings: Settings, runtime: MemoryRuntime, until: Callable[[], bool]
) -> None:
    async def nothing() -> None: ...

    supervisor = RuntimeSupervisor(
        node, settings, lambda: ["/run/test.sock"], lambda _: runtime, nothing
    )
    task = asyncio.create_task(supervisor.run())
    try:
        await wait_until_async(until)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def test_blobs_are_checked_in_time_also_while_an_image_fails_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_FIRST_SECONDS", "LONGEST_SECONDS"):
        monkeypatch.setattr(publish_failures, name, 0.02)
    archive = tmp_path / "app.tar"
    docker_archive(archive, {NAME: random_image(1)})
    settings = settings_at(tmp_path / "data", platform="linux/amd64", reconcile_seconds=0.1)
    with node_at(tmp_path / "data") as node:
        import_now(node, archive)
        runtime = CountedRuntime()
        runtime.fail[NAME] = DigestMismatchError("layer unpacks to something else")
        asyncio.run(supervise(node, settings, runtime, lambda: runtime.checks >= 3))
