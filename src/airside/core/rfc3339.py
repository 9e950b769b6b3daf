"""Writes times as RFC 3339. Pure."""

from datetime import UTC, datetime


def time_text(seconds: float | None) -> str | None:
    """Returns seconds since 1970 as RFC 3339 in UTC, with milliseconds; None for None."""
    if seconds is None:
        return None
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
