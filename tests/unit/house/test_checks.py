import pytest
from checks import __main__ as checks


@pytest.fixture(autouse=True)
def _two_checks(monkeypatch):
    found = ["a.py: old", "b.py: new"]
    monkeypatch.setattr(checks, "CHECKS", {"good": lambda _: [], "bad": lambda _: found})


def test_the_exit_code_says_if_a_check_found_a_problem(capsys):
    assert checks.main(["good"]) == 0
    assert checks.main([]) == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "bad: a.py: old",
        "bad: b.py: new",
        "bad: 2 problems",
    ]


def test_an_unknown_check_is_a_usage_error():
    assert checks.main(["worse"]) == 2
