import pytest
from checks import __main__ as checks


@pytest.fixture
def pending(monkeypatch, tmp_path):
    path = tmp_path / "pending.txt"
    monkeypatch.setattr(checks, "PENDING", path)
    monkeypatch.setattr(
        checks, "CHECKS", {"good": lambda _: [], "bad": lambda _: ["a.py: old", "b.py: new"]}
    )
    return path


@pytest.mark.usefixtures("pending")
def test_the_exit_code_says_if_a_check_found_a_problem(capsys):
    assert checks.main(["good"]) == 0
    assert checks.main([]) == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "bad: a.py: old",
        "bad: b.py: new",
        "bad: 2 problems",
    ]


def test_what_is_pending_does_not_count(pending, capsys):
    pending.write_text("bad: a.py\n")
    assert checks.main(["bad"]) == 1
    assert capsys.readouterr().out == "bad: b.py: new\nbad: 1 problems, 1 pending\n"
    pending.write_text("bad: a.py\nbad: b.py\n")
    assert checks.main(["bad"]) == 0


@pytest.mark.usefixtures("pending")
def test_an_unknown_check_is_a_usage_error():
    assert checks.main(["worse"]) == 2
