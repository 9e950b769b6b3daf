"""How much of what is random or exhaustive is tried: a part by default, all in `make torture`."""

import os
from typing import TypeVar

TORTURE = os.environ.get("TESTS_TORTURE") == "1"

T = TypeVar("T")


def sized(usual: T, full: T) -> T:
    """`full` in `make torture`, else `usual`."""
    return full if TORTURE else usual
