"""Returns freed memory to the system. Blocking, for milliseconds.

glibc gives each thread an arena and keeps what is freed there: after importing and publishing a
dozen images it held 20 MB that were unused. One arena for all threads can be returned. With another
C library these functions do nothing.
"""

import ctypes
from contextlib import suppress

_ARENA_MAX = -8
"""`M_ARENA_MAX` of glibc's malloc.h."""
_libc = ctypes.CDLL(None)


def keep_together() -> None:
    """Make all threads that start later share one arena."""
    with suppress(AttributeError):
        _libc.mallopt(_ARENA_MAX, 1)


def give_back() -> None:
    """Return freed memory to the system."""
    with suppress(AttributeError):
        _libc.malloc_trim(0)
