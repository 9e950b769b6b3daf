import platform
import subprocess
import sys

import pytest

from airside.agent.memory import give_back

PROGRAM = """
import ctypes, threading
from airside.agent.memory import give_back, keep_together

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def work():
    blocks = [libc.malloc(65536) for _ in range(1000)]
    for block in blocks:
        ctypes.memset(block, 1, 65536)
    for block in blocks[:-1]:  # the last keeps the heap from shrinking by itself
        libc.free(block)

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = (
    ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p])
keep_together()
thread = threading.Thread(target=work)
thread.start()
thread.join()
held = resident()
give_back()
print(held - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not the C library glibc")
def test_what_threads_freed_is_given_back():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) > 50_000_000


def test_it_may_be_asked_at_any_time():
    assert give_back() is None
