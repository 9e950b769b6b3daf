import asyncio
import errno
import logging
import os
import shutil
import threading
import time
from dataclasses import replace

import pytest
from asyncinotify import Event, Inotify, Mask

from airside.core.settings import WatchedDirectory
from airside.importer.watch import inotify as notify
from airside.importer.watch import scan as survey
from airside.importer.watch import watcher as watch
from airside.importer.watch.mount_table import Mount
from airside.importer.watch.watcher import StatKey, Watcher
from support.waiting import LIMIT_SECONDS
from support.watching import LONG_AGO, SETTINGS, age, old, watching, with_

pytestmark = pytest.mark.usefixtures("nothing_left_open")

# --- what is there at the start


def test_files_present_at_the_start_come_in_one_batch_ordered_by_time(images):
    async def scenario():
        old(images / "a.tar", at=LONG_AGO + 2)
        old(images / "b.tar", at=LONG_AGO + 1)
        old(images / "c.tar.part")
        (images / "directory").mkdir()
        os.mkfifo(images / "fifo")
        await age()
        async with watching(images) as log:
            await log.has("b.tar", "a.tar")
            assert len(log.batches) == 1
            assert log.settled == ["b.tar", "a.tar"]
            status = log.watcher.describe()[0]
            assert (status.path, status.mode, status.files) == (images, "inotify", 2)
            await log.stays()

    asyncio.run(scenario())


def test_a_fresh_file_present_at_the_start_waits_until_it_is_quiet(images):
    async def scenario():
        (images / "a.tar").write_bytes(b"fresh")
        started = time.monotonic()
        async with watching(images) as log:
            await log.has("a.tar")
            assert time.monotonic() - started > SETTINGS.quiet_seconds / 2

    asyncio.run(scenario())


def test_known_files_are_not_told_and_missing_ones_are_removed(images):
    async def scenario():
        known = {images / "a.tar": StatKey.of(old(images / "a.tar").stat())}
        known[images / "gone.tar"] = StatKey(1, 2, 3, 4)
        async with watching(images, known=known) as log:
            await log.until(lambda: log.removed == ["gone.tar"])
            await log.stays()
            assert log.settled == []

    asyncio.run(scenario())


# --- what comes later


def test_a_copy_settles_after_its_close(images):
    async def scenario():
        async with watching(images, settings=with_(quiet_seconds=100.0)) as log:
            shutil.copy(__file__, images / "a.tar")
            await log.has("a.tar")
            assert log.keys("a.tar") == [StatKey.of((images / "a.tar").stat())]
            await log.stays()

    asyncio.run(scenario())


def test_a_rename_and_links_settle_without_a_wait(images, tmp_path):
    async def scenario():
        for name in ("moved", "linked", "pointed"):
            (tmp_path / name).write_bytes(b"x")
        slow = with_(settle_seconds=100.0, quiet_seconds=100.0)
        async with watching(images, settings=slow) as log:
            (tmp_path / "moved").rename(images / "moved.tar")
            (images / "linked.tar").hardlink_to(tmp_path / "linked")
            (images / "pointed.tar").symlink_to(tmp_path / "pointed")
            await log.has("moved.tar", "linked.tar", "pointed.tar")
            await log.stays()

    asyncio.run(scenario())


def test_a_rename_as_sftp_servers_do_it_settles_when_it_is_quiet(images):
    """A second name, then the first is deleted: nothing is left that tells of a link."""

    async def scenario():
        async with watching(images) as log:
            (images / "a.tar.filepart").write_bytes(b"x")
            (images / "a.tar").hardlink_to(images / "a.tar.filepart")
            (images / "a.tar.filepart").unlink()
            await log.has("a.tar")
            await log.stays()

    asyncio.run(scenario())


def test_a_temporary_name_waits_for_its_rename(images):
    async def scenario():
        async with watching(images) as log:
            (images / "a.tar.part").write_bytes(b"x")
            await log.stays()
            (images / "a.tar.part").rename(images / "a.tar")
            await log.has("a.tar")

    asyncio.run(scenario())


def test_a_file_that_grows_slowly_is_told_once_when_it_ends(images):
    async def scenario():
        path = images / "a.tar"
        async with watching(images) as log:
            with path.open("wb") as file:  # one writer, long pauses
                for _ in range(4):
                    file.write(b"x")
                    file.flush()
                    await asyncio.sleep(0.15)
            for _ in range(6):  # many writers, short pauses
                with path.open("ab") as file:
                    file.write(b"y")
                await asyncio.sleep(0.04)
            await log.has("a.tar")
            assert [found.size_bytes for found in log.keys("a.tar")] == [10]
            await log.stays()

    asyncio.run(scenario())


