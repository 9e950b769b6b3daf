"""Syncing and free space of containerd's file systems."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airside.containerd import fsync as syncing
from airside.containerd.fsync import SharedSync, sync_file_system
from airside.core.errors import StoreError
from support.waiting import LIMIT_SECONDS, wait_until


@pytest.fixture
def synced(monkeypatch):
    calls = []
    monkeypatch.setattr(os, "sync", lambda: calls.append("all"))
    return calls


def test_only_the_file_system_of_the_path_is_synced(tmp_path, synced, monkeypatch):
    places = []
    monkeypatch.setattr(
        syncing, "_syncfs", lambda fd: places.append(Path(f"/proc/self/fd/{fd}").readlink()) or 0
    )
    sync_file_system(tmp_path)
    assert (places, synced) == ([tmp_path], [])


def test_the_call_is_there(tmp_path, synced):
    sync_file_system(tmp_path)
    assert synced == []


def test_all_are_synced_where_the_path_cannot_be_seen(tmp_path, synced, monkeypatch):
    sync_file_system(None)
    sync_file_system(tmp_path / "absent")
    monkeypatch.setattr(syncing, "_syncfs", None)
    sync_file_system(tmp_path)
    assert synced == ["all"] * 3


def test_a_disk_that_fails_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(syncing, "_syncfs", lambda _fd: -1)
    with pytest.raises(StoreError):
        sync_file_system(tmp_path)


class Disk:
    """A disk whose syncs wait for permission to end; `errors` are those of the next rounds."""

    def __init__(self, monkeypatch, errors=()):
        self.begun, self.errors = [], list(errors)
        self.may_end = threading.Semaphore(0)
        monkeypatch.setattr(syncing, "sync_file_system", self.sync)

    def sync(self, path):
        self.begun.append(path)
        assert self.may_end.acquire(timeout=LIMIT_SECONDS)
        if self.errors and (error := self.errors.pop(0)):
            raise error

    def until_begun(self, count):
        wait_until(lambda: len(self.begun) >= count)


def asked(shared, pool, count):
    """Waits until this many threads wait for the round after the running one."""
    calls = [pool.submit(shared.sync) for _ in range(count)]
    wait_until(lambda: len(shared._changed._waiters) >= count)
    return calls


def test_those_that_ask_while_one_runs_share_the_next(monkeypatch, tmp_path):
    disk, shared = Disk(monkeypatch), SharedSync(tmp_path)
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(shared.sync)
        disk.until_begun(1)
        others = asked(shared, pool, 4)
        disk.may_end.release()
        first.result(LIMIT_SECONDS)
        assert not any(call.done() for call in others)
        disk.may_end.release()
        for call in others:
            call.result(LIMIT_SECONDS)
    assert disk.begun == [tmp_path] * 2


def test_a_round_that_failed_is_told_to_all_of_it_and_to_no_other(monkeypatch, tmp_path):
    disk, shared = Disk(monkeypatch, [None, StoreError("no")]), SharedSync(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(shared.sync)
        disk.until_begun(1)
        others = asked(shared, pool, 3)
        disk.may_end.release(3)
        first.result(LIMIT_SECONDS)
        for call in others:
            with pytest.raises(StoreError, match="no"):
                call.result(LIMIT_SECONDS)
    shared.sync()


def test_a_round_that_ends_by_another_error_lets_the_next_begin(monkeypatch, tmp_path):
    disk, shared = Disk(monkeypatch, [ZeroDivisionError()]), SharedSync(tmp_path)
    disk.may_end.release(2)
    with pytest.raises(ZeroDivisionError):
        shared.sync()
    shared.sync()
    assert len(disk.begun) == 2
