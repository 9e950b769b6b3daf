"""Sub-directories, layout directories, links and several directories, as they are watched."""

import asyncio
import logging
import shutil
import threading
import time

import pytest

from airside.core.settings import WatchedDirectory
from airside.importer.watch import scan as survey
from airside.importer.watch import watcher as watch
from support.waiting import LIMIT_SECONDS
from support.watching import age, old, watching, with_

pytestmark = pytest.mark.usefixtures("nothing_left_open")


def layout(path, *, blobs=2):
    """Something that looks like an image layout."""
    (path / "blobs" / "sha256").mkdir(parents=True)
    for number in range(blobs):
        (path / "blobs" / "sha256" / f"{number:064}").write_bytes(b"blob")
    (path / "oci-layout").write_text("{}")
    (path / "index.json").write_text("{}")
    return path


# --- sub-directories


def test_archives_in_sub_directories_are_found_at_any_depth(images):
    async def scenario():
        deep = images / "a" / "b" / "c"
        deep.mkdir(parents=True)
        old(deep / "deep.tar")
        old(images / "top.tar")
        await age()
        async with watching(images) as log:
            await log.has("deep.tar", "top.tar")
            assert log.watcher.describe()[0].files == 2
            (deep / "copied.tar").write_bytes(b"x")
            await log.has("deep.tar", "top.tar", "copied.tar")
            (deep / "deep.tar").unlink()
            await log.until(lambda: log.removed == ["deep.tar"])

    asyncio.run(scenario())


def test_directories_made_while_it_runs_are_watched_with_all_that_came_into_them(images):
    async def scenario():
        async with watching(images) as log:
            await log.mode("inotify")
            names = []
            for number in range(10):
                deep = images / f"d{number}" / "e" / "f"
                deep.mkdir(parents=True)
                for where in (deep, deep.parent):
                    names.append(f"{number}-{where.name}.tar")
                    (where / names[-1]).write_bytes(b"x")
            await log.has(*names)
            (images / "d3" / "e" / "f" / "late.tar").write_bytes(b"x")
            await log.has(*names, "late.tar")
            assert log.removed == []

    asyncio.run(scenario())


def test_a_directory_moved_in_or_away_brings_and_takes_its_archives(images, tmp_path):
    async def scenario():
        outside = tmp_path / "outside"
        (outside / "x").mkdir(parents=True)
        old(outside / "x" / "a.tar")
        await age()
        async with watching(images) as log:
            await log.mode("inotify")
            outside.rename(images / "set")
            await log.has("a.tar")
            (images / "set" / "x" / "b.tar").write_bytes(b"x")
            await log.has("a.tar", "b.tar")
            (images / "set").rename(images / "named")
            await log.until(lambda: sorted(log.removed) == ["a.tar", "b.tar"])
            await log.has("a.tar", "b.tar", "a.tar", "b.tar")
            (images / "named" / "x" / "c.tar").write_bytes(b"x")
            await log.until(lambda: log.paths[-1] == images / "named" / "x" / "c.tar")
            (images / "named").rename(tmp_path / "away")
            await log.until(lambda: len(log.removed) == 5)
            (tmp_path / "away" / "x" / "d.tar").write_bytes(b"x")
            await log.stays()

    asyncio.run(scenario())


def test_a_deleted_tree_of_directories_is_a_removal_of_each_archive(images):
    async def scenario():
        for number in range(5):
            (images / f"d{number}" / "e").mkdir(parents=True)
            old(images / f"d{number}" / "e" / f"{number}.tar")
        await age()
        async with watching(images) as log:
            await log.until(lambda: len(log.settled) == 5)
            for number in range(5):
                shutil.rmtree(images / f"d{number}")
            await log.until(lambda: len(log.removed) == 5)
            assert len(log.watcher._notifier._paths) == 1
            assert len(log.watcher._notifier._watches) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_directory_in_whose_place_is_something_else_takes_its_archives(images, tmp_path, kind):
    async def scenario():
        (images / "d").mkdir()
        old(images / "d" / "a.tar")
        await age()
        async with watching(images) as log:
            await log.has("a.tar")
            (images / "d").rename(tmp_path / "elsewhere")
            if kind == "file":
                (images / "d").write_bytes(b"x")
            else:  # not followed: only its target may be watched
                (images / "d").symlink_to(tmp_path / "elsewhere")
            await log.until(lambda: log.removed == ["a.tar"])
            assert set(log.settled) == ({"a.tar", "d"} if kind == "file" else {"a.tar"})

    asyncio.run(scenario())


