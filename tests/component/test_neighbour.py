"""Imports give way: a cap on what they read, and lower priorities for who works for them."""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from airside.agent.daemon import _Pools
from airside.agent.node import Node
from airside.agent.scrub_scheduler import ScrubScheduler
from airside.archive.stop import never
from airside.containerd.layer_writer.worker_process import started
from airside.core.errors import AirsideError
from airside.core.priority import LEAST
from airside.core.settings import Settings
from support.images import TestImage, docker_archive, oci_archive, random_image
from support.nodes import import_now, node_at
from support.queues import queue_of

RATE = 4_000_000


@pytest.mark.parametrize("write", [docker_archive, oci_archive])
def test_an_import_reads_no_faster_than_the_cap(
    write: Callable[[Path, dict[str, TestImage]], object], tmp_path: Path
) -> None:
    archive = tmp_path / "app.tar"
    image = random_image("capped", layers=3, layer_bytes=300_000)
    write(archive, {"registry.example/app:1": image})
    read_bytes = sum(len(layer.raw) for layer in image.layers)
    with node_at(tmp_path / "data", import_bytes_per_second=RATE) as node:
        before = time.monotonic()
        assert import_now(node, archive).state == "imported"
        assert time.monotonic() - before >= read_bytes / RATE


def test_bytes_that_are_read_a_second_time_are_counted(tmp_path: Path) -> None:
    good, damaged = tmp_path / "good.tar", tmp_path / "damaged.tar"
    image = random_image("damaged", layers=1, layer_bytes=300_000)
    docker_archive(good, {"registry.example/app:1": image})
    raw, tar = bytearray(good.read_bytes()), image.layers[0].raw
    raw[raw.index(tar) + len(tar) // 2] ^= 1
    damaged.write_bytes(raw)
    seen: list[tuple[int, int]] = []
    with node_at(tmp_path / "data") as node:
        import_now(node, good)
        with suppress(AirsideError):  # held by its name, read again since its bytes are others
            node.imports.import_file(damaged, stop=never, progress=lambda *each: seen.append(each))
    assert seen[-1][0] == seen[-1][1] > 2 * len(tar)


def test_the_import_threads_have_the_priority_of_the_settings() -> None:
    pools = _Pools(Settings(import_priority="idle"))
    try:
        for pool in (pools.imports, pools.by_hand):
            assert pool.submit(_niceness).result() == LEAST.nice
        assert pools.reads.submit(_niceness).result() == _niceness()
    finally:
        pools.close()


def test_a_blob_that_an_import_replaces_does_not_lower_who_verifies(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        with ThreadPoolExecutor(1, "imports", LEAST.apply) as imports:
            queue = queue_of(node, imports, lambda *_: None)
            scrubs = ScrubScheduler(node, node.settings, queue)
            try:
                imports.submit(node.store.replaced.notify).result()
                assert scrubs._fast.submit(_niceness).result() == _niceness()
            finally:
                scrubs.close()

    with node_at(tmp_path / "data") as node:
        asyncio.run(scenario(node))


def test_a_worker_that_writes_layers_has_the_priority() -> None:
    worker = started(LEAST)
    try:
        assert os.getpriority(os.PRIO_PROCESS, worker.pid) == LEAST.nice
    finally:
        worker.end()


def _niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)
