"""How a registry upstream is asked: names, tokens, redirects, freshness. Pure.

Always holds: a password goes only to the registry itself and, encrypted, to the token server that
it names; nothing secret follows a redirect to another host; from https nothing leads to http.
A short name (without a registry) that was pushed here is never looked for upstream: whoever has
that name in a public registry must not stand in for it.
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
"""Answers of a registry that is better left alone for a while."""

_TOKEN_SECONDS = 60.0  # distribution: "expires_in", its default
_TOKEN_MARGIN_SECONDS = 5.0
_CHALLENGE = re.compile(r"\s*([A-Za-z]+)\s+(.*)\Z", re.DOTALL)
_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's, or a token that stands for one; all empty: nobody's."""

    username: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The header's value; empty without a user."""
        if not self.username:
            return ""
        return "Basic " + b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a registry answers with a 401: `scheme` is `basic` or `bearer`."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    """`authorization` is the header's value."""

    authorization: str = field(repr=False)
    expires_at: float

    def is_valid(self, now: float) -> bool:
        return now < self.expires_at


def upstream_repository(name: Name, default_registry: str) -> Repository:
    """The one repository that is looked for upstream under a name."""
    target = push_target(name)
    return target if target.host else repository_at(default_registry, name.text)


def is_short(name: Name) -> bool:
    """Whether the name says no registry."""
    return not push_target(name).host


def target_of(url: str, path: str, kind: str, last: str) -> str:
    """The URL of something in a repository; a path of the registry's URL goes before names."""
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    name = f"{prefix}/{path}" if prefix else path
    return f"{parts.scheme}://{parts.netloc}/v2/{quote(name)}/{kind}/{quote(last, safe=':')}"


def scope_of(url: str, path: str) -> str:
    prefix = urlsplit(url).path.strip("/")
    return f"repository:{prefix}/{path}:pull" if prefix else f"repository:{path}:pull"


def parse_credentials(table: Mapping[str, object], where: str) -> Credentials:
    """From a TOML file: `username` and `password`, or `token`. Raises UpstreamError."""
    known = {"username", "password", "token"}
    texts = {key: value for key, value in table.items() if isinstance(value, str)}
    if set(table) - known or len(texts) != len(table):
        raise UpstreamError(f"{where} may have the texts username, password and token only")
    found = Credentials(**texts)
    if bool(found.token) == bool(found.username):
        raise UpstreamError(f"{where} must have a username with its password, or a token")
    return found


def parse_challenge(header: str) -> Challenge | None:
    """The first challenge of a `WWW-Authenticate` that we can answer (RFC 6750, section 3)."""
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
    """Where a token is asked for. Raises UpstreamError for a realm that gets no password."""
    realm = urlsplit(challenge.realm)
    encrypted = realm.scheme == "https" or (
        realm.scheme == "http"
        and (realm.hostname in _LOOPBACK or is_same_origin(challenge.realm, url))
    )
    if not encrypted or not realm.hostname:
        raise UpstreamError(f"its token server {challenge.realm[:200]!r} is not asked: no https")
    query = {"service": challenge.service} if challenge.service else {}
    query["scope"] = challenge.scope or scope
    joint = "&" if realm.query else "?"
    return challenge.realm + joint + urlencode(query)


def parse_token(raw: bytes, now: float) -> Token:
    """A token server's answer. Raises UpstreamError."""
    try:
        value = json.loads(raw)
        text = value.get("token") or value["access_token"]
        seconds = float(value.get("expires_in") or _TOKEN_SECONDS)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as exc:
        raise UpstreamError("its token server gives no token") from exc
    if not isinstance(text, str) or not text.isascii() or not text.isprintable():
        raise UpstreamError("its token server gives no token")
    return Token(f"Bearer {text}", now + max(seconds, 0.0) - _TOKEN_MARGIN_SECONDS)


def redirect_target(url: str, location: str) -> str:
    """Where a redirect leads. Raises UpstreamError where nobody should follow."""
    try:
        found = urljoin(url, location)
        parts = urlsplit(found)
        usable = bool(parts.hostname) and not parts.username and parts.port != 0
    except ValueError:
        usable = False
    if not location or not usable or parts.scheme not in {"http", "https"}:
        raise UpstreamError("it redirects to nowhere")
    if urlsplit(url).scheme == "https" and parts.scheme != "https":
        raise UpstreamError(f"it redirects from https to http, at {parts.hostname}")
    return found


def is_same_origin(url: str, other: str) -> bool:
    """Whether two URLs are of one origin: what is secret may go to the second, too."""
    one, two = urlsplit(url), urlsplit(other)
    return (one.scheme, one.hostname, _port(one.scheme, one.port)) == (
        two.scheme,
        two.hostname,
        _port(two.scheme, two.port),
    )


def _port(scheme: str, port: int | None) -> int:
    return port or (443 if scheme == "https" else 80)


def parse_length(header: str | None) -> int | None:
    """A Content-Length; None where it is absent or no number."""
    return int(header) if header and header.isascii() and header.isdigit() else None


def resumes_at(header: str | None, offset: int, size: int) -> bool:
    """Whether a `Content-Range` says that the bytes go on where they were cut off."""
    return header == f"bytes {offset}-{size - 1}/{size}"


def checked_document(raw: bytes, media_type: str, digest: Digest | None) -> Document:
    """The document that was fetched. Raises ManifestInvalidError, DigestMismatchError."""
    # some registries send text/plain or what a proxy made of it
    declared = media_type if media_type in DOCUMENT_TYPES else ""
    return parse_named_document(raw, declared, "the manifest", digest)
