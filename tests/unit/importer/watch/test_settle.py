from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airside.archive.stat_key import StatKey
from airside.core.errors import StoreCorruptError
from airside.importer.watch.directories import is_candidate
from airside.importer.watch.settle import MOST_SETTLED, Batch, Observation, Settler

DIR = Path("/images")
A, B, C = DIR / "a.tar", DIR / "b.tar", DIR / "c.tar"
SETTLE, QUIET, REMOVAL = 0.5, 4.0, 2.0
WALL = 1_700_000_000.0
"""The time of day at monotonic 0, in seconds; both clocks run together."""


def key(number=1, *, mtime=-100.0, ctime=None, size=10):
    """A key whose times are given in seconds of the monotonic clock."""
    ctime = mtime if ctime is None else ctime
    return StatKey(number, size, int((WALL + mtime) * 1e9), int((WALL + ctime) * 1e9))


class Bench:
    """A settler with made-up files and a made-up clock."""

    def __init__(self, known=None):
        self.files = {}
        self.linked = set()
        self.now = 0.0
        self.trees = set()
        self.own_clock = self.keeps_inodes = True
        self.settler = Settler(
            settle_seconds=SETTLE,
            quiet_seconds=QUIET,
            removal_seconds=REMOVAL,
            known=known or {},
        )

    @property
    def wall_ns(self):
        return int((WALL + self.now) * 1e9)

    def look(self, path):
        if path in self.files:
            observation = Observation(
                path,
                self.now,
                self.wall_ns,
                key=self.files[path],
                linked=path in self.linked,
                tree=path in self.trees,
                own_clock=self.own_clock,
                keeps_inodes=self.keeps_inodes,
            )
        else:
            observation = Observation(path, self.now, self.wall_ns, absent=True)
        self.settler.saw(observation)

    def scan(self):
        for path in {*self.files, *self.settler.tracked(DIR)}:
            self.look(path)

    def step(self):
        for path in self.settler.due(self.now):
            self.look(path)
        self.settler.end_step()
        return self.settler.take(self.now, wall_ns=self.wall_ns) or Batch()

    def run(self, until):
        """Look whenever it is asked for; everything told with its time."""
        told = []
        while True:
            batch = self.step()
            told += [(round(self.now, 3), "settled", s.path, s.key) for s in batch.settled]
            told += [(round(self.now, 3), "removed", path) for path in batch.removed]
            at = self.settler.next_look()
            if at is None or at > until:
                self.now = until
                return told
            assert at > self.now, "a path is asked for twice at one time"
            self.now = at


@pytest.fixture
def bench():
    return Bench()


# --- names and keys


@pytest.mark.parametrize(
    "name",
    ["a.tar", "a.tar.gz", "noending", "a.part.tar", "x", "list.txt", "a.tar.sha256", "a.json"],
)
def test_a_name_of_any_kind_is_a_candidate(name):
    assert is_candidate(name)


@pytest.mark.parametrize(
    "name",
    [
        *(".a.tar", "a.tar~", "a.part", "a.TMP", "a.filepart", "a.tar.crdownload", "a.partial"),
        *("a.swp", "a.download", "list.txt.part", "a.tar.!qB", "index.json"),
    ],
)
def test_a_name_of_a_file_being_written_or_of_a_layout_is_none(name):
    assert not is_candidate(name)


@given(st.builds(StatKey, *[st.integers(min_value=-(2**63), max_value=2**64)] * 4))
def test_a_key_is_the_same_after_a_trip_through_text(found):
    assert StatKey.parse(str(found)) == found


@pytest.mark.parametrize("text", ["", "1:2:3", "1:2:3:4:5", "1:2:3:x"])
def test_damaged_text_of_a_key_is_refused(text):
    with pytest.raises(StoreCorruptError):
        StatKey.parse(text)


