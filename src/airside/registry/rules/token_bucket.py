"""Rate limits: token buckets for bytes, and counts of failed logins. Pure.

The caller passes the time to every call, in seconds of a monotonic clock. State per client is
bounded; the least recently seen client is dropped first. IPv6 clients count by their /64, as one
host may have that many addresses. Not thread-safe.
"""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

MAX_CLIENTS = 4096
"""Limit of clients with state."""
MAX_FAILURES = 10.0
"""Failed logins of one user that a client may have at once before it must wait."""
FORGIVEN_SECONDS = 6.0
"""Time after which one failed login no longer counts."""
FIRST_DELAY_SECONDS = 0.1
LAST_DELAY_SECONDS = 3.0


Key = TypeVar("Key")


def client_key(address: str) -> str:
    """The key of a client: its IPv4 address, or the /64 of its IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:100]
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    mapped = parsed.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.ip_network((parsed, 64), strict=False))


def is_loopback(address: str) -> bool:
    """Returns True for an address of this host alone: all its programs share it."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def login_key(address: str) -> str:
    """The key of a client that logs in: all addresses of loopback are one client."""
    return "loopback" if is_loopback(address) else client_key(address)


@dataclass(slots=True)
class TokenBucket:
    """`rate` bytes per second, with a burst of one second's bytes. Its level may be negative."""

    rate: float
    level: float = field(init=False)
    at: float = 0.0

    def __post_init__(self) -> None:
        self.level = self.rate

    def take(self, count: int, now: float) -> float:
        """Takes bytes. Returns the seconds to wait before they may be sent."""
        self.level = min(self.rate, self.level + max(0.0, now - self.at) * self.rate) - count
        self.at = now
        return max(0.0, -self.level / self.rate)


@dataclass(slots=True)
class Shares:
    """The limits of one direction, for all clients together and for each. 0: no limit."""

    total_rate: int
    client_rate: int
    limit: int = MAX_CLIENTS
    _total: TokenBucket = field(init=False)
    _clients: OrderedDict[str, TokenBucket] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self._total = TokenBucket(max(self.total_rate, 1))

    @property
    def slice_bytes(self) -> int:
        """Bytes to send at a time: a fraction of a second's, so that clients take turns."""
        rate = min(rate for rate in (self.total_rate, self.client_rate) if rate)
        return max(4096, min(1 << 20, rate // 8))

    def take(self, client: str, count: int, now: float) -> float:
        """Takes bytes for a client. Returns the seconds to wait before they may be sent."""
        waits = [self._total.take(count, now)] if self.total_rate else [0.0]
        if self.client_rate:
            waits.append(self._bucket(client_key(client)).take(count, now))
        return max(waits)

    def _bucket(self, key: str) -> TokenBucket:
        found = self._clients.get(key)
        if found is None:
            found = self._clients[key] = TokenBucket(self.client_rate)
            if len(self._clients) > self.limit:
                self._clients.popitem(last=False)
        self._clients.move_to_end(key)
        return found


@dataclass(slots=True)
class LeakyCounters(Generic[Key]):
    """Counts by key; one expires every FORGIVEN_SECONDS. The longest unchanged keys are dropped."""

    limit: int
    _counts: OrderedDict[Key, tuple[float, float]] = field(default_factory=OrderedDict)

    def get(self, key: Key, now: float) -> float:
        count, at = self._counts.get(key, (0.0, now))
        return max(0.0, count - max(0.0, now - at) / FORGIVEN_SECONDS)

    def put(self, key: Key, count: float, now: float) -> None:
        self._counts.pop(key, None)
        if count > 0:
            self._counts[key] = (count, now)
            if len(self._counts) > self.limit:
                self._counts.popitem(last=False)

    def __len__(self) -> int:
        return len(self._counts)


class LoginFailures:
    """Failed logins by client, and by client and user. Each attempt counts until it succeeds.

    The count of a client and a user refuses, that of the client delays: so failures for other
    users do not keep a user out who logs in from the same address.
    """

    def __init__(self, limit: int = MAX_CLIENTS) -> None:
        self._clients: LeakyCounters[str] = LeakyCounters(limit)
        self._users: LeakyCounters[tuple[str, int]] = LeakyCounters(limit)

    def begin(self, client: str, now: float, user: str = "") -> float:
        """Counts an attempt and returns 0, or the seconds to wait if it is not allowed yet.

        `user` is empty for a token.
        """
        address = login_key(client)
        key = (address, hash(user))  # a name may be as long as a header
        count = self._users.get(key, now)
        if count + 1 > MAX_FAILURES:
            return (count + 1 - MAX_FAILURES) * FORGIVEN_SECONDS
        self._users.put(key, count + 1, now)
        self._clients.put(address, min(self._clients.get(address, now) + 1, MAX_FAILURES), now)
        return 0.0

    def succeeded(self, client: str, now: float, user: str = "") -> None:
        """Uncounts an attempt that succeeded."""
        address = login_key(client)
        key = (address, hash(user))
        self._users.put(key, self._users.get(key, now) - 1, now)
        self._clients.put(address, self._clients.get(address, now) - 1, now)

    def delay(self, client: str, now: float) -> float:
        """Seconds to delay the answer to a failed attempt; they grow with each failure."""
        count = self._clients.get(login_key(client), now)
        return min(LAST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** max(0.0, count - 1))

    def __len__(self) -> int:
        return max(len(self._clients), len(self._users))
