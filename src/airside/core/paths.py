"""Paths by their texts. Pure: nothing is looked up."""

from pathlib import Path


def is_within(path: Path | str, directory: Path | str) -> bool:
    """Returns True if the path is the directory or lies in it, by their texts."""
    text, above = str(path), str(directory)
    return text == above or text.startswith(above.rstrip("/") + "/")
