"""What the rooms count of their work: one Protocol for each kind of work.

Implemented by `airside.telemetry.meters`; `Unmeasured` counts nothing. A call adds to numbers in
memory, under a lock that nobody holds for long: it neither waits nor raises, and any thread may
make it. Values that name something (a state, a code, a route) are of a fixed vocabulary; what is
not of it is counted as `other`, so that no name of a stranger becomes a label.
"""

from collections.abc import Mapping
from typing import Protocol


class WorkMeter(Protocol):
    """Takes notice of each finished piece of work, for traces."""

    def finished(
        self, work: str, seconds: float, attributes: Mapping[str, str | int], error: str = ""
    ) -> None:
        """Notes one `import` or `publish` that took so long, and what is to be known of it.

        Attributes may name anything. `error`: why it failed.
        """
        ...


class ImportMeter(WorkMeter, Protocol):
    """Counts imports of archives and lists."""

    def imported(self, state: str, code: str, size_bytes: int, seconds: float) -> None:
        """Counts one job: its state, the code of its error ("": none), the bytes that it read."""
        ...


class PublishMeter(WorkMeter, Protocol):
    """Counts images that are published to a container runtime."""

    def published(
        self,
        ways: Mapping[str, int],
        seconds: float,
        *,
        unpack_seconds: float = 0.0,
        lag_seconds: float | None = None,
    ) -> None:
        """Counts one image: how its blobs were placed, and how long that took.

        `unpack_seconds`: 0 if nothing was unpacked. `lag_seconds`: since its tag last moved; None
        for an image that is restored.
        """
        ...

    def publish_failed(self) -> None: ...

    def passed(self, runtime: str) -> None:
        """Counts a finished pass over a runtime, given by its socket."""
        ...


class RequestMeter(Protocol):
    """Counts requests of the registry's clients."""

    def requested(self, method: str, route: str, status_code: int, seconds: float) -> None:
        """Counts a request and the time until its answer began.

        `route`: a template (`registry.rules.routes`).
        """
        ...

    def sent(self, size_bytes: int) -> None:
        """Counts bytes of bodies that were sent."""
        ...


class WriteMeter(Protocol):
    """Counts what clients push, and what is fetched from upstream registries."""

    def pushed(self, kind: str, size_bytes: int) -> None:
        """Counts a pushed `blob` or `manifest`, or a `mount`."""
        ...

    def push_failed(self, code: str) -> None:
        """Counts a write of a client that failed, by the code of its error."""
        ...

    def pull_through_failed(self, code: str) -> None:
        """Counts a fetch from an upstream that failed, by the code of its error."""
        ...

    def pulled_through(self, kind: str, size_bytes: int) -> None:
        """Counts a `blob` or `manifest` that was stored from an upstream."""
        ...


class StoreMeter(Protocol):
    """Counts the store's upkeep."""

    def collected(self, blobs: int, freed_bytes: int, seconds: float) -> None:
        """Counts one garbage collection."""
        ...

    def verified(self, size_bytes: int) -> None:
        """Counts bytes that a scrub hashed."""
        ...


class WebhookMeter(Protocol):
    """Counts events that are sent to webhooks, by the webhook's name in the settings."""

    def webhook_known(self, name: str) -> None:
        """Makes the counts of a webhook 0, so that its first failure is seen as a change."""
        ...

    def webhook_delivered(self, name: str) -> None: ...

    def webhook_failed(self, name: str) -> None:
        """Counts a failed attempt."""
        ...

    def webhook_dropped(self, name: str, count: int) -> None:
        """Counts events that were given up, or deleted before they could be sent."""
        ...

    def webhook_pending(self, name: str, count: int) -> None:
        """Notes how many events were recorded after the last one that was looked at."""
        ...

    def webhook_gone(self, name: str) -> None:
        """Notes that the receiver answered 410: nothing is sent to it until the next start."""
        ...


class Meter(
    ImportMeter, PublishMeter, RequestMeter, WriteMeter, StoreMeter, WebhookMeter, Protocol
):
    """All of them."""


class Unmeasured:
    """Counts nothing."""

    def finished(
        self, work: str, seconds: float, attributes: Mapping[str, str | int], error: str = ""
    ) -> None:
        pass

    def imported(self, state: str, code: str, size_bytes: int, seconds: float) -> None:
        pass

    def published(
        self,
        ways: Mapping[str, int],
        seconds: float,
        *,
        unpack_seconds: float = 0.0,
        lag_seconds: float | None = None,
    ) -> None:
        pass

    def publish_failed(self) -> None:
        pass

    def passed(self, runtime: str) -> None:
        pass

    def requested(self, method: str, route: str, status_code: int, seconds: float) -> None:
        pass

    def sent(self, size_bytes: int) -> None:
        pass

    def pushed(self, kind: str, size_bytes: int) -> None:
        pass

    def push_failed(self, code: str) -> None:
        pass

    def pull_through_failed(self, code: str) -> None:
        pass

    def pulled_through(self, kind: str, size_bytes: int) -> None:
        pass

    def collected(self, blobs: int, freed_bytes: int, seconds: float) -> None:
        pass

    def verified(self, size_bytes: int) -> None:
        pass

    def webhook_known(self, name: str) -> None:
        pass

    def webhook_delivered(self, name: str) -> None:
        pass

    def webhook_failed(self, name: str) -> None:
        pass

    def webhook_dropped(self, name: str, count: int) -> None:
        pass

    def webhook_pending(self, name: str, count: int) -> None:
        pass

    def webhook_gone(self, name: str) -> None:
        pass


UNMEASURED: Meter = Unmeasured()
