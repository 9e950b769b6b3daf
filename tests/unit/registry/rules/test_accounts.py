from datetime import UTC, datetime

import bcrypt
import pytest

from airside.core.errors import ConfigError
from airside.oci.reference import Repository
from airside.registry.auth.login import certificate_user, check_password
from airside.registry.rules.access import ACTIONS, rights_to
from airside.registry.rules.accounts import (
    Accounts,
    accounts_of,
    decoy_of,
    parse_htpasswd,
    parse_rules,
)

HASH = "$2b$04$uCYTZoIzLn8yHUuQJ6hgF.FbLT8qkKGC3DhuCjKGDmCKtFyrAVOKC"
SHA256 = "0" * 63 + "a"


def test_passwords_are_read_by_line():
    text = f"# users\n\nann:{HASH}\nbob:{HASH.replace('$2b', '$2y')}\n"
    assert list(parse_htpasswd(text)) == ["ann", "bob"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ann", "line 1"),
        ("ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "not bcrypt"),
        ("ann:$apr1$x$yyyyyyyyyyyyyyyyyyyyyy", "not bcrypt"),
        (f"ann:{HASH}\nann:{HASH}", "line 2"),
        (f"ann:{HASH.replace('$04$', '$15$')}", "cost"),
        (f":{HASH}", "line 1"),
    ],
)
def test_other_hashes_and_broken_lines_are_refused_without_telling_the_hash(text, said):
    with pytest.raises(ConfigError) as refused:
        parse_htpasswd(text)
    assert said in refused.value.message
    assert "5en6" not in refused.value.message


ACCESS = f"""
[users.ann]
rules = [
  {{ repositories = ["registry.example/team/**"], actions = ["pull", "push"] }},
  {{ repositories = ["**"], actions = ["pull"] }},
]
[users."*"]
rules = [{{ repositories = ["docker.io/**"], actions = ["pull"] }}]
[tokens.ci]
sha256 = "{SHA256}"
expires = 2030-01-31T00:00:00Z
rules = [{{ repositories = ["ci/*"], actions = ["push"] }}]
[anonymous]
rules = [{{ repositories = ["public/**"], actions = ["pull"] }}]
"""


def test_rules_of_users_tokens_and_anonymous_clients():
    rules = parse_rules(ACCESS)
    accounts = accounts_of(
        {"ann": HASH}, rules, anonymous="auto", certificates=False, is_loopback=True
    )
    team, public = Repository("registry.example", "team/a"), Repository("", "public/a")
    assert accounts.rights_of("ann").may("push", team)
    assert not accounts.rights_of("ann").may("push", public)
    assert accounts.rights_of("bob").may("pull", Repository("docker.io", "a"))
    assert not accounts.rights_of("bob").may("pull", team)
    token = accounts.tokens[SHA256]
    assert token.expires == datetime(2030, 1, 31, tzinfo=UTC).timestamp()
    assert token.rights.may("push", Repository("", "ci/a"))
    assert accounts.anonymous.may("pull", public)
    assert not accounts.anonymous.may("pull", team)
    for shown in (repr(accounts), repr(token)):
        assert HASH not in shown
        assert SHA256 not in shown


