"""One `[[webhooks]]` table: an address to which events are sent. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult

from airside.core.config_table import file_path, http_url
from airside.core.errors import ConfigError

EVENT_GROUPS: Mapping[str, frozenset[str]] = {
    "import": frozenset({"imported", "partial"}),
    "rejection": frozenset({"rejected", "failed", "unreadable"}),
    "removal": frozenset({"removed", "tag-removed", "deleted"}),
    "replacement": frozenset({"tag-moved", "tag-rolled-back"}),
    "push": frozenset({"pushed"}),
    "low-space": frozenset({"low-space", "space-back"}),
    "runtime": frozenset({"runtime-away", "runtime-back"}),
    "damage": frozenset({"quarantined", "lost", "repaired"}),
}
"""What `events` may name: the kinds of events of each group."""
_DEFAULT = ("import", "rejection", "replacement", "low-space", "runtime")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}\Z")


@dataclass(frozen=True, slots=True)
class Webhook:
    """`secret` and `ca` are read again for each delivery."""

    name: str
    """Of its metrics and logs; by default the host of `url`."""
    url: str
    """https, or http."""
    secret: Path
    """A file with the keys that sign, one a line, as Standard Webhooks write them."""
    events: tuple[str, ...] = _DEFAULT
    """Groups of events: import, rejection, replacement, removal, push, low-space, runtime,
    damage."""
    ca: Path | None = None
    """Authorities instead of the system's (PEM)."""
    proxy: str = ""
    """URL of an HTTP proxy; empty: none, whatever the environment says."""

    def __str__(self) -> str:
        return self.name

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of events that are sent."""
        return frozenset().union(*(EVENT_GROUPS[group] for group in self.events))


def parse_webhook(raw: Any, where: str) -> Webhook:
    """Parse a table. Raises ConfigError."""
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where}: must be a table")
    unknown = set(raw) - {f.name for f in fields(Webhook)}
    if unknown:
        raise ConfigError(f"{where}: no such setting: {', '.join(sorted(unknown))}")
    parts = _url(raw, "url", where)
    name = str(raw.get("name") or (parts.hostname or "").lower())
    if not _NAME.match(name):
        raise ConfigError(f"{where}: name must be like site-log, found {name!r:.80}")
    secret = file_path(raw, "secret", where)
    if secret is None:
        raise ConfigError(f"{where}: secret must name a file with a key, such as whsec_…")
    proxy = str(raw.get("proxy") or "")
    if proxy:
        _url(raw, "proxy", where, secrets=True)
    events = _events(raw.get("events", _DEFAULT), where)
    return Webhook(name, str(raw["url"]), secret, events, file_path(raw, "ca", where), proxy)


def check_webhooks(webhooks: Sequence[Webhook]) -> None:
    """Raises ConfigError if two have one name."""
    if len({each.name for each in webhooks}) != len(webhooks):
        raise ConfigError("two [[webhooks]] tables have one name: give each a name of its own")


def _events(raw: object, where: str) -> tuple[str, ...]:
    if not isinstance(raw, list | tuple) or not raw or not set(map(str, raw)) <= set(EVENT_GROUPS):
        raise ConfigError(
            f"{where}: events must be of {', '.join(EVENT_GROUPS)}, found {raw!r:.80}"
        )
    return tuple(dict.fromkeys(map(str, raw)))


def _url(raw: Mapping[str, Any], key: str, where: str, *, secrets: bool = False) -> SplitResult:
    text = raw.get(key)
    parts = http_url(text) if isinstance(text, str) else None
    if parts is None or parts.fragment:
        raise ConfigError(f"{where}: {key} must be like https://hooks.example/airside")
    if not secrets and (parts.username or parts.password):
        raise ConfigError(f"{where}: {key} has a password in it: receivers check the signature")
    return parts
