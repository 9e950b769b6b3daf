import io
import json

import pytest

from airside.cli.main import main
from airside.registry.auth.login import check_password
from airside.registry.rules.accounts import parse_htpasswd


def ask(capsys, *words):
    code = main([str(word) for word in words])
    out = capsys.readouterr().out
    return code, json.loads(out)


def give(monkeypatch, text):
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_a_password_is_added_and_replaced(tmp_path, capsys, monkeypatch):
    path = tmp_path / "htpasswd"
    for secret in ("first", "second"):
        for user in ("ann", "bob"):
            give(monkeypatch, f"{secret}\n")
            assert main(["password", user, "--file", str(path)]) == 0
    users = parse_htpasswd(path.read_text())
    assert set(users) == {"ann", "bob"}
    assert check_password("second", users["ann"])
    assert not check_password("first", users["bob"])
    give(monkeypatch, "third")
    capsys.readouterr()
    code, found = ask(capsys, "password", "eve", "--json")
    assert code == 0
    assert check_password("third", parse_htpasswd(found["line"])["eve"])
    assert "third" not in found["line"]


@pytest.mark.parametrize("secret", ["", "x" * 73, "airside_x", "a\0b"])
def test_passwords_that_cannot_be_kept_are_refused(secret, monkeypatch):
    give(monkeypatch, secret)
    assert main(["password", "ann"]) == 2


def test_a_broken_file_is_left_as_it_is(tmp_path, monkeypatch):
    path = tmp_path / "htpasswd"
    path.write_text("ann:plain\n")
    give(monkeypatch, "secret")
    assert main(["password", "bob", "--file", str(path)]) == 2
    assert path.read_text() == "ann:plain\n"
    give(monkeypatch, "secret")
    assert main(["password", "bob", "--file", str(tmp_path / "none" / "x")]) == 2
