from string import Formatter

import pytest

from airside.diagnostics.verdict import SENTENCES, SINGULAR, verdict_of

WELL = {
    "running": True,
    "silent": "",
    "pid": 7,
    "images": 3,
    "archives": {"imported": 2, "ignored": 1},
    "blobs_quarantined": 0,
    "blobs_lost": 0,
    "unpublished": {"count": 0, "items": []},
    "lost_records": None,
    "space": {"free_bytes": 10**10, "min_free_bytes": 10**8, "low": False},
    "runtimes": [{"socket": "/run/c.sock", "connected": True, "reason": ""}],
    "directories": [{"path": "/images", "mode": "inotify", "reason": ""}],
    "activity": {
        "idle": True,
        "settling": 0,
        "queued": 0,
        "importing": 0,
        "indexing": 0,
        "publishing": 0,
    },
}
LACKING = {
    "reference": "a:1",
    "socket": "/run/c.sock",
    "state": "failed",
    "reason": "no space",
    "next_try_at": None,
}
WRONG = [
    ("stopped", {"running": False}),
    ("silent", {"running": True, "silent": "time-out"}),
    ("lost-records", {"lost_records": {"reason": "damaged", "names": 4}}),
    ("bad-blobs", {"blobs_lost": 1}),
    ("no-disk", {"space": None, "data": "/d"}),
    ("full", {"space": {"free_bytes": 1, "min_free_bytes": 2, "low": True}}),
    ("low-space", {"space": {"free_bytes": 3, "min_free_bytes": 2, "low": True}}),
    ("runtime-away", {"runtimes": [{"socket": "s", "connected": False, "reason": "refused"}]}),
    (
        "other-agent",
        {
            "runtimes": [
                {"socket": "s", "connected": True, "reason": "x", "other_agent": {"pid": 1}}
            ]
        },
    ),
    ("streams", {"runtimes": [{"socket": "s", "connected": True, "streams_because": "no link"}]}),
    ("archives", {"archives": {"imported": 1, "rejected": 1}}),
    ("archives", {"archives": {"incomplete": 1}}),
    ("unpublished", {"unpublished": {"count": 1, "items": [LACKING]}}),
    ("unreadable", {"directories": [{"path": "/i", "mode": "unreadable", "reason": "EACCES"}]}),
    ("absent", {"directories": [{"path": "/i", "mode": "absent", "reason": "no such"}]}),
    ("no-fallback", {"fallback": {"state": "failed", "pid": None, "reason": "exit code 2"}}),
]


def test_all_is_well_where_nothing_is_wrong():
    found = verdict_of(WELL)
    assert found.is_well
    assert found.sentence == "All is well: 3 images can be pulled"


def test_work_under_way_is_well():
    found = verdict_of(WELL | {"activity": WELL["activity"] | {"idle": False, "importing": 2}})
    assert found.is_well
    assert "2 importing" in found.sentence


def test_an_empty_node_says_where_to_drop_an_archive():
    assert "/images" in verdict_of(WELL | {"images": 0}).sentence


@pytest.mark.parametrize(("code", "wrong"), WRONG, ids=lambda each: str(each)[:20])
def test_what_is_wrong_is_said_with_what_to_do(code, wrong):
    found = verdict_of(WELL | wrong)
    assert found.first.code == code
    assert not found.is_well
    assert found.first.found
    assert found.first.advice


def test_an_image_that_pods_want_and_nobody_has_is_a_problem():
    item = {"reference": "docker.io/library/a:1", "because": "pod"}
    found = verdict_of(WELL | {"missing": {"count": 1, "items": [item]}})
    assert not found.is_well
    assert "docker.io/library/a:1" in found.sentence


def test_a_problem_comes_before_a_warning():
    low = {"space": {"free_bytes": 3, "min_free_bytes": 2, "low": True}}
    found = verdict_of(WELL | low | {"archives": {"rejected": 1}})
    assert [found.first.code, *(each.code for each in found.others)] == ["archives", "low-space"]
    assert "(and 1 more)" in found.sentence


def test_the_report_has_every_concern():
    found = verdict_of(WELL | {"blobs_lost": 2, "archives": {"rejected": 1}}).report()
    assert found["well"] is False
    assert [each["code"] for each in found["items"]] == ["bad-blobs", "archives"]


def test_names_with_braces_stay_as_they_are():
    runtime = {"socket": "{x}", "connected": False, "reason": "{0}"}
    assert "{x}" in verdict_of(WELL | {"runtimes": [runtime]}).sentence


def test_advice_uses_only_values_of_its_finding():
    for code, (found, advice) in SENTENCES.items():
        names = {name for _, name, _, _ in Formatter().parse(advice) if name}
        known = {name for _, name, _, _ in Formatter().parse(found) if name}
        assert names <= known | {"path"}, code


def test_one_of_a_kind_is_told_in_the_singular():
    well = WELL | {"images": 1}
    assert verdict_of(well).first.found == "All is well: 1 image can be pulled"
    for code, wrong in WRONG:
        if code in SINGULAR:
            found = verdict_of(WELL | wrong).first
            is_one = "1" in (found.values.get(key) for key in ("count", "names"))
            assert is_one == (found.found == SINGULAR[code].format(**found.values)), code
    assert set(SINGULAR) <= set(SENTENCES)


def test_removed_archives_are_not_counted():
    found = verdict_of(WELL | {"archives": {"imported": 1, "removed": 5, "rejected": 1}})
    assert found.first.found.startswith("1 archive of 2 ")
