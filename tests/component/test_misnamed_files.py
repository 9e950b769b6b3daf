"""Files whose names are no UTF-8 are listed, escaped, with what happened to them."""

import asyncio
import os
from pathlib import Path

from airside.agent.known_archives import load_known_archives
from airside.agent.misnamed_files import path_shown, shown_path
from airside.core.settings import WatchedDirectory
from airside.importer.watch.directories import WatchedDirectories
from support.images import oci_archive, random_image
from support.nodes import node_at
from support.queues import running

TIMES = {"settle_seconds": 0.02, "quiet_seconds": 0.05, "removal_seconds": 0.1}


def test_a_name_that_is_no_utf8_is_listed_known_and_removed(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    path = Path(os.fsdecode(os.fsencode(images) + b"/caf\xe9.tar"))
    oci_archive(images / "a.tar", {"app:1": random_image("a")})
    (images / "a.tar").rename(path)
    shown = f"{images}/caf\\xe9.tar"
    assert (shown_path(path), path_shown(shown)) == (shown, path)

    async def drop(node):
        async with running(node) as run:
            row = await run.state(Path(shown), "rejected")
            assert "not UTF-8" in row.reason
            known = load_known_archives(node, WatchedDirectories([WatchedDirectory(images)]))
            assert str(known.keys[path]) == row.stat_key
            await asyncio.to_thread(path.unlink)
            await run.state(Path(shown), "removed")

    with node_at(tmp_path / "data", images=(WatchedDirectory(images),), **TIMES) as node:
        asyncio.run(drop(node))
