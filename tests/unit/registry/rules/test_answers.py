import json

from airside.registry.rules.answers import problem, with_reason

ABSENT = problem(404, "MANIFEST_UNKNOWN", "app has no manifest v1", {"tag": "v1"})


def test_a_404_says_also_why_no_upstream_helped():
    answer = with_reason(ABSENT, "docker.io is away")
    (error,) = json.loads(answer.body)["errors"]
    assert answer.status == 404
    assert error == {
        "code": "MANIFEST_UNKNOWN",
        "message": "app has no manifest v1; docker.io is away",
        "detail": {"tag": "v1"},
    }


def test_a_404_without_a_reason_stays_as_it_is():
    assert with_reason(ABSENT, "") is ABSENT