def test_a_key_is_made_of_a_stat_result(tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    found = (tmp_path / "a").stat()
    assert StatKey.of(found) == StatKey(found.st_ino, 3, found.st_mtime_ns, found.st_ctime_ns)


# --- the wait


def test_after_a_close_it_waits_for_the_settle_time(bench):
    bench.files[A] = key(mtime=0)
    bench.settler.saw_close(A, 0.0)
    assert bench.run(60) == [(SETTLE, "settled", A, key(mtime=0))]


def test_each_close_starts_the_wait_anew(bench):
    for size in range(5):
        bench.files[A] = key(mtime=bench.now, size=size)
        bench.settler.saw_close(A, bench.now)
        assert bench.run(bench.now + SETTLE * 0.8) == []
    assert bench.run(60) == [(round(4 * SETTLE * 0.8 + SETTLE, 3), "settled", A, bench.files[A])]


def test_a_file_that_grows_on_after_a_close_waits_until_it_is_quiet(bench):
    bench.files[A] = key(mtime=0, size=1)
    bench.settler.saw_close(A, 0.0)
    assert bench.run(SETTLE / 2) == []
    bench.files[A] = key(mtime=SETTLE / 2, size=2)
    assert bench.run(60) == [(SETTLE / 2 + QUIET, "settled", A, bench.files[A])]


def test_after_a_rename_into_place_it_does_not_wait(bench):
    bench.files[A] = key(mtime=0)
    bench.settler.saw_move(A, 0.0)
    assert bench.run(60) == [(0, "settled", A, key(mtime=0))]


def test_a_new_link_does_not_wait(bench):
    bench.files[A] = key(mtime=0)
    bench.linked.add(A)
    bench.settler.saw_create(A, 0.0)
    assert bench.run(60) == [(0, "settled", A, key(mtime=0))]


def test_a_new_name_of_a_file_that_lost_its_other_one_waits_until_it_is_quiet(bench):
    bench.files[A] = key(mtime=0)
    bench.settler.saw_create(A, 0.0)
    assert bench.run(60) == [(QUIET, "settled", A, key(mtime=0))]


def test_a_new_empty_file_is_left_to_its_close(bench):
    bench.files[A] = key(mtime=0, size=0)
    bench.settler.saw_create(A, 0.0)
    assert bench.run(60) == []
    assert bench.settler.tracked(DIR) == []
    bench.settler.saw_change(A, bench.now)
    assert bench.settler.next_look() is None


def test_a_file_made_in_place_of_a_known_one_waits_for_its_close():
    bench = Bench(known={A: key(1)})
    bench.files[A] = key(2, mtime=0, size=0)
    bench.settler.saw_change(A, 0.0)
    bench.settler.saw_create(A, 0.0)
    assert bench.run(QUIET / 2) == []
    bench.files[A] = key(2, mtime=QUIET / 2)
    bench.settler.saw_close(A, bench.now)
    assert bench.run(60) == [(QUIET / 2 + SETTLE, "settled", A, bench.files[A])]


def test_a_file_found_old_is_settled_at_once(bench):
    bench.files[A] = key(mtime=-QUIET)
    bench.scan()
    assert bench.run(60) == [(0, "settled", A, key(mtime=-QUIET))]


@pytest.mark.parametrize("times", [{"mtime": -1}, {"mtime": -100, "ctime": -1}])
def test_a_file_found_fresh_waits_for_the_rest_of_the_quiet_time(bench, times):
    bench.files[A] = key(**times)
    bench.scan()
    assert bench.run(60) == [(QUIET - 1, "settled", A, key(**times))]


@pytest.mark.parametrize("times", [{"mtime": 500}, {"mtime": -100, "ctime": 500}])
def test_times_in_the_future_tell_nothing(bench, times):
    bench.files[A] = key(**times)
    bench.scan()
    assert bench.run(60) == [(QUIET, "settled", A, key(**times))]


def test_times_of_another_hosts_clock_tell_nothing(bench):
    bench.own_clock = False
    bench.files[A] = key(mtime=-100)
    bench.scan()
    assert bench.run(60) == [(QUIET, "settled", A, key(mtime=-100))]


def test_chmod_of_a_settled_file_waits_only_for_the_settle_time():
    bench = Bench(known={A: key(1)})
    bench.files[A] = key(1, mtime=-100, ctime=0)
    bench.settler.saw_change(A, 0.0)
    assert bench.run(60) == [(SETTLE, "settled", A, bench.files[A])]


def test_chmod_of_a_growing_file_does_not_shorten_its_wait(bench):
    bench.files[A] = key(mtime=0)
    bench.scan()
    bench.run(1)
    bench.files[A] = key(mtime=0, ctime=1)
    bench.settler.saw_change(A, 1.0)
    assert bench.run(60) == [(1 + QUIET, "settled", A, bench.files[A])]


def test_an_event_without_a_stronger_one_keeps_the_stronger(bench):
    bench.files[A] = key(mtime=0)
    bench.settler.saw_move(A, 0.0)
    bench.settler.saw_change(A, 0.0)
    assert bench.run(60) == [(0, "settled", A, key(mtime=0))]


def test_a_stat_older_than_the_last_event_is_ignored(bench):
    bench.settler.saw_close(A, 1.0)
    bench.settler.saw(Observation(A, 0.9, bench.wall_ns, key=key(1)))
    bench.settler.saw_absent(A, 0.9)
    bench.files[A] = key(2, mtime=1)
    assert bench.run(60) == [(1 + SETTLE, "settled", A, key(2, mtime=1))]


# --- told once


def test_a_settled_file_is_told_once(bench):
    bench.files[A] = key()
    bench.scan()
    assert len(bench.run(10)) == 1
    bench.scan()
    bench.settler.saw_close(A, bench.now)
    assert bench.run(60) == []
    assert bench.settler.next_look() is None


def test_a_known_file_is_told_only_when_it_changed():
    bench = Bench(known={A: key(1), B: key(2)})
    bench.files = {A: key(1), B: key(2, mtime=-200)}
    bench.scan()
    assert bench.run(60) == [(0, "settled", B, key(2, mtime=-200))]


def test_a_young_file_is_looked_at_again_and_a_change_is_told(bench):
    bench.files[A] = key(mtime=0)
    bench.settler.saw_move(A, 0.0)
    assert len(bench.run(1)) == 1
    bench.files[A] = key(mtime=1)
    assert bench.run(60) == [(1 + QUIET, "settled", A, key(mtime=1))]


def test_look_again_tells_the_same_key_again(bench):
    bench.files[A] = key()
    bench.scan()
    bench.run(1)
    bench.settler.look_again(A, 10.0)
    bench.scan()
    assert bench.run(60) == [(10, "settled", A, key())]
    bench.scan()
    assert bench.run(90) == []


def test_look_again_waits_until_a_changed_file_is_quiet(bench):
    bench.files[A] = key()
    bench.scan()
    bench.run(1)
    bench.settler.look_again(A, 10.0)
    bench.run(9)
    bench.files[A] = key(mtime=9)
    assert bench.run(60) == [(9 + QUIET, "settled", A, key(mtime=9))]


def test_a_change_that_is_told_before_answers_look_again(bench):
    bench.files[A] = key()
    bench.scan()
    bench.run(1)
    bench.settler.look_again(A, 10.0)
    bench.files[A] = key(mtime=2)
    bench.settler.saw_move(A, bench.now)
    assert bench.run(60) == [(1, "settled", A, key(mtime=2))]


def test_a_forgotten_file_is_new_at_the_next_scan(bench):
    bench.files[A] = key()
    bench.scan()
    bench.run(1)
    bench.settler.forget(A)
    assert bench.run(2) == []
    bench.scan()
    assert len(bench.run(3)) == 1


# --- removal


def test_a_removal_is_told_after_its_wait(bench):
    bench.files[A] = key()
    bench.scan()
    bench.run(10)
    del bench.files[A]
    bench.settler.saw_change(A, 10.0)
    assert bench.run(60) == [(10 + REMOVAL, "removed", A)]
    assert bench.settler.tracked(DIR) == []


def test_a_known_file_that_is_missing_at_the_start_is_removed():
    bench = Bench(known={A: key()})
    bench.scan()
    assert bench.run(60) == [(REMOVAL, "removed", A)]


def test_a_file_that_was_never_told_is_not_told_to_be_removed(bench):
    bench.settler.saw_close(A, 0.0)
    assert bench.run(60) == []
    assert bench.settler.tracked(DIR) == []


def test_a_replacement_is_no_removal(bench):
    bench.files[A] = key(1)
    bench.scan()
    bench.run(10)
    del bench.files[A]
    bench.settler.saw_change(A, 10.0)
    bench.run(10 + REMOVAL / 2)
    bench.files[A] = key(2)
    bench.settler.saw_move(A, bench.now)
    assert bench.run(60) == [(10 + REMOVAL / 2, "settled", A, key(2))]


def test_a_file_that_comes_back_unchanged_is_not_told(bench):
    bench.files[A] = key(1)
    bench.scan()
    bench.run(10)
    del bench.files[A]
    bench.scan()
    bench.now += REMOVAL
    bench.look(A)  # the removal is due, and nobody took it
    bench.files[A] = key(1)
    bench.scan()
    assert bench.run(60) == []


def test_nothing_is_told_of_an_absent_directory():
    bench = Bench(known={A: key(1)})
    bench.files[B] = key(mtime=0)
    bench.scan()
    for path in bench.settler.tracked(DIR):
        bench.settler.suspend(path)
    assert bench.run(60) == []
    bench.files = {B: key(mtime=0), C: key()}
    bench.scan()
    assert bench.run(90) == [
        (60, "settled", C, key()),
        (60, "settled", B, key(mtime=0)),
        (60 + REMOVAL, "removed", A),
    ]


# --- order


def test_one_step_is_ordered_by_time_then_path(bench):
    bench.files = {C: key(mtime=-50), B: key(mtime=-90), A: key(mtime=-50)}
    bench.scan()
    assert [told.path for told in bench.step().settled] == [B, A, C]


def test_a_later_step_is_newer_whatever_its_times(bench):
    bench.files[B] = key(mtime=-50)
    bench.scan()
    bench.settler.end_step()  # nobody takes it yet
    bench.files[A] = key(mtime=-90)
    bench.settler.saw_move(A, 0.0)
    assert [told.path for told in bench.step().settled] == [B, A]


def test_nothing_to_tell_is_no_batch(bench):
    assert bench.settler.take(0.0, wall_ns=0) is None
    assert bench.settler.next_look() is None


# --- any history

ACTIONS = st.one_of(
    st.tuples(st.sampled_from(["write", "close", "replace", "remove"]), st.booleans()),
    st.tuples(st.just("wait"), st.floats(min_value=0.01, max_value=9)),
    st.tuples(st.just("scan"), st.just(True)),
)


@given(st.lists(st.tuples(st.sampled_from([A, B]), ACTIONS), max_size=40))
def test_after_any_history_the_last_state_was_told_and_nothing_twice(history):
    bench, told = Bench(), []
    for number, (path, (action, given_value)) in enumerate(history):
        if action == "wait":
            told += bench.run(bench.now + given_value)
        elif action == "scan":
            bench.scan()
        elif action == "remove":
            bench.files.pop(path, None)
            if given_value:  # else the event is lost
                bench.settler.saw_change(path, bench.now)
        elif action != "close" or path in bench.files:
            size = number if action != "close" else bench.files[path].size_bytes
            inode = number if action == "replace" else 0
            if action != "close":
                bench.files[path] = key(inode, mtime=bench.now, size=size)
            saw = {"close": bench.settler.saw_close, "replace": bench.settler.saw_move}.get(action)
            if saw and given_value:
                saw(path, bench.now)
    told += bench.run(bench.now + 10)
    bench.scan()
    told += bench.run(bench.now + 10)
    for path in (A, B):
        own = [entry for entry in told if entry[2] == path]
        state = own[-1] if own else (0, "removed", path)
        assert (state[3] if state[1] == "settled" else None) == bench.files.get(path)
        assert all(one[1:] != other[1:] for one, other in pairwise(own))
    assert set(bench.settler.tracked(DIR)) == set(bench.files)
    assert bench.settler.next_look() is None


# --- layout directories, and file systems that make up inode numbers


def test_a_layout_directory_is_told_when_nothing_in_it_changed_for_long(bench):
    bench.trees.add(A)
    bench.files[A] = key(1, mtime=0)
    bench.scan()
    for at, number in ((1, 2), (3, 3)):
        bench.run(at)
        bench.files[A] = key(number, mtime=at)
        bench.settler.saw_inside(A, bench.now)
    assert bench.run(60) == [(3 + QUIET, "settled", A, key(3, mtime=3))]


def test_a_layout_directory_that_is_renamed_into_place_is_told_at_once(bench):
    bench.trees.add(A)
    bench.files[A] = key(mtime=0)
    bench.settler.saw_move(A, bench.now)
    assert bench.run(60) == [(0, "settled", A, key(mtime=0))]


def test_an_event_inside_without_a_change_tells_nothing(bench):
    bench = Bench(known={A: key()})
    bench.trees.add(A)
    bench.files[A] = key()
    bench.settler.saw_inside(A, bench.now)
    assert bench.run(60) == []


def test_another_inode_of_the_same_file_after_a_mount_is_no_change():
    bench = Bench(known={A: key(1, mtime=-50)})
    bench.keeps_inodes = False
    bench.files[A] = key(2, mtime=-50, ctime=-49)
    bench.scan()
    assert bench.run(60) == []
    bench.files[A] = key(3, mtime=-40)
    bench.scan()
    assert bench.run(90) == [(60, "settled", A, key(3, mtime=-40))]


def test_a_file_replaced_by_rename_is_told_whatever_its_file_system():
    bench = Bench(known={A: key(1, mtime=-50)})
    bench.keeps_inodes = False
    bench.files[A] = key(2, mtime=-50)
    bench.settler.saw_move(A, bench.now)
    assert bench.run(60) == [(0, "settled", A, key(2, mtime=-50))]


def test_a_change_of_a_links_target_waits_until_it_is_quiet():
    bench = Bench(known={A: key(1)})
    bench.linked.add(A)
    bench.files[A] = key(2, mtime=0, size=3)
    bench.settler.saw_target(A, bench.now)
    assert bench.run(60) == [(QUIET, "settled", A, key(2, mtime=0, size=3))]


def test_a_look_that_tells_nothing_keeps_what_is_known():
    bench = Bench(known={A: key(1)})
    bench.files[A] = key(2)
    bench.settler.saw_move(A, bench.now)
    bench.settler.saw(Observation(A, bench.now, bench.wall_ns))
    assert bench.settler.take(bench.now, wall_ns=bench.wall_ns) is None
    assert bench.settler.tracked(DIR) == [A]


def test_a_batch_has_the_first_thousand_and_the_next_has_the_rest():
    bench = Bench()
    paths = [Path(f"/images/{number:04}.tar") for number in range(MOST_SETTLED + 5)]
    for number, path in enumerate(paths):
        found = StatKey(number, 10, number, 0)
        bench.settler.saw(Observation(path, 0.0, bench.wall_ns, key=found))
    first = bench.settler.take(0.0, wall_ns=bench.wall_ns)
    second = bench.settler.take(0.0, wall_ns=bench.wall_ns)
    assert [one.path for one in (*first.settled, *second.settled)] == paths
    assert len(first.settled) == MOST_SETTLED
    assert bench.settler.take(0.0, wall_ns=bench.wall_ns) is None


# --- more paths than the directory may have


def test_a_path_too_many_is_ignored_until_another_is_forgotten():
    settler = Settler(
        settle_seconds=SETTLE,
        quiet_seconds=QUIET,
        removal_seconds=REMOVAL,
        known={A: key()},
        most=1,
    )
    for saw in (
        settler.saw_close,
        settler.saw_move,
        settler.saw_create,
        settler.saw_target,
        settler.saw_inside,
    ):
        saw(B, 1.0)
        assert settler.next_look() is None
    settler.forget(A)
    settler.saw_close(B, 2.0)
    assert settler.due(2.0) == [B]


def test_nothing_is_decided_of_a_path_that_cannot_be_looked_at(bench):
    bench.files = {A: key()}
    bench.scan()
    assert [what[1] for what in bench.run(10.0)] == ["settled"]
    bench.settler.saw_absent(A, bench.now)
    bench.settler.saw(Observation(A, bench.now, bench.wall_ns))
    assert bench.run(20.0) == []
    bench.settler.saw(Observation(B, bench.now, bench.wall_ns))
    assert bench.settler.tracked(DIR) == [A]
