"""The protocol with an upstream registry: names, credentials, tokens, redirects. Pure.

Always holds: a password is sent only to the registry itself and, encrypted, to the token server
that it names; no secret follows a redirect to another host; no redirect leads from https to http. A
short name (without a registry) that was pushed here is never looked for upstream: an image of the
same name in a public registry must not replace it.
"""

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode, urljoin, urlsplit

from airside.core.errors import UpstreamError
from airside.oci.digest import Digest
from airside.oci.model import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCUMENT_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Document,
    parse_named_document,
)
from airside.oci.reference import Repository
from airside.registry.rules.names import Name, push_target, repository_at

ACCEPT = f"{OCI_INDEX}, {OCI_MANIFEST}, {DOCKER_LIST}, {DOCKER_MANIFEST}"
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 5
UNAVAILABLE = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses of a registry that is not asked again for a while."""

_TOKEN_SECONDS = 60.0  # distribution: "expires_in", its default
_TOKEN_MARGIN_SECONDS = 5.0
_CHALLENGE = re.compile(r"\s*([A-Za-z]+)\s+(.*)\Z", re.DOTALL)
_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user with a password, or a token; all empty: anonymous."""

    username: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of the Authorization header; empty without a user."""
        if not self.username:
            return ""
        return "Basic " + b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Challenge:
    """The challenge in a registry's 401; `scheme` is `basic` or `bearer`."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    """A token; `authorization` is the value of the header, `expires_at` on the caller's clock."""

    authorization: str = field(repr=False)
    expires_at: float

    def is_valid(self, now: float) -> bool:
        return now < self.expires_at


def upstream_repository(name: Name, default_registry: str) -> Repository:
    """The repository that is looked for upstream under a name."""
    target = push_target(name)
    return target if target.host else repository_at(default_registry, name.text)


def is_short(name: Name) -> bool:
    """Returns True if the name has no registry host."""
    return not push_target(name).host


def target_of(url: str, path: str, kind: str, last: str) -> str:
    """The URL of content in a repository; names get the path of the registry's URL as prefix."""
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    name = f"{prefix}/{path}" if prefix else path
    return f"{parts.scheme}://{parts.netloc}/v2/{quote(name)}/{kind}/{quote(last, safe=':')}"


def scope_of(url: str, path: str) -> str:
    prefix = urlsplit(url).path.strip("/")
    return f"repository:{prefix}/{path}:pull" if prefix else f"repository:{path}:pull"


def parse_credentials(table: Mapping[str, object], where: str) -> Credentials:
    """Parses a TOML table: `username` and `password`, or `token`. Raises UpstreamError."""
    known = {"username", "password", "token"}
    texts = {key: value for key, value in table.items() if isinstance(value, str)}
    if set(table) - known or len(texts) != len(table):
        raise UpstreamError(f"{where} may have the strings username, password and token only")
    found = Credentials(**texts)
    if bool(found.token) == bool(found.username):
        raise UpstreamError(f"{where} must have a username with its password, or a token")
    return found


def parse_challenge(header: str) -> Challenge | None:
    """Parses the first supported challenge of a `WWW-Authenticate` (RFC 6750, section 3)."""
    match = _CHALLENGE.match(header)
    if match is None or match[1].lower() not in {"basic", "bearer"}:
        return None
    found = {
        key.lower(): re.sub(r"\\(.)", r"\1", quoted) or plain
        for key, quoted, plain in _PARAMETER.findall(match[2])
    }
    return Challenge(
        match[1].lower(), found.get("realm", ""), found.get("service", ""), found.get("scope", "")
    )


def token_url(challenge: Challenge, scope: str, url: str) -> str:
    """The URL to request a token. Raises UpstreamError for a realm that must get no password."""
    realm = urlsplit(challenge.realm)
    encrypted = realm.scheme == "https" or (
        realm.scheme == "http"
        and (realm.hostname in _LOOPBACK or is_same_origin(challenge.realm, url))
    )
    if not encrypted or not realm.hostname:
        raise UpstreamError(
            f"its token server {challenge.realm[:200]!r} is not asked, as it has no https"
        )
    query = {"service": challenge.service} if challenge.service else {}
    query["scope"] = challenge.scope or scope
    joint = "&" if realm.query else "?"
    return challenge.realm + joint + urlencode(query)


def parse_token(raw: bytes, now: float) -> Token:
    """Parses a token server's response. `now` and the expiry in seconds. Raises UpstreamError."""
    try:
        value = json.loads(raw)
        text = value.get("token") or value["access_token"]
        seconds = float(value.get("expires_in") or _TOKEN_SECONDS)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as exc:
        raise UpstreamError("its token server returned no token") from exc
    if not isinstance(text, str) or not text.isascii() or not text.isprintable():
        raise UpstreamError("its token server returned no token")
    return Token(f"Bearer {text}", now + max(seconds, 0.0) - _TOKEN_MARGIN_SECONDS)


def redirect_target(url: str, location: str) -> str:
    """The target of a redirect. Raises UpstreamError if it must not be followed."""
    try:
        found = urljoin(url, location)
        parts = urlsplit(found)
        usable = bool(parts.hostname) and not parts.username and parts.port != 0
    except ValueError:
        usable = False
    if not location or not usable or parts.scheme not in {"http", "https"}:
        raise UpstreamError("its redirect has no valid target")
    if urlsplit(url).scheme == "https" and parts.scheme != "https":
        raise UpstreamError(f"it redirects from https to http, at {parts.hostname}")
    return found


def is_same_origin(url: str, other: str) -> bool:
    """Returns True if two URLs have the same origin, so that both may receive the same secret."""
    one, two = urlsplit(url), urlsplit(other)
    return (one.scheme, one.hostname, _port(one.scheme, one.port)) == (
        two.scheme,
        two.hostname,
        _port(two.scheme, two.port),
    )


def _port(scheme: str, port: int | None) -> int:
    return port or (443 if scheme == "https" else 80)


def parse_length(header: str | None) -> int | None:
    """Parses a Content-Length; None if it is absent or not a number."""
    return int(header) if header and header.isascii() and header.isdigit() else None


def resumes_at(header: str | None, offset: int, size: int) -> bool:
    """Returns True if a `Content-Range` covers the bytes from `offset` to the end."""
    return header == f"bytes {offset}-{size - 1}/{size}"


def checked_document(raw: bytes, media_type: str, digest: Digest | None) -> Document:
    """Parses a fetched document. Raises ManifestInvalidError, DigestMismatchError."""
    # some registries or their proxies send another type, such as text/plain
    declared = media_type if media_type in DOCUMENT_TYPES else ""
    return parse_named_document(raw, declared, "the manifest", digest)