def test_hidden_and_unfinished_directories_are_not_looked_into(images):
    async def scenario():
        for name in (".snapshot", "copy.part", "lost+found", "good"):
            (images / name).mkdir()
            old(images / name / f"{name.strip('.')}.tar")
        await age()
        async with watching(images) as log:
            await log.has("good.tar")
            await log.stays()
            (images / "copy.part").rename(images / "copy")
            await log.has("good.tar", "copy.part.tar")

    asyncio.run(scenario())


def test_a_file_of_a_config_map_is_one_archive_and_followed_to_its_next_version(images):
    """As kubelet writes a volume: `..data` leads to hidden directories, and files lead there."""

    def version(name):
        (images / name).mkdir()
        old(images / name / "a.tar", name.encode())
        (images / "..data_tmp").symlink_to(name)
        (images / "..data_tmp").rename(images / "..data")

    async def scenario():
        version("..2026_01_01")
        (images / "a.tar").symlink_to("..data/a.tar")
        await age()
        async with watching(images) as log:
            await log.has("a.tar")
            version("..2026_01_02")
            await log.until(lambda: log.settled.count("a.tar") == 2)
            assert set(log.settled) == {"a.tar"}
            assert not log.removed
            assert log.watcher.describe()[0].files == 1

    asyncio.run(scenario())


def test_a_directory_that_is_not_recursive_has_what_lies_just_in_it(images):
    async def scenario():
        (images / "sub").mkdir()
        old(images / "sub" / "a.tar")
        old(images / "b.tar")
        layout(images / "c")
        await age()
        async with watching(WatchedDirectory(images, recursive=False)) as log:
            await log.has("b.tar", "c")
            (images / "sub" / "d.tar").write_bytes(b"x")
            await log.stays()

    asyncio.run(scenario())


def test_an_inner_watched_directory_has_its_own(images):
    async def scenario():
        inner = images / "a" / "inner"
        (inner / "deep").mkdir(parents=True)
        for directory in (images, images / "a", inner, inner / "deep"):
            old(directory / f"{directory.name}.tar")
        await age()
        async with watching(images, inner) as log:
            await log.has("images.tar", "a.tar", "inner.tar", "deep.tar")
            assert [status.files for status in log.watcher.describe()] == [2, 2]
            log.watcher.rescan()
            await log.stays()
            (inner / "deep" / "deep.tar").unlink()
            await log.until(lambda: log.removed == ["deep.tar"])

    asyncio.run(scenario())


def test_an_inner_watched_directory_is_no_archive_of_the_outer_one(images, tmp_path):
    async def scenario():
        inner = images / "inner"
        layout(tmp_path / "made")
        async with watching(images, inner) as log:
            (tmp_path / "made").rename(inner)
            await log.until(lambda: log.watcher.describe()[1].mode == "inotify")
            await log.stays()
            assert log.batches == []

    asyncio.run(scenario())


def test_of_a_sub_directory_that_cannot_be_listed_nothing_is_told(images, monkeypatch, caplog):
    closed = images / "closed"
    refused = threading.Event()
    real = survey._Walk._list

    def refuse(walk, path):
        if refused.is_set() and path == closed:
            raise PermissionError
        return real(walk, path)

    async def scenario():
        closed.mkdir()
        old(closed / "a.tar")
        old(images / "b.tar")
        await age()
        async with watching(images, settings=with_(rescan_seconds=0.2)) as log:
            await log.has("a.tar", "b.tar")
            monkeypatch.setattr(survey._Walk, "_list", refuse)
            refused.set()
            (images / "b.tar").unlink()
            await log.until(lambda: log.removed == ["b.tar"])
            await log.stays(0.6)
            status = log.watcher.describe()[0]
            assert status.mode == "inotify"
            assert "closed: permission denied" in status.reason
            refused.clear()
            (closed / "a.tar").unlink()
            await log.until(lambda: log.removed == ["b.tar", "a.tar"])
            await log.until(lambda: log.watcher.describe()[0].reason == "")

    asyncio.run(scenario())
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1


# --- layout directories


def test_a_layout_directory_is_one_archive_and_nothing_below_it_is(images):
    async def scenario():
        layout(images / "app")
        layout(images / "sub" / "other")
        await age()
        async with watching(images) as log:
            await log.has("app", "other")
            await log.stays()
            shutil.rmtree(images / "app")
            await log.until(lambda: log.removed == ["app"])

    asyncio.run(scenario())


def test_a_layout_that_is_written_slowly_is_told_once_when_it_is_quiet(images):
    async def scenario():
        async with watching(images, settings=with_(quiet_seconds=0.6)) as log:
            await log.mode("inotify")
            blobs = images / "app" / "blobs" / "sha256"
            blobs.mkdir(parents=True)
            for number in range(8):
                (blobs / f"{number:064}").write_bytes(b"blob")
                await asyncio.sleep(0.15)
            (images / "app" / "oci-layout").write_text("{}")
            (images / "app" / "index.json").write_text("{}")
            written_at = time.monotonic()
            await log.has("app")
            assert time.monotonic() - written_at >= 0.55
            await log.stays(0.7)

    asyncio.run(scenario())