def test_every_kind_of_replacement_is_told_once(images, tmp_path):
    async def scenario():
        path = images / "a.tar"
        path.write_bytes(b"first")
        async with watching(images) as log:
            await log.has("a.tar")
            old(tmp_path / "new", b"second").rename(path)  # another inode, an older mtime
            await log.has("a.tar", "a.tar")
            path.write_bytes(b"third!")  # the same inode and size
            await log.has(*["a.tar"] * 3)
            os.utime(path, (LONG_AGO - 9, LONG_AGO - 9))  # an older mtime, the same bytes
            await log.has(*["a.tar"] * 4)
            path.unlink()
            path.write_bytes(b"fifth")
            await log.has(*["a.tar"] * 5)
            await log.stays(0.5)
            assert len(set(log.keys("a.tar"))) == 5
            assert log.removed == []

    asyncio.run(scenario())


def test_removals_are_told_and_a_rename_is_a_removal_and_a_new_file(images, tmp_path):
    async def scenario():
        old(images / "a.tar")
        old(images / "b.tar")
        old(images / "c.tar")
        async with watching(images) as log:
            await log.has("a.tar", "b.tar", "c.tar")
            (images / "a.tar").unlink()
            (images / "b.tar").rename(tmp_path / "b.tar")
            (images / "c.tar").rename(images / "d.tar")
            await log.has("a.tar", "b.tar", "c.tar", "d.tar")
            await log.until(lambda: sorted(log.removed) == ["a.tar", "b.tar", "c.tar"])
            assert log.watcher.describe()[0].files == 1
            await log.stays()

    asyncio.run(scenario())


def test_a_dangling_link_is_waited_for(images, tmp_path):
    async def scenario():
        async with watching(images) as log:
            (images / "a.tar").symlink_to(tmp_path / "target")
            await log.stays(0.3)
            old(tmp_path / "target")
            log.watcher.rescan()
            await log.has("a.tar")
            (tmp_path / "target").unlink()
            log.watcher.rescan()
            await log.stays()

    asyncio.run(scenario())


def test_look_again_tells_an_unchanged_file_again(images):
    async def scenario():
        path = old(images / "a.tar")
        async with watching(images) as log:
            await log.has("a.tar")
            log.watcher.look_again(path, after_seconds=0.2)
            await log.has("a.tar", "a.tar")
            log.watcher.forget(path)
            log.watcher.rescan()
            await log.has("a.tar", "a.tar", "a.tar")
            await log.stays()

    asyncio.run(scenario())


# --- bursts


def test_a_burst_comes_in_few_batches_while_one_is_being_taken(images, tmp_path):
    active = 0

    async def slow(_batch):
        nonlocal active
        active += 1
        assert active == 1
        await asyncio.sleep(0.2)
        active -= 1

    async def scenario():
        for number in range(150):
            (tmp_path / f"{number}").write_bytes(b"x")
        async with watching(images, on_batch=slow) as log:
            for number in range(150):
                (tmp_path / f"{number}").rename(images / f"moved-{number}.tar")
                (images / f"written-{number}.tar").write_bytes(b"x")
            await log.until(lambda: len(log.settled) >= 300)
            await log.stays(0.4)
            assert len(set(log.settled)) == len(log.settled) == 300
            assert len(log.batches) < 10

    asyncio.run(scenario())


def test_a_scan_of_many_files_does_not_hold_up_the_loop(images, monkeypatch):
    scanned_in = []

    walk = watch.scan_directory

    def survey(*args, **named):
        scanned_in.append(threading.get_ident())
        return walk(*args, **named)

    monkeypatch.setattr(watch, "scan_directory", survey)

    async def scenario():
        known = {}
        for number in range(10_000):
            path = images / f"{number}.tar"
            os.close(os.open(path, os.O_CREAT))
            known[path] = StatKey.of(path.stat())
        async with watching(images, known=known) as log:
            await log.until(lambda: log.watcher.describe()[0].mode == "inotify")
            for _ in range(10):
                log.watcher.rescan()
                await asyncio.sleep(0.02)
            assert scanned_in
            assert threading.get_ident() not in scanned_in
            await log.stays(0.1)
            directories = log.watcher._directories.values()
            await log.until(lambda: all(d.busy is None for d in directories))  # its thread ends

    asyncio.run(scenario())


# --- directories


