"""One `[[upstream]]` table: a registry from which missing content is fetched. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult

from airside.core.config_table import file_path, http_url
from airside.core.errors import ConfigError

_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?\Z|\[[0-9a-fA-F:.]+\](:[0-9]{1,5})?\Z")
_URLS = {"docker.io": "https://registry-1.docker.io"}
"""Registries whose address is not their name."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Upstream:
    """Its files are read again when they change."""

    registry: str
    """The host in the names of images, for instance `docker.io`."""
    url: str
    """The address of the registry, or of a mirror of it; its path is put before names."""
    credentials: Path | None = None
    """A file with `username` and `password`, or with `token`."""
    ca: Path | None = None
    """Authorities to trust instead of the system's (PEM)."""
    offline: bool = False
    """True if it is never asked."""

    def __str__(self) -> str:
        return self.url


def parse_upstream(raw: Any, where: str) -> Upstream:
    """Parse a table, or the text `HOST` or `HOST=URL`. Raises ConfigError."""
    if isinstance(raw, str):
        host, _, url = raw.partition("=")
        raw = {"registry": host, **({"url": url} if url else {})}
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where}: must be a table")
    unknown = set(raw) - {f.name for f in fields(Upstream)}
    if unknown:
        raise ConfigError(f"{where}: no such setting: {', '.join(sorted(unknown))}")
    registry = _registry(raw.get("registry", ""), where)
    url = str(raw.get("url") or _URLS.get(registry) or f"https://{registry}").rstrip("/")
    parts = _checked_url(url, where)
    credentials, ca = file_path(raw, "credentials", where), file_path(raw, "ca", where)
    if credentials is not None and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ConfigError(f"{where}: credentials would go unencrypted to {url}: use https")
    offline = raw.get("offline", False)
    if not isinstance(offline, bool):
        raise ConfigError(f"{where}: offline must be true or false")
    return Upstream(registry, url, credentials, ca, offline)


def _registry(raw: object, where: str) -> str:
    if not isinstance(raw, str) or not _HOST.match(raw):
        raise ConfigError(
            f"{where}: registry must be a host such as docker.io, found {raw!r:.80}",
            key="registry",
        )
    return "docker.io" if raw == "index.docker.io" else raw


def _checked_url(url: str, where: str) -> SplitResult:
    parts = http_url(url)
    if parts is None or parts.query or parts.fragment:
        raise ConfigError(f"{where}: url must be like https://registry.example, found {url!r:.200}")
    if parts.username or parts.password:
        raise ConfigError(f"{where}: the url has a password in it: name a file, `credentials`")
    return parts
