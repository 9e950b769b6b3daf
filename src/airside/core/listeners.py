"""The callbacks that subscribed to one event. Blocking; safe to use from any thread."""

import threading
from collections.abc import Callable

Callback = Callable[[], object]


class Listeners:
    """Calls every subscriber when its owner notifies."""

    def __init__(self) -> None:
        self._callbacks: tuple[Callback, ...] = ()
        self._lock = threading.Lock()

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Call `callback` at each later `notify`. Returns the function that unsubscribes it.

        The callback runs in the thread that notifies: it must not block, nor raise.
        """
        with self._lock:
            self._callbacks = (*self._callbacks, callback)

        def unsubscribe() -> None:
            with self._lock:
                self._callbacks = tuple(c for c in self._callbacks if c != callback)

        return unsubscribe

    def notify(self) -> None:
        """Call the subscribers in the order in which they subscribed, in this thread."""
        for callback in self._callbacks:
            callback()
