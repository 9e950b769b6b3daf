import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SPEC = importlib.util.spec_from_file_location("check_commits", ROOT / "scripts/check-commits.py")
assert SPEC is not None
assert SPEC.loader is not None
commits = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(commits)

NAMES = frozenset({"store", "catalog", "all", "docs"})
BODY = "\n\nBlobs that nobody holds were hashed twice: 3 s less per pass.\n"


@pytest.mark.parametrize(
    "subject",
    [
        "store: delete unused blobs",
        "store, catalog: name the classes after their modules",
        "docs: ADR 0025, twelve rooms",
        "all: " + "x" * 67,
    ],
)
def test_a_message_of_the_form_has_no_problem(subject):
    assert commits.problems(subject + BODY, NAMES) == []


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("all: " + "x" * 68 + BODY, "the subject has 73 characters, at most 72"),
        ("store: delete unused blobs." + BODY, "the subject ends in a full stop"),
        ("delete unused blobs" + BODY, "form"),
        ("Store: delete unused blobs" + BODY, "form"),
        ("store:delete unused blobs" + BODY, "form"),
        ("store: Delete unused blobs" + BODY, "capital"),
        ("shop: delete unused blobs" + BODY, "shop is neither a package nor"),
        ("store: delete unused blobs", "there is no body"),
        ("store: delete unused blobs\n\n  \n", "there is no body"),
        ("store: delete unused blobs\nsince nobody reads them", "no empty line"),
        ("store: wip delete" + BODY, "unfinished"),
        ("store: delete unused blobs\n\nWIP: not tested", "unfinished"),
    ],
)
def test_what_breaks_the_form_is_said(message, problem):
    (found,) = commits.problems(message, NAMES)
    assert problem in found


def test_a_fixup_is_unfinished():
    assert any("unfinished" in p for p in commits.problems("fixup! store: delete" + BODY, NAMES))


def test_comments_and_the_diff_of_an_editor_are_no_part_of_the_message(tmp_path, capsys):
    path = tmp_path / "COMMIT_EDITMSG"
    comment = f"# Please enter the commit message\n{commits._SCISSORS}\ndiff --git a/x b/x\n"
    path.write_text(f"store: delete unused blobs\n\n{comment}")
    assert commits.main([str(path)]) == 1
    assert capsys.readouterr().out == (
        "'store: delete unused blobs': there is no body: say why, and what was measured\n"
    )
    path.write_text(f"store: delete unused blobs{BODY}{comment}")
    assert commits.main([str(path)]) == 0


def test_commits_since_a_base_are_judged_without_merges(tmp_path, capsys):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        run = subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return run.stdout.strip()

    def commit(message):
        git("commit", "--allow-empty", "-m", message)

    git("init", "-b", "main")
    (tmp_path / "src/airside/store").mkdir(parents=True)
    (tmp_path / "src/airside/store/__init__.py").touch()
    commit("an old one")
    base = git("rev-parse", "HEAD")
    git("checkout", "-b", "side")
    commit("store: delete unused blobs" + BODY)
    git("checkout", "main")
    git("merge", "--no-ff", "-m", "Merge the side", "side")
    assert commits.main(["--since", base], tmp_path) == 0
    commit("shop: sell blobs" + BODY)
    commit("store: delete more blobs")
    assert commits.main(["--since", base], tmp_path) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("'shop: sell blobs': shop is neither")
    assert second.startswith("'store: delete more blobs': there is no body")


def test_packages_of_whatever_depth_may_be_named():
    assert commits.rooms(ROOT) >= {"store", "containerd", "doctor"}


def test_the_hooks_before_a_commit_fetch_nothing():
    config = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"- repo: (.*)", config) == ["local"]
    assert set(re.findall(r"language: (.*)", config)) == {"system"}
