"""Imports give way: a cap on what they read, and lower priorities for who works for them."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from airside.agent.daemon import _Pools
from airside.containerd.layer_writer.worker_process import started
from airside.core.priority import LEAST
from airside.core.settings import Settings
from support.images import TestImage, docker_archive, oci_archive, random_image
from support.nodes import import_now, node_at

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


def test_the_import_threads_have_the_priority_of_the_settings() -> None:
    pools = _Pools(Settings(import_priority="idle"))
    try:
        for pool in (pools.imports, pools.by_hand):
            assert pool.submit(_niceness).result() == LEAST.nice
        assert pools.reads.submit(_niceness).result() == _niceness()
    finally:
        pools.close()


def test_a_worker_that_writes_layers_has_the_priority() -> None:
    worker = started(LEAST)
    try:
        assert os.getpriority(os.PRIO_PROCESS, worker.pid) == LEAST.nice
    finally:
        worker.end()


def _niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)