def test_a_layout_moved_in_is_told_at_once_and_a_change_in_it_once_more(images, tmp_path):
    async def scenario():
        layout(tmp_path / "made")
        async with watching(images, settings=with_(quiet_seconds=LIMIT_SECONDS * 10)) as log:
            await log.mode("inotify")
            (tmp_path / "made").rename(images / "app")
            await log.has("app")
        async with watching(images, settings=with_(quiet_seconds=1.0)) as log:
            await log.mode("inotify")
            await log.has("app")
            (images / "app" / "blobs" / "sha256" / ("f" * 64)).write_bytes(b"more")
            await log.has("app", "app")
            (images / "app" / "index.json").write_text('{"a": 1}')
            await log.has("app", "app", "app")
            await log.stays(1.2)

    asyncio.run(scenario())


def test_a_directory_becomes_a_layout_and_stops_being_one(images):
    async def scenario():
        (images / "d").mkdir()
        old(images / "d" / "a.tar")
        await age()
        async with watching(images) as log:
            await log.has("a.tar")
            layout(images / "d")
            await log.has("a.tar", "d")
            await log.until(lambda: log.removed == ["a.tar"])
            shutil.rmtree(images / "d" / "blobs")
            (images / "d" / "oci-layout").unlink()
            (images / "d" / "index.json").unlink()
            await log.until(lambda: log.removed == ["a.tar", "d"])
            await log.until(lambda: log.settled[-1] == "a.tar")

    asyncio.run(scenario())


def test_a_layout_that_loses_its_only_mark_brings_what_is_in_it(images):
    async def scenario():
        (images / "d").mkdir()
        (images / "d" / "manifest.json").write_text("[]")
        old(images / "d" / "a.tar")
        await age()
        async with watching(images) as log:
            await log.has("d")
            await log.stays()  # all scans are over
            (images / "d" / "manifest.json").unlink()
            await log.has("d", "a.tar")
            await log.until(lambda: log.removed == ["d"])

    asyncio.run(scenario())


def test_archives_deep_in_a_directory_are_removed_when_it_becomes_a_layout(images):
    async def scenario():
        deep = images / "d" / "1" / "2" / "3" / "4" / "5" / "6"
        deep.mkdir(parents=True)
        old(deep / "a.tar")
        await age()
        async with watching(images) as log:
            await log.has("a.tar")
            (images / "d" / "index.json").write_text("{}")
            await log.has("a.tar", "d")
            await log.until(lambda: log.removed == ["a.tar"])

    asyncio.run(scenario())


def test_a_known_layout_that_did_not_change_is_not_told(images):
    async def scenario():
        layout(images / "app")
        await age()
        async with watching(images) as log:
            await log.has("app")
            known = {one.path: one.key for batch in log.batches for one in batch.settled}
        async with watching(images, known=known) as log:
            await log.stays(0.5)
            assert log.watcher.describe()[0].files == 1

    asyncio.run(scenario())


def test_a_layout_unpacked_right_into_the_watched_directory_is_said_and_hides_nothing(images):
    async def scenario():
        layout(images)
        old(images / "a.tar")
        await age()
        async with watching(images) as log:
            await log.has("a.tar")
            assert "directory of its own" in log.watcher.describe()[0].reason
            await log.stays()

    asyncio.run(scenario())


# --- links


def test_a_link_to_a_layout_is_an_archive_and_one_to_another_directory_is_not(images, tmp_path):
    async def scenario():
        layout(tmp_path / "made")
        (tmp_path / "plain").mkdir()
        old(tmp_path / "plain" / "a.tar")
        (images / "app").symlink_to(tmp_path / "made")
        (images / "plain").symlink_to(tmp_path / "plain")
        await age()
        async with watching(images) as log:
            await log.has("app")
            (tmp_path / "made" / "blobs" / "sha256" / ("f" * 64)).write_bytes(b"more")
            await log.has("app", "app")

    asyncio.run(scenario())