def test_a_user_without_any_rule_may_nothing_and_without_a_file_everything():
    none = accounts_of(
        {"ann": HASH}, parse_rules(""), anonymous="auto", certificates=False, is_loopback=True
    )
    assert none.rights_of("ann").rules == ()
    without = accounts_of(
        {"ann": HASH}, None, anonymous="auto", certificates=False, is_loopback=True
    )
    assert all(without.rights_of("ann").may_everywhere(action) for action in ACTIONS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("users = 1", "users must be a table"),
        ("[user.ann]\nrules = []", "unknown key: user"),
        ("[users.ann]", "users.ann needs a list"),
        ("[users.ann]\nrules = [1]", "must be a table"),
        ("[users.ann]\nrules = [{repositories = ['**'], actions = ['all']}]", "'all'"),
        ("[users.ann]\nrules = [{repositories = ['a**'], actions = ['pull']}]", "'a**'"),
        ("[users.ann]\nrules = [{repositories = [], actions = ['pull']}]", "repositories"),
        ("[users.ann]\nrules = [{repositories = ['a'], actions = 'pull'}]", "actions"),
        ("[tokens.ci]\nrules = []", "tokens.ci.sha256"),
        (f"[tokens.ci]\nrules = []\nsha256 = '{SHA256}'\nexpires = 2030-01-31", "zone"),
        (f"[tokens.'a b']\nrules = []\nsha256 = '{SHA256}'", "name"),
        (
            "".join(f"[tokens.{name}]\nrules = []\nsha256 = '{SHA256}'\n" for name in "ab"),
            "same as tokens.a",
        ),
        ("[users", "TOML"),
    ],
)
def test_a_wrong_access_file_is_refused_as_a_whole(text, said):
    with pytest.raises(ConfigError) as refused:
        parse_rules(text)
    assert said in refused.value.message
    assert SHA256 not in refused.value.message


@pytest.mark.parametrize(
    ("anonymous", "htpasswd", "is_loopback", "expected"),
    [
        ("auto", None, True, rights_to(*ACTIONS)),
        ("auto", None, False, rights_to("pull")),
        ("auto", {"ann": HASH}, True, rights_to()),
        ("pull", {"ann": HASH}, False, rights_to("pull")),
        ("pull", None, True, rights_to("pull")),
        ("none", None, True, rights_to()),
    ],
)
def test_what_anonymous_clients_may(anonymous, htpasswd, is_loopback, expected):
    found = accounts_of(
        htpasswd, None, anonymous=anonymous, certificates=False, is_loopback=is_loopback
    )
    assert found.anonymous == expected


def test_who_can_show_a_certificate_leaves_anonymous_clients_nothing():
    found = accounts_of(None, None, anonymous="auto", certificates=True, is_loopback=True)
    assert found.any_login
    assert not found.by_challenge
    assert found.anonymous.rules == ()


def test_bcrypt_and_the_decoy_that_never_fits():
    kept = bcrypt.hashpw(b"p" * 72, bcrypt.gensalt(4)).decode()
    assert check_password("p" * 72, kept)
    assert check_password("p" * 80, kept)  # as htpasswd cuts it
    assert not check_password("q" * 72, kept)
    assert not check_password("p\0", kept)
    assert Accounts(users={"ann": HASH, "bob": HASH.replace("$04$", "$06$")}).cost == 6
    decoy = decoy_of(Accounts(users={"ann": HASH}).cost)
    assert decoy.startswith("$2b$04$")
    assert not check_password("p", decoy)
    assert bcrypt.hashpw(b"p", decoy.encode()) != decoy.encode()  # it is computed, not refused


def test_the_user_of_a_certificate():
    subject = ((("organizationName", "Team"),), (("commonName", "ann"),))
    assert certificate_user({"subject": subject}) == "ann"
    assert (
        certificate_user({"subject": (), "subjectAltName": (("DNS", "node-1"), ("DNS", "x"))})
        == "node-1"
    )
    assert certificate_user({}) == ""


def test_a_wrong_password_takes_as_long_for_every_user_and_for_none(monkeypatch):
    """bcrypt's work doubles with each cost: it is counted here, not timed."""
    work = []
    real = bcrypt.checkpw

    def counted(data, stored):
        work.append(2 ** int(stored.split(b"$")[2]))
        return real(data, stored)

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    low, middle = HASH, bcrypt.hashpw(b"p", bcrypt.gensalt(6)).decode()
    no_salt = f"$2b$05${'A' * 21}z{'.' * 31}"
    for stored in (low, middle, decoy_of(7), no_salt):
        for secret in ("wrong", "", "with\0nul", "\udcff"):
            work.clear()
            assert not check_password(secret, stored, 7)
            assert sum(work) in {2**7, 2**7 + 2**5}, (stored, secret)
    assert check_password("p", middle, 7)
