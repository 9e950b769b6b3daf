"""Paths of sources that are not archives: a push, or an upstream registry. Pure."""

UPSTREAM = "upstream:"
"""The prefix of the reference in the path of an image from an upstream registry."""


def is_archive_path(path: str) -> bool:
    """Returns True if a source's path is a file's; that of a push is a reference."""
    return path.startswith("/")


def shown_source(path: str) -> str:
    """Returns a source's name for a person: an archive by its path."""
    if path.startswith(UPSTREAM):
        return "upstream"
    return path if is_archive_path(path) or not path else "push"