def test_a_directory_made_later_is_scanned_at_once(tmp_path):
    async def scenario():
        images = tmp_path / "deep" / "images"
        async with watching(images) as log:
            assert [status.mode for status in log.watcher.describe()] == ["absent"]
            images.mkdir(parents=True)
            (images / "a.tar").write_bytes(b"x")
            await log.has("a.tar")
            await log.mode("inotify")
            (images / "b.tar").write_bytes(b"x")
            await log.has("a.tar", "b.tar")

    asyncio.run(scenario())


@pytest.mark.parametrize("away", ["deleted", "renamed"])
def test_a_directory_that_goes_away_and_comes_back(images, tmp_path, away):
    async def scenario():
        old(images / "a.tar")
        old(images / "b.tar")
        async with watching(images, settings=with_(removal_seconds=0.4)) as log:
            await log.has("a.tar", "b.tar")
            if away == "deleted":
                shutil.rmtree(images)
            else:
                images.rename(tmp_path / "elsewhere")
            await log.mode("absent")
            await log.stays(0.6)
            images.mkdir()
            old(images / "b.tar", b"other bytes")
            await log.has("a.tar", "b.tar", "b.tar")
            await log.until(lambda: log.removed == ["a.tar"])
            (images / "c.tar").write_bytes(b"x")
            await log.has("a.tar", "b.tar", "b.tar", "c.tar")
            await log.mode("inotify")

    asyncio.run(scenario())


def test_a_link_that_points_at_another_directory_is_noticed_by_a_rescan(tmp_path):
    async def scenario():
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            (tmp_path / name / f"{name}.tar").write_bytes(b"x")
        (tmp_path / "images").symlink_to("one")
        async with watching(tmp_path / "images") as log:
            await log.has("one.tar")
            (tmp_path / "link").symlink_to("two")
            (tmp_path / "link").rename(tmp_path / "images")
            log.watcher.rescan()
            await log.has("one.tar", "two.tar")
            await log.until(lambda: log.removed == ["one.tar"])
            (tmp_path / "two" / "three.tar").write_bytes(b"x")
            await log.has("one.tar", "two.tar", "three.tar")
            (tmp_path / "one" / "four.tar").write_bytes(b"x")
            await log.stays(0.3)

    asyncio.run(scenario())


def test_an_empty_directory_whose_file_system_is_gone_counts_as_unmounted(images):
    async def scenario():
        old(images / "a.tar")
        async with watching(images) as log:
            await log.has("a.tar")
            directory = next(iter(log.watcher._directories.values()))
            here = directory.found.mounts
            stick = {images: Mount(9, str(images), "vfat")}  # as if the file had been on a stick
            directory.found = replace(directory.found, mounts=stick)
            (images / "a.tar").unlink()
            await log.mode("absent")
            await log.stays()
            (images / "b.tar").write_bytes(b"x")
            await log.has("a.tar", "b.tar")
            assert directory.found.mounts == here
            log.watcher.rescan()
            await log.stays(0.5)
            (images / "b.tar").unlink()
            await log.until(lambda: log.removed == ["b.tar"])

    asyncio.run(scenario())


def test_an_unreadable_directory_is_told_once_and_tried_again(images, monkeypatch, caplog):
    real = survey._Walk._list

    def refuse(_walk, _directory):
        raise PermissionError(errno.EACCES, "Permission denied")

    async def scenario():
        old(images / "a.tar")
        monkeypatch.setattr(survey._Walk, "_list", refuse)
        async with watching(images) as log:
            await log.mode("unreadable")
            log.watcher.rescan()
            await log.stays(0.3)
            monkeypatch.setattr(survey._Walk, "_list", real)
            log.watcher.rescan()
            await log.has("a.tar")
            await log.mode("inotify")

    asyncio.run(scenario())
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1


def test_a_directory_that_becomes_readable_is_noticed_soon(images, monkeypatch):
    """No event tells of it: the directory could not be watched."""
    real = survey._Walk._list

    def refuse(_walk, _directory):
        raise PermissionError(errno.EACCES, "Permission denied")

    async def scenario():
        old(images / "a.tar")
        monkeypatch.setattr(survey._Walk, "_list", refuse)
        async with watching(images, settings=with_(poll_seconds=0.2)) as log:
            await log.mode("unreadable")
            monkeypatch.setattr(survey._Walk, "_list", real)
            await log.has("a.tar")

    asyncio.run(scenario())


