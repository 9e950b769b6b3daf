"""Accounts: users with passwords, tokens, and their rules, parsed from two files. Pure.

- The htpasswd file: `user:bcrypt` per line. Other hashes are refused: they can be cracked.
- The access file (TOML): `[users.NAME]`, `[tokens.NAME]` and `[anonymous]`, each with `rules`.

A user has the rules under its name, else those of `[users."*"]`, else none. Without an access file
users have all rights. Any error in a file is a ConfigError that says where; then nothing of the
file is used. No message contains a hash or a secret.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

from airside.core.errors import ConfigError
from airside.oci.patterns import is_pattern
from airside.registry.rules.access import ACTIONS, Action, Rights, Rule, rights_to

Anonymous: TypeAlias = Literal["auto", "pull", "none"]

MAX_COST = 14
"""Highest bcrypt cost, as a power of two: with it a check takes about a second."""

_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_NAME = re.compile(r"[^\x00-\x1f\x7f:]{1,128}\Z")
_TOKEN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_EVERYTHING = rights_to(*ACTIONS)
_NO_USERS_COST = 10
_DECOY_SALT = "A" * 21 + "."
_DECOY_HASH = "." * 31


def cost_of(stored: str) -> int:
    """The bcrypt cost of a hash, as a power of two."""
    return int(stored.split("$")[2])


def decoy_of(cost: int) -> str:
    """A hash of this cost that no password matches."""
    return f"$2b${cost:02d}${_DECOY_SALT}{_DECOY_HASH}"


@dataclass(frozen=True, slots=True)
class Token:
    """A token of the access file. `expires` in seconds since 1970; None: never."""

    name: str
    sha256: str = field(repr=False)
    rights: Rights
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Accounts:
    """All accounts and their rights. `users`: name → bcrypt; `tokens` by their SHA-256."""

    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    tokens: Mapping[str, Token] = field(default_factory=dict, repr=False)
    rules: Mapping[str, Rights] | None = None
    anonymous: Rights = Rights()
    certificates: bool = False
    """True if clients may present a certificate."""

    @property
    def any_login(self) -> bool:
        """True if clients can log in in any way."""
        return bool(self.users or self.tokens or self.certificates)

    @property
    def by_challenge(self) -> bool:
        """True if a client can answer a challenge: with a password or a token."""
        return bool(self.users or self.tokens)

    def rights_of(self, user: str) -> Rights:
        if self.rules is None:
            return _EVERYTHING
        return self.rules.get(user, self.rules.get("*", Rights()))

    @property
    def cost(self) -> int:
        """The highest bcrypt cost of a user, which every failed login takes."""
        return max(map(cost_of, self.users.values()), default=_NO_USERS_COST)


@dataclass(frozen=True, slots=True)
class Rules:
    """The content of the access file."""

    users: Mapping[str, Rights]
    tokens: Mapping[str, Token]
    anonymous: Rights | None


def accounts_of(
    htpasswd: Mapping[str, str] | None,
    rules: Rules | None,
    *,
    anonymous: Anonymous,
    certificates: bool,
    is_loopback: bool,
) -> Accounts:
    """Joins both files and the settings. None: the file is not configured.

    `anonymous`: `auto` is the rights of the access file; if nobody can log in, pulling, or all
    rights on a loopback address.
    """
    found = Accounts(
        htpasswd or {},
        rules.tokens if rules else {},
        rules.users if rules else None,
        certificates=certificates,
    )
    is_open = htpasswd is None and rules is None and not certificates
    configured = (rules.anonymous if rules else None) or Rights()
    everybody = configured
    if anonymous == "none":
        everybody = Rights()
    elif anonymous == "pull":
        everybody = Rights((*rights_to("pull").rules, *configured.rules))
    elif is_open:
        everybody = _EVERYTHING if is_loopback else rights_to("pull")
    return Accounts(found.users, found.tokens, found.rules, everybody, certificates)


def parse_htpasswd(text: str) -> Mapping[str, str]:
    """Parses the htpasswd file into user → bcrypt. Raises ConfigError."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        user, colon, stored = line.strip().partition(":")
        match = _BCRYPT.match(stored)
        if not colon or not _NAME.match(user):
            raise ConfigError(f"line {number} is not USER:HASH")
        if match is None:
            raise ConfigError(
                f"line {number}: the hash of {user} is not bcrypt; make it with "
                "`airside password` or `htpasswd -B`"
            )
        if not 4 <= int(match[1]) <= MAX_COST:
            raise ConfigError(f"line {number}: the bcrypt cost of {user} is not 4 to {MAX_COST}")
        if user in found:
            raise ConfigError(f"line {number}: {user} appears twice")
        found[user] = stored
    return found


def parse_rules(text: str) -> Rules:
    """Parses the access file. Raises ConfigError."""
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"the file is not valid TOML: {exc}") from exc
    _only(value, {"users", "tokens", "anonymous"}, "the file")
    users = {
        name: _rights(_table(table, f"users.{name}"), f"users.{name}", set())
        for name, table in _table(value.get("users", {}), "users").items()
    }
    tokens: dict[str, Token] = {}
    for name, table in _table(value.get("tokens", {}), "tokens").items():
        token = _token(name, _table(table, f"tokens.{name}"))
        if token.sha256 in tokens:
            raise ConfigError(f"tokens.{name} is the same as tokens.{tokens[token.sha256].name}")
        tokens[token.sha256] = token
    anonymous = value.get("anonymous")
    where = "anonymous"
    rights = None if anonymous is None else _rights(_table(anonymous, where), where, set())
    return Rules(users, tokens, rights)


def _token(name: str, table: Mapping[str, Any]) -> Token:
    where = f"tokens.{name}"
    if not _TOKEN_NAME.match(name):
        raise ConfigError(f"{where}: a token's name may have letters, digits, dots, - and _ only")
    stored = table.get("sha256")
    if not isinstance(stored, str) or not _SHA256.match(stored):
        raise ConfigError(f"{where}.sha256 must be 64 hexadecimal digits")
    expires = table.get("expires")
    if expires is not None and getattr(expires, "tzinfo", None) is None:
        raise ConfigError(f"{where}.expires must be a time with a zone: 2030-01-31T00:00:00Z")
    rights = _rights(table, where, {"sha256", "expires"})
    return Token(name, stored, rights, None if expires is None else float(expires.timestamp()))


def _rights(table: Mapping[str, Any], where: str, others: set[str]) -> Rights:
    _only(table, {"rules", *others}, where)
    rules = table.get("rules")
    if not isinstance(rules, list):
        raise ConfigError(f"{where} needs a list rules = [{{repositories = [], actions = []}}]")
    return Rights(tuple(_rule(each, f"{where}.rules") for each in rules))


def _rule(value: Any, where: str) -> Rule:
    table = _table(value, where)
    _only(table, {"repositories", "actions"}, where)
    repositories, actions = (_texts(table.get(k), f"{where}.{k}") for k in _RULE)
    for pattern in repositories:
        if not is_pattern(pattern):
            raise ConfigError(
                f"{where}: {pattern!r} is not a pattern of full names, such as host/team/**"
            )
    for action in actions:
        if action not in ACTIONS:
            raise ConfigError(f"{where}: {action!r} is not one of {', '.join(ACTIONS)}")
    return Rule(repositories, frozenset(cast("tuple[Action, ...]", actions)))


_RULE = ("repositories", "actions")


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise ConfigError(f"{where} must be a list of strings")
    return tuple(value)


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where} must be a table")
    return value


def _only(table: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise ConfigError(f"{where}: unknown key: {', '.join(unknown)}")
