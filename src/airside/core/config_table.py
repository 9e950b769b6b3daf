"""Checks of values that several tables of the settings have. Pure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from airside.core.errors import ConfigError


def file_path(raw: Mapping[str, Any], key: str, where: str) -> Path | None:
    """Returns the path of a file, absolute; None if the key is absent or empty.

    `where`: the table, for the message. Raises ConfigError.
    """
    found = raw.get(key)
    if found is None or found == "":
        return None
    if not isinstance(found, str | Path):
        raise ConfigError(f"{where}: {key} must be the path of a file")
    return Path(found).absolute()


def http_url(text: str) -> SplitResult | None:
    """Returns the parts of an absolute URL of HTTP or HTTPS; None if it is none."""
    try:
        parts = urlsplit(text)
        is_right = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if is_right else None
