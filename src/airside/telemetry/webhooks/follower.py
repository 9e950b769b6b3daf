"""Follows the catalog's events for one webhook and sends those that it wants, in order. Async.

Always holds: the number of the last event that was delivered or given up is in the catalog, so that
a restart loses nothing; after a crash the last ones may be sent twice, with the same ID. What
waits is bounded by the catalog's log of events: events that were deleted from it before they could
be sent are counted and told. A new webhook begins with the next event.
"""

import asyncio
import logging
import random
import socket
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import TypeVar

from airside.catalog.catalog import Catalog
from airside.catalog.model import EventRow
from airside.core.errors import StoreError
from airside.core.webhook_config import Webhook
from airside.ports.measures import WebhookMeter
from airside.telemetry.webhooks.attempts import Attempts
from airside.telemetry.webhooks.messages import message_id, message_of
from airside.telemetry.webhooks.sender import GONE, Answer, Sender

log = logging.getLogger("airside.webhook")

T = TypeVar("T")

CURSOR = "webhook:"
LOOK_SECONDS = 1.0
SAVE_SECONDS = 5.0
_AT_ONCE = 100
_STORE_AGAIN_SECONDS = 5.0


class WebhookFollower:
    """One webhook. For one event loop. `reads`: the threads that read and write the catalog."""

    def __init__(
        self,
        webhook: Webhook,
        catalog: Catalog,
        node: str,
        meter: WebhookMeter,
        reads: Executor,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sleep = sleep
        self._webhook, self._catalog, self._node = webhook, catalog, node
        self._meter, self._reads, self._clock = meter, reads, clock
        self._host = socket.gethostname()
        self._cursor = self._saved = -1
        self._saved_at = 0.0
        self._is_failing = False

    async def run(self) -> None:
        """Sends until cancelled, or until the receiver says that it is gone for good (410)."""
        try:
            async with Sender(self._webhook) as sender:
                while await self._run_once(sender):
                    await self._sleep(LOOK_SECONDS)
        finally:
            if self._cursor > self._saved >= 0:
                self._reads.submit(self._save, self._cursor)

    async def _run_once(self, sender: Sender) -> bool:
        """Sends what waits. Returns False if the webhook is gone."""
        try:
            if self._cursor < 0:
                await self._begin()
            events = await self._read(self._catalog.event_log.after, self._cursor, _AT_ONCE)
            await self._check_gap(events)
            await self._tell_pending(events)
            for event in events:
                if event.kind in self._webhook.kinds and not await self._deliver(sender, event):
                    return False
                self._cursor = event.id
                await self._save_sometimes()
        except StoreError as exc:
            log.warning("webhook %s waits for the catalog: %s", self._webhook, exc.message)
            await self._sleep(_STORE_AGAIN_SECONDS)
        return True

    async def _begin(self) -> None:
        """Continues where the last process ended; a new webhook begins with the next event."""
        text = await self._read(self._catalog.meta, CURSOR + self._webhook.name)
        newest = await self._read(self._catalog.event_log.newest)
        known = int(text) if text and text.isdecimal() else newest
        self._meter.webhook_known(self._webhook.name)
        self._cursor = min(known, newest)  # a catalog that lost records counts from below
        await self._read(self._save, self._cursor)

    async def _check_gap(self, events: list[EventRow]) -> None:
        if not events or events[0].id <= self._cursor + 1:
            return
        oldest = await self._read(self._catalog.event_log.oldest)
        if events[0].id > oldest:
            return  # numbers of transactions that were rolled back
        lost = events[0].id - self._cursor - 1
        self._meter.webhook_dropped(self._webhook.name, lost)
        log.error(
            "webhook %s: up to %d events were deleted before they could be sent",
            self._webhook,
            lost,
        )

    async def _tell_pending(self, events: list[EventRow]) -> None:
        """Tell how many events wait, also while one is sent again and again."""
        newest = await self._read(self._catalog.event_log.newest) if events else self._cursor
        self._meter.webhook_pending(self._webhook.name, newest - self._cursor)

    async def _deliver(self, sender: Sender, event: EventRow) -> bool:
        """Sends one event until it is delivered or given up. Returns False if nobody wants any."""
        body = message_of(self._node, self._host, event)
        attempts, number = Attempts(self._clock()), message_id(self._node, event)
        while True:
            answer = await sender.send(number, body)
            if answer.is_delivered:
                self._delivered()
                return True
            if answer.status == GONE:
                log.error(
                    "webhook %s is gone (410): nothing is sent until a restart", self._webhook
                )
                self._meter.webhook_dropped(self._webhook.name, 1)
                self._meter.webhook_gone(self._webhook.name)
                return False
            attempts.failed(answer.status)
            self._meter.webhook_failed(self._webhook.name)
            if attempts.is_over(self._clock()):
                self._meter.webhook_dropped(self._webhook.name, 1)
                log.error("webhook %s: event %d is dropped: %s", *self._told(event, answer))
                return True
            with suppress(StoreError):  # the attempts go on without the catalog
                await self._save_sometimes()
                await self._tell_pending([event])
            await self._wait(attempts, answer, event)

    async def _wait(self, attempts: Attempts, answer: Answer, event: EventRow) -> None:
        seconds = attempts.delay_seconds(random.random(), answer.retry_after_seconds)  # noqa: S311
        level = logging.DEBUG if self._is_failing else logging.WARNING
        told = (*self._told(event, answer), seconds)
        log.log(level, "webhook %s: event %d not delivered: %s; retrying in %.0f s", *told)
        self._is_failing = True
        await self._sleep(seconds)

    def _delivered(self) -> None:
        self._meter.webhook_delivered(self._webhook.name)
        if self._is_failing:
            log.info("webhook %s takes events again", self._webhook)
        self._is_failing = False

    def _told(self, event: EventRow, answer: Answer) -> tuple[str, int, str]:
        return self._webhook.name, event.id, answer.reason

    async def _save_sometimes(self) -> None:
        now = self._clock()
        if self._cursor > self._saved and now - self._saved_at >= SAVE_SECONDS:
            self._saved_at = now
            await self._read(self._save, self._cursor)

    def _save(self, cursor: int) -> None:
        self._catalog.set_meta({CURSOR + self._webhook.name: str(cursor)})
        self._saved = cursor

    async def _read(self, job: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reads, partial(job, *args))
