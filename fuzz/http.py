"""Any bytes on the registry's port: valid HTTP answers, no log line, no harm to the store."""

import atexit
import contextlib
import functools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

from fuzz.target import Mutate, Target
from support.malformed import SEEDS, Victim, mutated, victim


@functools.cache
def _registry() -> Victim:
    """Returns one registry for the whole run: inputs also meet what earlier ones left behind."""
    stack = contextlib.ExitStack()
    root = Path(tempfile.mkdtemp(prefix="airside-fuzz-"))
    stack.callback(shutil.rmtree, root, ignore_errors=True)
    found = stack.enter_context(victim(root))
    atexit.register(stack.close)
    return found


def check(data: bytes) -> None:
    _registry().bear(data)


def mutate(data: bytes, rng: Random, mutate_bytes: Mutate) -> bytes:
    if rng.randint(0, 9) == 0:
        return mutate_bytes(data)
    if rng.randint(0, 9) == 0:
        data += rng.choice(SEEDS)
    for _ in range(rng.randint(1, 3)):
        data = mutated(data, rng)
    return data


def seeds() -> Iterator[bytes]:
    yield from SEEDS


TARGET = Target("http", check, seeds, mutate, max_bytes=20_000)
