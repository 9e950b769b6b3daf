"""Scrub results: what is wrong with a blob, what is reported, and when a pass is due."""

import errno
from dataclasses import replace

import pytest

from airside.oci.digest import digest_of
from airside.store.scrub_results import (
    BlobFile,
    BlobFinding,
    Pace,
    RuntimeFile,
    ScrubPass,
    is_media_error,
    judge,
    next_pass,
    parse_pass,
    reason_of,
    state_of,
)

DIGEST, OTHER = digest_of(b"right"), digest_of(b"wrong")
ITEM = BlobFinding(DIGEST, 5, "wrong-bytes", "lost")
DAY = 86400.0


@pytest.mark.parametrize(
    ("seen", "problem"),
    [
        (BlobFile("1:2", 5, DIGEST), ""),
        (BlobFile("1:2", 5, OTHER), "wrong-bytes"),
        (BlobFile("1:2", 4), "wrong-size"),
        (BlobFile(), "missing"),
        (BlobFile("1:2", error=errno.EIO), "unreadable"),
        (BlobFile(error=errno.EIO), "unreadable"),
    ],
)
def test_a_blob_is_judged_by_its_file(seen, problem):
    assert judge(DIGEST, 5, seen) == problem
    assert bool(reason_of(problem, seen, "it failed")) == bool(problem)
    assert state_of(problem) == ("lost" if problem == "missing" else "quarantined")


def test_an_error_of_one_place_is_told_from_one_of_the_file_system():
    assert is_media_error(errno.EIO)
    assert not any(map(is_media_error, (errno.ENOTCONN, errno.EACCES, errno.ENODEV, None)))


def test_what_is_wrong_says_what_to_do():
    lost = replace(ITEM, archives=("/images/a.tar",))
    assert "/images/a.tar" in lost.advice
    assert "push" in ITEM.advice
    assert "--repair" in replace(ITEM, result="quarantined").advice
    repaired = ITEM.repaired("archive", "/images/a.tar", [RuntimeFile("/run/c.sock", "replaced")])
    assert (repaired.advice, repaired.is_fine, ITEM.is_fine) == ("", True, False)
    assert "crictl rmi" in ITEM.repaired("archive", "x", [RuntimeFile("c", "wrong")]).advice


def test_a_pass_is_counted_and_kept_as_text():
    orphan = replace(ITEM, problem="orphan", result="removed")
    found = ScrubPass(1.0).counted(3, 300, [ITEM, ITEM.repaired("catalog", ""), orphan])
    assert (found.blobs, found.size_bytes) == (3, 300)
    assert (found.wrong, found.repaired, found.lost) == (2, 1, 1)
    assert parse_pass(found.to_text()) == found
    assert parse_pass(None) is parse_pass("no json") is parse_pass('{"other": 1}') is None


@pytest.mark.parametrize(
    ("last", "oldest", "due"),
    [
        (None, None, None),  # there are no blobs
        (None, 99 * DAY, None),
        (None, 69 * DAY, ScrubPass(100 * DAY)),
        (None, 101 * DAY, ScrubPass(100 * DAY)),  # the clock was wrong
        (ScrubPass(90 * DAY), 95 * DAY, ScrubPass(90 * DAY)),  # to be gone on with
        (ScrubPass(101 * DAY), 95 * DAY, ScrubPass(100 * DAY)),
        (ScrubPass(90 * DAY, ended_at=91 * DAY), 0.0, None),  # what it could not verify waits
        (ScrubPass(60 * DAY, ended_at=61 * DAY), 60 * DAY, ScrubPass(100 * DAY)),
        (ScrubPass(90 * DAY, by="verify"), 99 * DAY, None),  # it was interrupted
        (ScrubPass(90 * DAY, by="verify"), 60 * DAY, ScrubPass(100 * DAY)),
    ],
)
def test_a_pass_is_due_when_a_blob_was_not_looked_at_for_a_period(last, oldest, due):
    assert next_pass(last, oldest, 100 * DAY, 30 * DAY) == due
    assert next_pass(last, oldest, 100 * DAY, 0.0) is None


def test_no_more_bytes_go_than_the_rate_allows():
    pace = Pace(100)
    assert pace.wait_seconds(50, 10.0) == pytest.approx(0.5)
    assert pace.wait_seconds(50, 10.0) == pytest.approx(1.0)
    assert pace.wait_seconds(50, 60.0) == pytest.approx(0.5)  # nothing is made up for
    assert Pace(0).wait_seconds(1 << 40, 1.0) == 0.0
