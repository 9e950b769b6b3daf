"""Sizes and durations as people read them. Pure."""

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size_text(size_bytes: float | None) -> str:
    """Returns a size such as `12.3 MB`: powers of 1000, one decimal digit."""
    if size_bytes is None:
        return ""
    if size_bytes < 1000:
        return f"{size_bytes:.0f} B"
    value = float(size_bytes)
    for unit in _UNITS:
        if round(value, 1) < 1000 or unit == _UNITS[-1]:
            return f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def duration_text(seconds: float | None) -> str:
    """Returns `0.42 s`, `3 min 20 s`, `5 h 3 min` or `2 d 4 h`."""
    if seconds is None:
        return ""
    if seconds < 60:
        digits = 2 if seconds < 1 else 1 if seconds < 10 else 0
        return f"{seconds:.{digits}f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
