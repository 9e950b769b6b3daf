"""Fault points: fire once, at the pass that was asked for."""

import errno
import os
import re
import signal
from pathlib import Path

import pytest

import airside
from airside.core import failpoints as faults
from airside.core.errors import StoreError
from airside.core.failpoints import EARLY, POINTS, PUBLISHING, PUSHING, SCRUBBING, arm, fault


@pytest.fixture(autouse=True)
def _disarmed():
    yield
    arm(None)


def test_nothing_happens_while_nothing_is_armed():
    for point in POINTS:
        fault(point)


def test_a_fault_fires_once_and_at_its_point_only():
    arm("store.after_rename=error")
    fault("store.before_sync")
    with pytest.raises(StoreError, match=r"store\.after_rename"):
        fault("store.after_rename")
    fault("store.after_rename")


def test_a_fault_fires_at_the_pass_that_was_asked_for():
    arm("ingest.after_write=error@3")
    fault("ingest.after_write")
    fault("ingest.after_write")
    with pytest.raises(StoreError):
        fault("ingest.after_write")


@pytest.mark.parametrize(
    ("action", "number"), [("oserror", errno.EIO), ("oserror:ENOSPC", errno.ENOSPC)]
)
def test_the_disk_may_fail(action, number):
    arm(f"catalog.in_import={action}")
    with pytest.raises(OSError, match=r"catalog\.in_import") as caught:
        fault("catalog.in_import")
    assert caught.value.errno == number


def test_a_kill_is_a_kill(monkeypatch):
    killed = []
    monkeypatch.setattr(os, "kill", lambda *args: killed.append(args))
    arm("import.after_commit=kill")
    with pytest.raises(StoreError):  # where the signal does not end us
        fault("import.after_commit")
    assert killed == [(os.getpid(), signal.SIGKILL)]


@pytest.mark.parametrize(
    "spec", ["x", "nowhere=kill", "store.after_rename", "store.after_rename=explode",
             "store.after_rename=kill@x"]
)  # fmt: skip
def test_an_unknown_fault_is_refused(spec):
    with pytest.raises(ValueError, match=r"\S"):
        arm(spec)


def test_a_fault_that_was_disarmed_meanwhile_does_not_fire():
    faults._fire("store.after_rename")


def test_points_are_those_of_the_code():
    source = Path(airside.__file__).parent
    found = {
        point
        for path in source.rglob("*.py")
        for point in re.findall(r'\bfault\("([a-z_.]+)"\)', path.read_text(encoding="utf-8"))
    }
    assert found == {*POINTS, *PUSHING, *PUBLISHING, *EARLY, *SCRUBBING}
