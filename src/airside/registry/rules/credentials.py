"""What a client shows: the Authorization header, scopes, signed sessions, challenges. Pure.

Three things are shown: a password (`Basic`), a token of the access file (`Bearer`, or as the
password of `Basic`, which is what `docker login` can send), and a session: a token that `/token`
signs for a few minutes (distribution spec, "Token Authentication"). A session says who asks and
for which scopes; what they may do is looked up when it is used, so that a change counts at once.
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
"""What tokens of the access file begin with, so that scanners for secrets find them."""
SESSION_PREFIX = "airsession."
SESSION_SECONDS = 300
REALM = "airside"

_MAX_HEADER = 8192
_MAX_SCOPES = 32
_SCOPE = re.compile(r"([a-z]+):([^\s\"\\]{1,600}):([a-z*]+(?:,[a-z*]+)*)\Z")


@dataclass(frozen=True, slots=True)
class Password:
    """`secret` is in no text form: it must not get into a log."""

    user: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bearer:
    secret: str = field(repr=False)


def parse_authorization(header: str) -> Password | Bearer | None:
    """What the header shows; None: nothing. Raises ValueError where it can't be read.

    An empty user with an empty password is nobody: skopeo sends that without credentials.
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
        raise ValueError("the Authorization header is not what Basic has") from exc
    if not colon:
        raise ValueError("the Authorization header has no password")
    if not user and not secret:
        return None
    return Bearer(secret) if secret.startswith(TOKEN_PREFIX) else Password(user, secret)


def fingerprint(secret: str) -> str:
    """By what a token is kept: it is random and long, so that a plain hash tells nothing of it."""
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
    """The scopes of `scope=` parameters, each with one or several. Raises ValueError."""
    found: list[Scope] = []
    for text in " ".join(texts).split():
        match = _SCOPE.match(text)
        if match is None or len(found) == _MAX_SCOPES:
            raise ValueError(f"not a scope, or one too many: {text[:100]!r}")
        # `repository(plugin):` and the like are of Docker and match no request
        found.append(Scope(match[1], match[2], tuple(match[3].split(","))))
    return tuple(found)


def scopes_of(requirement: Requirement) -> tuple[Scope, ...]:
    """What a session must have for a request."""
    if isinstance(requirement, ListCatalog):
        return (CATALOG,)
    if not isinstance(requirement, tuple):
        return ()
    return tuple(
        Scope("repository", need.name.text, _with_pull(need.action)) for need in requirement
    )


def _with_pull(action: Action) -> tuple[str, ...]:
    """Whoever pushes also looks what is there: one session for both."""
    return ("pull", "push") if action == "push" else (action,)


def covers(scopes: Iterable[Scope], requirement: Requirement) -> bool:
    """Whether a session with these scopes is good for a request."""
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
    """Whether a session may read a repository, by one of the names that it has in URLs."""
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
    """Who asks, how they proved it, and for what, until when (seconds since 1970).

    `stamp` fits as long as what they proved it with is unchanged.
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
    """The session, unless somebody else signed it or its time is over."""
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
    """Stands in a session for what is kept of a password or token."""
    return hmac.new(key, b"stamp " + stored.encode(), hashlib.sha256).hexdigest()[:32]


# --- challenges


def basic_challenge() -> str:
    return f'Basic realm="{REALM}"'


def bearer_challenge(url: str, scopes: Iterable[Scope] = (), *, error: str = "") -> str:
    """RFC 6750, 3, with the realm of the distribution spec's token authentication."""
    parts = [f'realm="{url}/token"', f'service="{REALM}"']
    text = " ".join(map(str, scopes))
    parts += [f'scope="{text}"'] if text else []
    parts += [f'error="{error}"'] if error else []
    return f"Bearer {','.join(parts)}"
