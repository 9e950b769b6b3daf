"""Credentials of clients: the Authorization header, scopes, signed sessions, challenges. Pure.

A client presents a password (`Basic`), a token of the access file (`Bearer`, or as the password of
`Basic`, which `docker login` can send), or a session: a token that `/token` signs for a few minutes
(distribution spec, "Token Authentication"). A session names its client and scopes; the rights are
looked up at each use, so that a change of rules takes effect at once.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from airside.oci.reference import Repository
from airside.registry.rules.access import Action, Need, Requirement
from airside.registry.rules.names import name_in_url
from airside.registry.rules.requests import ListCatalog

AuthMethod: TypeAlias = Literal["anonymous", "password", "token", "certificate"]

TOKEN_PREFIX = "airside_"  # noqa: S105 - the part that is no secret
"""Prefix of tokens of the access file, by which secret scanners find them."""
SESSION_PREFIX = "airsession."
SESSION_SECONDS = 300
REALM = "airside"

_MAX_HEADER = 8192
_MAX_SCOPES = 32
_SCOPE = re.compile(r"([a-z]+):([^\s\"\\]{1,600}):([a-z*]+(?:,[a-z*]+)*)\Z")


@dataclass(frozen=True, slots=True)
class Password:
    """User and password. `repr` omits the secret, so that it does not get into a log."""

    user: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bearer:
    secret: str = field(repr=False)


def parse_authorization(header: str) -> Password | Bearer | None:
    """Parses the header; None if it has no credentials. Raises ValueError if it is malformed.

    An empty user with an empty password counts as none: skopeo sends that without credentials.
    """
    if not header.strip():
        return None
    if len(header) > _MAX_HEADER:
        raise ValueError("the Authorization header is too long")
    kind, _, value = header.strip().partition(" ")
    value = value.strip()
    if kind.lower() == "bearer" and value:
        return Bearer(value)
    if kind.lower() != "basic":
        raise ValueError("the Authorization header is neither Basic nor Bearer")
    try:
        user, colon, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise ValueError(
            "the Basic credentials of the Authorization header are not base64 of UTF-8"
        ) from exc
    if not colon:
        raise ValueError("the Authorization header has no password")
    if not user and not secret:
        return None
    return Bearer(secret) if secret.startswith(TOKEN_PREFIX) else Password(user, secret)


def fingerprint(secret: str) -> str:
    """The SHA-256 under which a token is stored; a plain hash is safe for long random secrets."""
    return hashlib.sha256(secret.encode()).hexdigest()


# --- scopes


@dataclass(frozen=True, slots=True)
class Scope:
    """`repository:<name in URLs>:pull,push`, or `registry:catalog:*`."""

    kind: str
    name: str
    actions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}:{','.join(self.actions)}"


CATALOG = Scope("registry", "catalog", ("*",))


def parse_scopes(texts: Iterable[str]) -> tuple[Scope, ...]:
    """Parses `scope=` parameters, each with one or several scopes. Raises ValueError."""
    found: list[Scope] = []
    for text in " ".join(texts).split():
        match = _SCOPE.match(text)
        if match is None or len(found) == _MAX_SCOPES:
            raise ValueError(f"invalid scope, or more than {_MAX_SCOPES} scopes: {text[:100]!r}")
        # Docker's `repository(plugin):` and the like match no request
        found.append(Scope(match[1], match[2], tuple(match[3].split(","))))
    return tuple(found)


def scopes_of(requirement: Requirement) -> tuple[Scope, ...]:
    """The scopes that a session needs for a request."""
    if isinstance(requirement, ListCatalog):
        return (CATALOG,)
    if not isinstance(requirement, tuple):
        return ()
    return tuple(
        Scope("repository", need.name.text, _with_pull(need.action)) for need in requirement
    )


def _with_pull(action: Action) -> tuple[str, ...]:
    """A client that pushes also checks which blobs exist: one session serves both."""
    return ("pull", "push") if action == "push" else (action,)


def covers(scopes: Iterable[Scope], requirement: Requirement) -> bool:
    """Returns True if the scopes of a session suffice for a request."""
    scopes = tuple(scopes)
    if isinstance(requirement, ListCatalog):
        return any((s.kind, s.name) == ("registry", "catalog") for s in scopes)
    return not isinstance(requirement, tuple) or all(_covers(scopes, need) for need in requirement)


def _covers(scopes: tuple[Scope, ...], need: Need) -> bool:
    return any(
        scope.kind == "repository"
        and scope.name == need.name.text
        and not {need.action, "*"}.isdisjoint(scope.actions)
        for scope in scopes
    )


def reads_from(scopes: Iterable[Scope], repository: Repository) -> bool:
    """Returns True if the scopes allow to pull a repository under one of its names in URLs."""
    names = {repository.path, name_in_url(repository)}
    return any(
        scope.kind == "repository"
        and scope.name in names
        and not {"pull", "*"}.isdisjoint(scope.actions)
        for scope in scopes
    )


# --- sessions


@dataclass(frozen=True, slots=True)
class Session:
    """A client, its method of login, its scopes, and the expiry (seconds since 1970).

    `stamp` becomes invalid when the password or token of the login changes.
    """

    how: AuthMethod
    name: str
    stamp: str
    until: int
    scopes: tuple[Scope, ...]


def sign(key: bytes, session: Session) -> str:
    value = [
        *(session.how, session.name, session.stamp, session.until),
        [str(scope) for scope in session.scopes],
    ]
    body = base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode())
    return f"{SESSION_PREFIX}{body.decode()}.{_signature(key, body)}"


def open_session(key: bytes, text: str, now: float) -> Session | None:
    """The session; None if its signature is wrong or it has expired."""
    body, _, signature = text.removeprefix(SESSION_PREFIX).rpartition(".")
    raw = body.encode("utf-8", "replace")
    expected = _signature(key, raw)
    if not hmac.compare_digest(expected, signature.encode("ascii", "replace").decode()):
        return None
    how, name, stamp, until, scopes = json.loads(base64.urlsafe_b64decode(raw))
    if now >= until:
        return None
    return Session(how, name, stamp, until, parse_scopes(scopes))


def _signature(key: bytes, body: bytes) -> str:
    return hmac.new(key, body, hashlib.sha256).hexdigest()


def stamp_of(key: bytes, stored: str) -> str:
    """A keyed hash of a stored password or token, for sessions."""
    return hmac.new(key, b"stamp " + stored.encode(), hashlib.sha256).hexdigest()[:32]


# --- challenges


def basic_challenge() -> str:
    return f'Basic realm="{REALM}"'


def bearer_challenge(url: str, scopes: Iterable[Scope] = (), *, error: str = "") -> str:
    """A Bearer challenge (RFC 6750, 3), as the distribution spec's token authentication has it."""
    parts = [f'realm="{url}/token"', f'service="{REALM}"']
    text = " ".join(map(str, scopes))
    parts += [f'scope="{text}"'] if text else []
    parts += [f'error="{error}"'] if error else []
    return f"Bearer {','.join(parts)}"
