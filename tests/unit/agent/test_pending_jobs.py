"""The jobs that wait: archives and lists apart, each kind in its order."""

from pathlib import Path

from airside.agent.import_order import ImportOrder
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


def test_archives_go_by_rank_and_those_of_one_rank_in_their_order():
    pending = PendingJobs()
    ranks = {"/d": (2, 0, 9), "/b": (1, 0, 5), "/c": (1, 0, 5), "/a": (0, 0, 99)}
    for number, (path, rank) in enumerate(ranks.items()):
        pending.add(Job(number, Path(path)), rank)
    pending.add(Job(9, Path("/d")), (2, 0, 1))  # it is another file now
    assert pending.next_archive({Path("/a")}) == Path("/b")
    taken = []
    while (path := pending.next_archive({})) is not None:
        taken.append(str(path))
        pending.pop(path)
    assert taken == ["/a", "/b", "/c", "/d"]


def test_a_large_archive_is_not_held_up_for_ever():
    pending = PendingJobs()
    large = Path("/large")
    pending.add(Job(0, large), (2, 0, 10**9))
    for number in range(1, 20):
        pending.add(Job(number, Path(f"/{number}")), (2, 0, 1))
        path = pending.next_archive({})
        assert path is not None
        pending.pop(path)
        if path == large:
            return
    raise AssertionError("it waits for ever")


def test_the_order_of_imports_goes_by_names_priority_and_size():
    order = ImportOrder({"registry.k8s.io/etcd:3.5", "docker.io/library/a:1"})
    key = "1:{}:1:1"
    jobs = [
        Job(0, Path("/i/registry.k8s.io_pause_3.10.tar"), stat_key=key.format(500)),
        Job(1, Path("/i/ETCD-3.5.tar.zst"), stat_key=key.format(400)),
        Job(2, Path("/i/important.tar"), stat_key=key.format(300), priority=1),
        Job(3, Path("/i/etcdctl.tar"), stat_key=key.format(2)),
        Job(4, Path("/i/a.tar"), stat_key=key.format(3)),
        Job(5, Path("/i/pauser.tar"), stat_key=key.format(4)),
    ]
    assert sorted(jobs, key=order.of) == jobs
