"""The record of what was unpacked and not synced, by boot."""

import threading

import pytest

from airside.containerd.pending_sync import MemoryRecord, PendingSync
from airside.containerd.services.snapshots import Mount
from airside.containerd.unpack_layer import writable
from airside.core.errors import ContainerdError, StoreError
from support.images import sha256
from support.waiting import wait_until

CHAINS = [sha256(bytes([n])) for n in range(4)]


def test_what_is_expected_is_recorded_until_it_is_forgotten():
    record = MemoryRecord()
    pending_sync = PendingSync(record, "one")
    pending_sync.expect(CHAINS[:2])
    assert record.chains == {str(chain): "one" for chain in CHAINS[:2]}
    assert pending_sync.left() == CHAINS[:2]
    assert pending_sync.suspects() == []
    pending_sync.forget(CHAINS[:1])
    assert record.chains == {str(CHAINS[1]): "one"}
    pending_sync.forget(CHAINS)
    assert record.chains == {}


def test_after_another_boot_it_is_suspect_until_it_is_forgotten():
    record = MemoryRecord()
    PendingSync(record, "one").expect(CHAINS[:1])
    pending_sync = PendingSync(record, "two")
    pending_sync.expect(CHAINS[:2])  # the first is unpacked again, and not right before that ended
    assert pending_sync.suspects() == CHAINS[:1]
    assert pending_sync.left() == CHAINS[1:2]
    assert [pending_sync.is_suspect(chain) for chain in CHAINS[:3]] == [True, False, False]
    pending_sync.forget(CHAINS)
    assert not pending_sync.is_suspect(CHAINS[0])
    assert record.chains == {}


def test_who_expects_at_the_same_time_shares_a_save():
    saves, entered, go = [], threading.Event(), threading.Event()

    class Slow(MemoryRecord):
        def save(self, chains):
            saves.append(dict(chains))
            entered.set()
            assert go.wait(10)

    pending_sync = PendingSync(Slow(), "one")
    threads = [threading.Thread(target=pending_sync.expect, args=([chain],)) for chain in CHAINS]
    threads[0].start()
    assert entered.wait(10)
    for thread in threads[1:]:
        thread.start()
    wait_until(lambda: len(pending_sync.left()) >= len(CHAINS))
    go.set()
    for thread in threads:
        thread.join()
    assert len(saves) == 2
    assert saves[-1].keys() == {str(chain) for chain in CHAINS}


def test_what_could_not_be_recorded_is_told():
    class Full(MemoryRecord):
        def save(self, _chains):
            raise StoreError("no space")

    with pytest.raises(StoreError):
        PendingSync(Full(), "one").expect(CHAINS)


def test_what_could_not_be_recorded_is_recorded_before_the_next_try_goes_on():
    class FullOnce(MemoryRecord):
        is_full = True

        def save(self, chains):
            if self.is_full:
                raise StoreError("no space")
            super().save(chains)

    record = FullOnce()
    pending_sync = PendingSync(record, "one")
    for _ in range(2):
        with pytest.raises(StoreError):
            pending_sync.expect(CHAINS)
    record.is_full = False
    pending_sync.expect(CHAINS)
    assert record.chains.keys() == {str(chain) for chain in CHAINS}


def test_a_shown_snapshot_is_written_where_its_top_layer_is():
    shown = Mount("overlay", "overlay", "", ("index=off", "lowerdir=/s/3/fs:/s/2/fs:/s/1/fs"))
    found = writable([shown])
    assert found.options == ("upperdir=/s/3/fs", "lowerdir=/s/2/fs:/s/1/fs")
    lowest = Mount("bind", "/s/1/fs", "", ("ro", "rbind"))
    assert writable([lowest]).options == ("rw", "rbind")
    with pytest.raises(ContainerdError):
        writable([Mount("overlay", "overlay", "", ("lowerdir=/s/1/fs",))])
