"""The jobs that wait: archives and lists apart, each kind in its order."""

from pathlib import Path

from airside.agent.pending_jobs import PendingJobs
from airside.importer.importer import Job


def test_each_kind_has_its_order_and_a_newer_job_replaces_the_older():
    pending = PendingJobs()
    a, b, names = Path("/a.tar"), Path("/b.tar"), Path("/names.txt")
    for number, path in enumerate((a, names, b, a)):
        pending.add(Job(number, path))
    assert len(pending) == 3
    assert a in pending
    assert pending.next_archive({}) == a
    assert pending.next_archive({a: 1}) == b
    assert pending.next_list({}) == names
    assert pending.pop(a) == Job(3, a)
    assert pending.pop(a) is None
    assert pending.next_list({names: 1}) is None
