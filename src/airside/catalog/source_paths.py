"""What stands in the path of a source that is no archive: a push, or an upstream registry. Pure."""

UPSTREAM = "upstream:"
"""Before the reference, in the path of what was pulled through from an upstream registry."""


def is_archive_path(path: str) -> bool:
    """Whether a source's path is a file's: that of a push is a reference."""
    return path.startswith("/")


def shown_source(path: str) -> str:
    """How a source is called for a person: an archive by its path."""
    if path.startswith(UPSTREAM):
        return "upstream"
    return path if is_archive_path(path) or not path else "push"