def test_two_paths_of_one_directory_are_both_watched(images, tmp_path):
    async def scenario():
        (tmp_path / "other").symlink_to("images")
        async with watching(images, tmp_path / "other") as log:
            (images / "a.tar").write_bytes(b"x")
            await log.has("a.tar", "a.tar")
            (images / "a.tar").unlink()
            await log.until(lambda: log.removed == ["a.tar", "a.tar"])

    asyncio.run(scenario())


# --- where inotify fails


def test_lost_events_make_it_scan(images):
    async def scenario():
        async with watching(images) as log:
            await log.mode("inotify")
            log.watcher._notifier._paths.clear()  # deaf
            old(images / "a.tar")
            await log.stays(0.3)
            log.watcher._notifier.saw(Event(None, Mask.Q_OVERFLOW, 0, None))
            await log.has("a.tar")

    asyncio.run(scenario())


def test_the_periodic_scan_finds_what_no_event_told(images):
    async def scenario():
        async with watching(images, settings=with_(rescan_seconds=0.5)) as log:
            await log.mode("inotify")
            log.watcher._notifier.saw = lambda _event: None
            (images / "a.tar").write_bytes(b"x")
            await log.has("a.tar")
            await log.stays()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("failing", "error", "hint"),
    [
        ("init", errno.EMFILE, "max_user_instances"),
        ("watch", errno.ENOSPC, "max_user_watches"),
    ],
)
def test_without_inotify_it_polls_and_says_so(images, monkeypatch, caplog, failing, error, hint):
    def refuse(*_args, **_kwargs):
        raise OSError(error, os.strerror(error))

    async def scenario():
        with monkeypatch.context() as broken:
            if failing == "init":
                broken.setattr(notify, "Inotify", refuse)
            else:
                broken.setattr(Inotify, "add_watch", refuse)
            async with watching(images, settings=with_(quiet_seconds=0.5)) as log:
                status = log.watcher.describe()[0]
                assert status.mode == "polling"
                assert hint in status.reason
                with (images / "a.tar").open("wb") as file:
                    for _ in range(5):
                        file.write(b"x")
                        file.flush()
                        await asyncio.sleep(0.1)
                await log.has("a.tar")
                assert [found.size_bytes for found in log.keys("a.tar")] == [5]
                (images / "a.tar").unlink()
                await log.until(lambda: log.removed == ["a.tar"])
                broken.undo()
                log.watcher.rescan()
                await log.mode("inotify")
                (images / "b.tar").write_bytes(b"x")
                await log.has("a.tar", "b.tar")

    asyncio.run(scenario())
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert hint in warnings[0]


@pytest.mark.parametrize("kind", ["fuse.sshfs", "overlay"])
def test_network_and_overlay_file_systems_are_polled_as_well(images, monkeypatch, kind):
    async def scenario():
        monkeypatch.setattr(survey, "mounts_of", lambda path, _real: {path: Mount(1, "/", kind)})
        monkeypatch.setattr(watch, "mounts_of", survey.mounts_of)
        async with watching(images) as log:
            await log.mode("polling")
            assert log.watcher.describe()[0].reason.startswith(kind)
            log.watcher._notifier.saw = lambda _event: None  # as if written elsewhere
            (images / "a.tar").write_bytes(b"x")
            await log.has("a.tar")
            await log.stays()

    asyncio.run(scenario())


# --- its own manners


def test_it_does_nothing_while_nothing_happens(images):
    async def scenario():
        known = {images / "a.tar": StatKey.of(old(images / "a.tar").stat())}
        async with watching(images, known=known) as log:
            await log.mode("inotify")
            await asyncio.sleep(0.2)
            steps = []
            real = log.watcher._look_due

            async def counted():
                steps.append(1)
                await real()

            log.watcher._look_due = counted
            for _ in range(10):  # something may be mounted elsewhere on this machine
                steps.clear()
                await log.stays(0.5)
                if not steps:
                    return
            raise AssertionError("it never rests")

    asyncio.run(scenario())


def test_a_failure_of_the_taker_ends_it(images):
    async def fail(_batch):
        raise ZeroDivisionError

    async def scenario():
        old(images / "a.tar")
        watcher = Watcher([WatchedDirectory(images)], SETTINGS, {})
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(watcher.run(fail), LIMIT_SECONDS)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def test_it_can_be_cancelled_while_a_batch_is_being_taken(images):
    cancelled = threading.Event()

    async def forever(_batch):
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def scenario():
        old(images / "a.tar")
        async with watching(images, on_batch=forever) as log:
            await log.has("a.tar")
        assert cancelled.is_set()

    asyncio.run(scenario())
