"""Floods of files, directories and links: what a watched directory may cost."""

import asyncio

import pytest

from airside.core.settings import Limits
from airside.diagnostics.archive_pages import archives_page_report
from airside.diagnostics.reports import archives_report
from airside.importer.watch.watcher import StatKey
from support.nodes import node_at
from support.watching import LONG_AGO, age, old, watching, with_

pytestmark = pytest.mark.usefixtures("nothing_left_open")

FEW = with_(limits=Limits(archives=5, watches=3), rescan_seconds=0.1)


@pytest.fixture
def images(tmp_path):
    made = tmp_path / "images"
    made.mkdir()
    return made


def test_more_archives_than_the_limit_are_not_looked_at_and_that_is_told(images):
    async def scenario():
        for number in range(12):
            old(images / f"{number}.tar")
        await age()
        async with watching(images, settings=FEW) as log:
            await log.until(lambda: len(log.settled) == 5)
            await log.stays(0.3)
            [status] = log.watcher.describe()
            assert "limits.archives" in status.reason
            (images / log.settled[0]).unlink()
            await log.until(lambda: len(log.settled) == 6)

    asyncio.run(scenario())


def test_events_of_a_flood_are_bounded_too(images):
    async def scenario():
        async with watching(images, settings=FEW) as log:
            for number in range(30):
                (images / f"{number}.tar").write_bytes(b"new")
            await log.until(lambda: len(log.settled) == 5)
            await log.stays(0.3)
            assert len(set(log.settled)) == 5

    asyncio.run(scenario())


def test_a_known_archive_is_not_removed_by_those_that_crowd_around_it(images):
    async def scenario():
        known = {images / f"{n}.tar": StatKey.of(old(images / f"{n}.tar").stat()) for n in range(7)}
        for number in range(100):
            old(images / f"a{number}.tar", at=LONG_AGO)
            (images / f"d{number}").mkdir()
        await age()
        async with watching(images, known=known, settings=FEW) as log:
            await log.stays(0.3)
            assert (log.removed, log.settled) == ([], [])
            (images / "3.tar").unlink()
            await log.until(lambda: log.removed == ["3.tar"])

    asyncio.run(scenario())


def test_directories_that_are_not_watched_are_scanned(images, tmp_path):
    async def scenario():
        for number in range(6):
            (images / f"d{number}").mkdir()
            (tmp_path / f"o{number}").mkdir()
        for number in range(4):
            (images / f"l{number}.tar").symlink_to(old(tmp_path / f"o{number}" / "x.tar"))
        async with watching(images, settings=FEW) as log:
            await log.mode("polling")
            [status] = log.watcher.describe()
            assert "limits.watches" in status.reason
            assert sum(map(len, log.watcher._notifier._numbers.values())) == 3
            old(images / "d5" / "found.tar")
            await log.until(lambda: "found.tar" in log.settled)

    asyncio.run(scenario())


def test_the_pages_of_archives_are_all_archives_each_once(tmp_path):
    with node_at(tmp_path / "data") as node:
        files = [(f"/images/{number % 7}-{number}.tar", "1:2:3:4", 0) for number in range(25)]
        node.catalog.source_states.settle(files, 1.0)
        whole = archives_report(node.catalog)["items"]
        after, items = 0, []
        while after is not None:
            page = archives_page_report(node.catalog, after, 10)
            assert len(page["items"]) <= 10
            items += page["items"]
            after = page["next"]
        assert sorted(items, key=lambda item: item["path"]) == whole
