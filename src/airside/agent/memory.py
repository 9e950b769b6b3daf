"""Returns freed memory to the system. Blocking, for milliseconds.

glibc gives each thread an arena and keeps what is freed there: after importing and publishing a
dozen images it held 20 MB that were unused. One arena for all threads can be returned. With another
C library these functions do nothing.
"""

import ctypes
import gc
from contextlib import suppress

from airside.core.settings import MIB

_ARENA_MAX = -8
"""`M_ARENA_MAX` of glibc's malloc.h."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 8 * MIB
"""Freed memory that is not returned at once: the chunks of imports, which come and go."""
_MAPPED_BYTES = 4 * MIB
_libc = ctypes.CDLL(None)


def keep_together() -> None:
    """Make all threads that start later share one arena.

    Its end is kept while chunks of 1 MiB come and go. Else each is taken from the kernel and
    returned, page by page: a sixth of an import's processor time.
    """
    with suppress(AttributeError):
        _libc.mallopt(_ARENA_MAX, 1)
        _libc.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        _libc.mallopt(_MMAP_THRESHOLD, _MAPPED_BYTES)


def keep_started() -> None:
    """Exempt what exists now from garbage collections; call it once, when the agent has started.

    Else each full collection visits all modules and classes, and no other thread runs meanwhile:
    parsing one manifest of many lists held up the event loop for 90 ms of processor time, and takes
    25 ms with this.
    """
    gc.collect()
    gc.freeze()


def give_back() -> None:
    """Return freed memory to the system."""
    with suppress(AttributeError):
        _libc.malloc_trim(0)
