import hashlib
import json
import stat

import pytest

from airside.cli.main import main
from airside.registry.rules.accounts import parse_rules


def ask(capsys, *words):
    code = main([str(word) for word in words])
    out = capsys.readouterr().out
    return code, json.loads(out)


def test_a_token_is_shown_once_and_kept_as_its_hash(tmp_path, capsys):
    path = tmp_path / "access.toml"
    path.write_text("# ours\n[users.ann]\nrules = []\n")
    path.chmod(0o600)
    words = ("token", "new", "ci", "--repositories", "a/**", "--repositories", "b.example:1/*")
    code, found = ask(
        capsys, *words, "--actions", "pull,push", "--days", 9, "--file", path, "--json"
    )
    assert (code, found["file"]) == (0, str(path))
    text = path.read_text()
    assert found["token"] not in text
    assert text.startswith("# ours\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = parse_rules(text).tokens[hashlib.sha256(found["token"].encode()).hexdigest()]
    assert token.name == "ci"
    assert token.rights.rules[0].repositories == ("a/**", "b.example:1/*")
    assert token.rights.rules[0].actions == {"pull", "push"}
    assert token.expires is not None
    code, found = ask(capsys, *words, "--file", path, "--json")
    assert (code, found["error"]["code"]) == (2, "config")
    assert path.read_text() == text
    assert [each.name for each in tmp_path.iterdir()] == ["access.toml"]


def test_without_a_file_the_lines_are_printed(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("AIRSIDE_ACCESS", raising=False)
    code, found = ask(capsys, "token", "new", "ci", "--repositories", "**", "--json")
    assert (code, found["file"]) == (0, None)
    assert len(parse_rules(found["lines"]).tokens) == 1
    monkeypatch.setenv("AIRSIDE_ACCESS", str(tmp_path / "access.toml"))
    assert main(["token", "new", "ci", "--repositories", "**"]) == 0
    printed = capsys.readouterr().out.strip()
    kept = parse_rules((tmp_path / "access.toml").read_text()).tokens
    assert list(kept) == [hashlib.sha256(printed.encode()).hexdigest()]


@pytest.mark.parametrize(
    "words",
    [
        ("ci", "--repositories", "a b"),
        ("ci", "--repositories", "**", "--actions", "all"),
        ("a b", "--repositories", "**"),
        ('a"]', "--repositories", "**"),
        ("ci",),
    ],
)
def test_wrong_tokens_are_refused(words):
    assert main(["token", "new", *words]) == 2