@pytest.mark.parametrize("change", ["written", "replaced", "link", "directory"])
def test_a_change_of_what_a_link_leads_to_is_seen_at_once(images, tmp_path, change):
    """Through a chain: images/a.tar -> current/a.tar, current -> v1."""

    async def scenario():
        for version in ("v1", "v2"):
            (tmp_path / version).mkdir()
            old(tmp_path / version / "a.tar", version.encode())
        (tmp_path / "current").symlink_to("v1")
        (images / "a.tar").symlink_to(tmp_path / "current" / "a.tar")
        await age()
        async with watching(images) as log:
            await log.has("a.tar")
            target = tmp_path / "v1" / "a.tar"
            if change == "written":
                target.write_bytes(b"other bytes")
            elif change == "replaced":
                old(tmp_path / "new", b"other bytes").rename(target)
            elif change == "link":
                (images / ".a").symlink_to(tmp_path / "v2" / "a.tar")
                (images / ".a").rename(images / "a.tar")
            else:
                (tmp_path / "next").symlink_to("v2")
                (tmp_path / "next").rename(tmp_path / "current")
            await log.has("a.tar", "a.tar")
            if change in {"link", "directory"}:  # what it leads to now is followed
                (tmp_path / "v2" / "a.tar").write_bytes(b"more bytes yet")
            else:
                target.write_bytes(b"more bytes yet")
            await log.has("a.tar", "a.tar", "a.tar")
            assert log.keys("a.tar")[-1].size_bytes == 14
            (tmp_path / "v1" / "other.tar").write_bytes(b"x")
            await log.stays()

    asyncio.run(scenario())


def test_a_target_that_is_written_slowly_is_told_once_when_it_ends(images, tmp_path):
    async def scenario():
        (images / "a.tar").symlink_to(tmp_path / "target.tar")
        async with watching(images, settings=with_(quiet_seconds=0.6)) as log:
            await log.mode("inotify")
            with (tmp_path / "target.tar").open("wb") as file:
                for _ in range(6):
                    file.write(b"x")
                    file.flush()
                    await asyncio.sleep(0.15)
            await log.has("a.tar")
            assert log.keys("a.tar")[0].size_bytes == 6
            (tmp_path / "target.tar").unlink()
            await log.stays(0.5)
            (tmp_path / "target.tar").write_bytes(b"again")
            await log.has("a.tar", "a.tar")

    asyncio.run(scenario())


def test_links_that_go_in_circles_are_waited_for(images):
    async def scenario():
        (images / "a.tar").symlink_to(images / "b.tar")
        (images / "b.tar").symlink_to(images / "a.tar")
        old(images / "c.tar")
        async with watching(images) as log:
            await log.has("c.tar")
            (images / "b.tar").unlink()
            (images / "b.tar").write_bytes(b"x")
            await log.has("a.tar", "b.tar", "c.tar")

    asyncio.run(scenario())


# --- a directory that does not answer


def test_a_file_system_that_does_not_answer_holds_up_no_other(tmp_path, monkeypatch, caplog):
    good, bad = tmp_path / "good", tmp_path / "bad"
    answers = threading.Event()
    real = watch.scan_directory

    def hang(beneath, **named):
        if beneath.root == bad:
            assert answers.wait(LIMIT_SECONDS)
        return real(beneath, **named)

    async def scenario():
        for directory in (good, bad):
            directory.mkdir()
            old(directory / f"{directory.name}.tar")
        await age()
        monkeypatch.setattr(watch, "scan_directory", hang)
        monkeypatch.setattr(watch, "PATIENCE_SECONDS", 0.2)
        async with watching(bad, good) as log:
            await log.has("good.tar")
            modes = {s.path: (s.mode, s.reason) for s in log.watcher.describe()}
            assert modes[bad] == ("unreadable", "its file system does not answer")
            assert modes[good] == ("inotify", "")
            (good / "more.tar").write_bytes(b"x")
            await log.has("good.tar", "more.tar")
            answers.set()
            await log.has("good.tar", "more.tar", "bad.tar")
            await log.mode("inotify")

    asyncio.run(scenario())
    assert [r.levelno for r in caplog.records].count(logging.WARNING) == 1


def test_stopping_does_not_wait_for_a_file_system_that_does_not_answer(images, monkeypatch):
    answers, returned = threading.Event(), threading.Event()

    def survey(*_args, **_named):
        answers.wait(LIMIT_SECONDS)
        returned.set()

    monkeypatch.setattr(watch, "scan_directory", survey)
    monkeypatch.setattr(watch, "PATIENCE_SECONDS", 0.1)

    async def scenario():
        async with watching(images):
            pass

    try:
        asyncio.run(scenario())
        assert not returned.is_set()  # it was given up
    finally:
        answers.set()


def test_many_directories_are_watched_without_a_scan_of_each_change(images):
    """The cost of a file dropped into one of many directories is a look at this file."""

    async def scenario():
        for number in range(200):
            (images / f"{number:03}").mkdir()
            old(images / f"{number:03}" / f"{number}.tar")
        await age()
        async with watching(images) as log:
            await log.until(lambda: len(log.settled) == 200 and not log.watcher.unsettled())
            scans = []

            async def scanned(*request):
                scans.append(request)

            log.watcher._scan = scanned
            (images / "100" / "new.tar").write_bytes(b"x")
            await log.until(lambda: log.settled[-1] == "new.tar")
            assert scans == []

    asyncio.run(scenario())
