"""Other users of the host, for tests that root runs."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def directory_for_all() -> Iterator[Path]:
    """A directory that every user may enter and read; that of pytest is root's alone."""
    with tempfile.TemporaryDirectory(prefix="airside-open-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)
