"""Parses reading requests (OCI distribution spec, "Pull" and "Content Discovery"). Pure.

A method and a target become an intent. Requests that write are in `writes`, the names of
repositories in `names`, the answers in `lookup`, conditional requests and ranges in `ranges`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote

from airside.core.errors import (
    DigestInvalidError,
)
from airside.oci.digest import Digest, parse_digest
from airside.oci.reference import (
    is_host,
    is_path,
)
from airside.registry.rules.answers import Answer, problem
from airside.registry.rules.names import Name, normal_host

METHODS = ("GET", "HEAD")
ALLOW = ", ".join(METHODS)
KINDS = frozenset({"manifests", "blobs", "tags", "referrers"})

_NUMBER = re.compile(r"[0-9]{1,18}\Z")


# --- intents


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list: `n` entries (None: all) after `last`."""

    n: int | None = None
    last: str = ""


@dataclass(frozen=True, slots=True)
class Ping:
    """`/v2/`, by which clients check that this is a registry."""


@dataclass(frozen=True, slots=True)
class GetManifest:
    """`reference` is a digest or a tag; an invalid tag is treated as absent."""

    name: Name
    reference: Digest | str


@dataclass(frozen=True, slots=True)
class GetBlob:
    name: Name
    digest: Digest


@dataclass(frozen=True, slots=True)
class ListTags:
    name: Name
    page: Page


@dataclass(frozen=True, slots=True)
class ListCatalog:
    """All repositories; with a host, the paths at that host."""

    host: str
    page: Page


@dataclass(frozen=True, slots=True)
class ListReferrers:
    name: Name
    digest: Digest
    artifact_type: str
    last: str = ""
    """The digest that the page before ended with."""


Intent: TypeAlias = Ping | GetManifest | GetBlob | ListTags | ListCatalog | ListReferrers


# --- request → intent


def parse_request(method: str, target: str) -> Intent | Answer:
    """Parses a method and a raw request target (`/v2/...?...`); an Answer is a refusal."""
    if method not in METHODS:
        message = f"{method[:20]} is not supported: this registry is read-only"
        return problem(405, "UNSUPPORTED", message, None, ("Allow", ALLOW))
    raw_path, _, raw_query = target.partition("?")
    path, query = unquote(raw_path), {k: v[0] for k, v in parse_query(raw_query).items()}
    if path in {"/v2", "/v2/"}:
        return Ping()
    host = parse_host(query.get("ns", ""))
    if isinstance(host, Answer):
        return host
    if path == "/v2/_catalog":
        page = _parse_page(query)
        return page if isinstance(page, Answer) else ListCatalog(host, page)
    if path.startswith("/v2/"):
        return _parse_path(path.removeprefix("/v2/"), host, query)
    return _no_endpoint(path)


def parse_host(text: str) -> str | Answer:
    """Parses the host in `?ns=`; "" for an empty text."""
    if text and not is_host(text):
        return problem(400, "NAME_INVALID", f"ns is not a registry host: {text[:300]!r}")
    return normal_host(text)


def parse_name(text: str, host: str) -> Name | Answer:
    """Parses the name of a repository at a host."""
    if is_path(text):
        return Name(text, host)
    hint = "names are lower case, with _ instead of : before a port"
    message = f"{text[:300]!r} is not a repository name: {hint}"
    return problem(400, "NAME_INVALID", message, {"name": text[:300]})


def _parse_path(path: str, host: str, query: Mapping[str, str]) -> Intent | Answer:
    """Parses `<name>/<kind>/<last>` from the end, as a name may contain the word `manifests`."""
    head, _, last = path.rpartition("/")
    name_text, _, kind = head.rpartition("/")
    if kind not in KINDS or (kind == "tags" and last != "list"):
        return _no_endpoint(f"/v2/{path}")
    name = parse_name(name_text, host)
    if isinstance(name, Answer):
        return name
    if kind == "tags":
        page = _parse_page(query)
        return page if isinstance(page, Answer) else ListTags(name, page)
    if kind == "manifests" and ":" not in last:
        return GetManifest(name, last)
    return _parse_digest(kind, name, last, query)


def _parse_digest(kind: str, name: Name, text: str, query: Mapping[str, str]) -> Intent | Answer:
    try:
        digest = parse_digest(text)
    except DigestInvalidError as exc:
        return problem(400, "DIGEST_INVALID", exc.message, {"digest": text[:200]})
    if kind == "manifests":
        return GetManifest(name, digest)
    if kind == "blobs":
        return GetBlob(name, digest)
    return ListReferrers(name, digest, query.get("artifactType", ""), query.get("last", ""))


def _no_endpoint(path: str) -> Answer:
    return problem(404, "UNSUPPORTED", f"no such endpoint: {path[:300]!r}")


def parse_query(text: str) -> dict[str, list[str]]:
    """All values of each key. A `+` is not a space: clients do not escape it in media types."""
    query: dict[str, list[str]] = {}
    for part in text.split("&") if text else ():
        key, _, value = part.partition("=")
        query.setdefault(unquote(key), []).append(unquote(value))
    return query


def _parse_page(query: Mapping[str, str]) -> Page | Answer:
    n = query.get("n", "")
    if n and not _NUMBER.match(n):
        message = f"n must be a number of entries, found {n[:40]!r}"
        return problem(400, "PAGINATION_NUMBER_INVALID", message, {"n": n[:40]})
    return Page(int(n) if n else None, query.get("last", ""))
