"""Sends one message to one webhook. Async.

Always holds: an answer has `ANSWER_SECONDS`; redirects are not followed; no proxy is used but that
of the setting; the certificate is verified; no more of an answer is read than its head.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import aiohttp

from airside import __version__
from airside.core.webhook_config import Webhook
from airside.telemetry.webhooks.messages import CONTENT_TYPE
from airside.telemetry.webhooks.signing import parse_keys, signed_headers

ANSWER_SECONDS = 10.0
GONE = 410
_SECRET_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of an attempt. `status`: None without an answer, for `reason`."""

    status: int | None
    reason: str = ""
    retry_after_seconds: float = 0.0

    @property
    def is_delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Sender:
    """Sends to one webhook; used with `async with`. For one event loop."""

    def __init__(self, webhook: Webhook, wall: Callable[[], float] = time.time) -> None:
        self._webhook, self._wall = webhook, wall
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        self._session = aiohttp.ClientSession(
            timeout=timeout, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, message_id: str, body: bytes) -> Answer:
        """Sends a message once. Never raises but when cancelled."""
        assert self._session is not None
        try:
            keys = parse_keys(await asyncio.to_thread(_secret_of, self._webhook))
            context = await asyncio.to_thread(_tls_of, self._webhook)
        except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
            return Answer(None, f"its secret or ca cannot be used: {exc}")
        headers = {
            **signed_headers(keys, message_id, int(self._wall()), body),
            "content-type": CONTENT_TYPE,
            "user-agent": f"airside/{__version__}",
        }
        try:
            async with self._session.post(
                self._webhook.url,
                data=body,
                headers=headers,
                ssl=context,
                proxy=self._webhook.proxy or None,
                allow_redirects=False,
            ) as response:
                retry_after = _seconds(response.headers.get("retry-after", ""))
                return Answer(response.status, f"HTTP {response.status}", retry_after)
        except TimeoutError:
            return Answer(None, f"no answer within {ANSWER_SECONDS:.0f} s")
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            return Answer(None, f"{type(exc).__name__}: {exc}"[:200])


def _seconds(text: str) -> float:
    """The Retry-After header in seconds; 0 for a date, or nonsense."""
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0.0


def check_files(webhook: Webhook) -> None:
    """Raises OSError, ValueError if the secret or the authorities cannot be used. Blocking."""
    parse_keys(_secret_of(webhook))
    _tls_of(webhook)


def _secret_of(webhook: Webhook) -> str:
    with webhook.secret.open("rb") as file:
        return file.read(_SECRET_BYTES).decode()


def _tls_of(webhook: Webhook) -> ssl.SSLContext | bool:
    if not webhook.url.startswith("https:"):
        return True
    return ssl.create_default_context(cafile=None if webhook.ca is None else str(webhook.ca))
