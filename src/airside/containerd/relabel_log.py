"""Logs that our labels were set again on names of which somebody stripped them."""

import logging
from collections.abc import Callable

log = logging.getLogger("airside.publish")

_QUIET_SECONDS = 600.0
"""A pull changes several names of an image, one after another; that is one line."""


class RelabelLog:
    """The lines of one runtime, one for each image in ten minutes. Used by one thread at a time."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._told: dict[str, float] = {}

    def tell(self, reference: str, runtime: str) -> None:
        now = self._monotonic()
        self._told = {k: at for k, at in self._told.items() if now - at < _QUIET_SECONDS}
        level = logging.DEBUG if reference in self._told else logging.INFO
        self._told.setdefault(reference, now)
        log.log(
            level,
            "%s: labels were removed or changed in %s (a pull does that): set again, pin included",
            reference,
            runtime,
        )
