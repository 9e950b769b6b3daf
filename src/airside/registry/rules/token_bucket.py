"""How much, and how often: token buckets for bytes, and the memory of failed logins. Pure.

The clock is the caller's: every call is told the time, in seconds that only grow. All that is kept
by client is bounded; who was not seen for longest goes first. Clients of IPv6 count by their /64:
one host has that many addresses.
"""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass, field

MAX_CLIENTS = 4096
"""How many clients are remembered."""
MAX_FAILURES = 10.0
"""So many failed logins at once; then a client waits."""
FORGIVEN_SECONDS = 6.0
"""One failed login is forgotten after this."""
FIRST_DELAY_SECONDS = 0.1
LAST_DELAY_SECONDS = 3.0


def client_key(address: str) -> str:
    """What an address is remembered by."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:100]
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    mapped = parsed.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.ip_network((parsed, 64), strict=False))


@dataclass(slots=True)
class TokenBucket:
    """`rate` bytes a second, and one second's worth at once. May go into debt."""

    rate: float
    level: float = field(init=False)
    at: float = 0.0

    def __post_init__(self) -> None:
        self.level = self.rate

    def take(self, count: int, now: float) -> float:
        """Take bytes; gives how many seconds to wait before they may go."""
        self.level = min(self.rate, self.level + max(0.0, now - self.at) * self.rate) - count
        self.at = now
        return max(0.0, -self.level / self.rate)


@dataclass(slots=True)
class Shares:
    """The caps of one direction: of all clients together, and of each. 0: no cap."""

    total_rate: int
    client_rate: int
    limit: int = MAX_CLIENTS
    _total: TokenBucket = field(init=False)
    _clients: OrderedDict[str, TokenBucket] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self._total = TokenBucket(max(self.total_rate, 1))

    @property
    def slice_bytes(self) -> int:
        """What goes at a time: a fraction of a second's worth, so that clients take turns."""
        rate = min(rate for rate in (self.total_rate, self.client_rate) if rate)
        return max(4096, min(1 << 20, rate // 8))

    def take(self, client: str, count: int, now: float) -> float:
        """Take bytes for a client; gives how many seconds to wait before they may go."""
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
class LoginFailures:
    """Failed logins by client. Each try counts until it is known to be good."""

    limit: int = MAX_CLIENTS
    _clients: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def begin(self, client: str, now: float) -> float:
        """Count a try; or, where it must not be tried, give the seconds to wait before the next."""
        key = client_key(client)
        count = self._count(key, now)
        if count + 1 > MAX_FAILURES:
            return (count + 1 - MAX_FAILURES) * FORGIVEN_SECONDS
        self._keep(key, count + 1, now)
        return 0.0

    def succeeded(self, client: str, now: float) -> None:
        """Take back a try that was good."""
        key = client_key(client)
        self._keep(key, max(0.0, self._count(key, now) - 1), now)

    def delay(self, client: str, now: float) -> float:
        """How long the answer to a failed try is held back: the longer, the more there were."""
        count = self._count(client_key(client), now)
        return min(LAST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** max(0.0, count - 1))

    def _count(self, key: str, now: float) -> float:
        count, at = self._clients.get(key, (0.0, now))
        return max(0.0, count - max(0.0, now - at) / FORGIVEN_SECONDS)

    def _keep(self, key: str, count: float, now: float) -> None:
        self._clients.pop(key, None)
        if count:
            self._clients[key] = (count, now)
            if len(self._clients) > self.limit:
                self._clients.popitem(last=False)

    def __len__(self) -> int:
        return len(self._clients)
