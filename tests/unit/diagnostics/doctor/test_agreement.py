"""`doctor` and `status` agree: what one says is wrong, the other says too."""

from dataclasses import replace
from pathlib import Path

import pytest

from airside.cli.doctor import _agent_of
from airside.core.settings import Settings
from airside.diagnostics.doctor.facts import Agent, Directory, Facts, Store, Volume
from airside.diagnostics.doctor.judge import judge
from airside.diagnostics.doctor.judge.concerns import MILDER, SAID_BY
from airside.diagnostics.verdict import SENTENCES, verdict_of
from unit.diagnostics.test_verdict import WELL, WRONG

WELL_TOLD = WELL | {"pid": None, "listen": ""}
MISSING = {
    "missing": {"count": 1, "items": [{"reference": "a:1", "because": "pull"}]},
}
CASES = [*WRONG, ("missing", MISSING)]
OF_STATUS = ("agent", "archives", "data.blobs", "data.space", "images.directory")
DISK = Volume("ext4", "/", total_bytes=10**11, free_bytes=5 * 10**10)


def free_bytes(space):
    if space is None or not space["low"]:
        return DISK.free_bytes
    return 0 if space["free_bytes"] < space["min_free_bytes"] else Settings().min_free_bytes + 1


def found_by_doctor(status, verdict):
    if status["silent"]:
        agent = Agent("silent", "time-out")
    elif not status["running"]:
        agent = Agent("absent", concerns=verdict.concerns)
    else:
        agent = _agent_of(status)
    store = Store(
        Path("/data"),
        exists=True,
        writable=True,
        format=1,
        newest_format=1,
        volume=replace(DISK, free_bytes=free_bytes(status["space"])),
        lost=status["blobs_lost"],
    )
    watched = [Path(each["path"]) for each in status["directories"]]
    directories = tuple(
        Directory(path, "visible", is_directory=True, readable=True, writable=True)
        for path in watched
    )
    return [
        each
        for each in judge(Facts(Settings(), agent, store, None, None, directories=directories))
        if each.id.startswith(OF_STATUS)
    ]


def test_the_cases_are_all_that_can_be_wrong():
    assert {code for code, _ in CASES} == set(SENTENCES) - {"busy", "empty", "well"}
    assert set(SAID_BY) == {code for code, _ in CASES}


@pytest.mark.parametrize(("code", "wrong"), CASES, ids=lambda each: str(each)[:20])
def test_what_status_says_is_wrong_the_doctor_says_too(code, wrong):
    status = WELL_TOLD | wrong
    verdict = verdict_of(status)
    severity = MILDER.get(code, verdict.first.severity)
    told = [each for each in found_by_doctor(status, verdict) if each.severity == severity]
    assert told
    assert all(each.advice for each in told)
    assert len(told) == 1, "nothing is told twice"


@pytest.mark.parametrize("wrong", [{}, *(wrong for _, wrong in CASES)], ids=str)
def test_what_the_doctor_says_is_wrong_status_says_too(wrong):
    status = WELL_TOLD | wrong
    verdict = verdict_of(status)
    bad = {
        each.severity
        for each in found_by_doctor(status, verdict)
        if each.severity in {"problem", "warning"}
    }
    said = {MILDER.get(each.code, each.severity) for each in verdict.concerns}
    assert bad == said - {"ok", "busy", "note"}


def test_what_the_catalog_says_without_an_agent_is_told_too():
    status = WELL | {"running": False, "blobs_lost": 1, "archives": {"rejected": 1}}
    found = found_by_doctor(status, verdict_of(status))
    assert [
        (each.id, each.severity) for each in found if each.id in {"data.blobs", "archives"}
    ] == [
        ("data.blobs", "problem"),
        ("archives", "warning"),
    ]
