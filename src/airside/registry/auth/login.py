"""Identifies clients by password, token, session or certificate. Async.

- bcrypt runs in a pool of its own, never on the event loop. A successful check is cached under a
  keyed hash, so that a pull of many layers costs one check. Equal checks do not run concurrently.
- Every failed check takes the time of the highest bcrypt cost, that of an unknown user too.
- Failures are counted by client: each further answer is delayed longer. Those of a client for one
  user are counted too: then attempts for this user are refused for a while without a check.
  Credentials that are in the cache are accepted regardless of failures.
- Clients take turns at the checks (`airside.registry.auth.turns`), so that the failures of others
  do not keep a client from its first login.
- No secret is stored or logged. The name of a failed login is logged only if that user exists.
"""

import asyncio
import hmac
import logging
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import InitVar, dataclass, field
from functools import partial
from typing import Any

import bcrypt

from airside.registry.auth.turns import Turns
from airside.registry.rules.access import Rights
from airside.registry.rules.accounts import Accounts, Token, cost_of, decoy_of
from airside.registry.rules.credentials import (
    SESSION_PREFIX,
    SESSION_SECONDS,
    AuthMethod,
    Bearer,
    Password,
    Scope,
    Session,
    fingerprint,
    open_session,
    parse_authorization,
    sign,
    stamp_of,
)
from airside.registry.rules.token_bucket import LoginFailures, login_key

THREADS = 2
MAX_REMEMBERED = 1024

_NICENESS = 5
_BCRYPT_BYTES = 72  # bcrypt ignores the rest, and htpasswd truncates there too
_LOG = logging.getLogger("airside.registry")


@dataclass(frozen=True, slots=True)
class Identity:
    """A client and its rights; those of a session are limited to its scopes."""

    how: AuthMethod
    name: str
    rights: Rights
    stamp: str = ""
    scopes: tuple[Scope, ...] | None = None

    @property
    def is_anonymous(self) -> bool:
        return self.how == "anonymous"


@dataclass(frozen=True, slots=True)
class Refused:
    """A failed login. `counts`: it may be a guess, so it is delayed and written to the audit."""

    status: int
    message: str
    name: str = ""
    counts: bool = True
    retry_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Client:
    """The client of a request: its address, and if it has closed its connection meanwhile."""

    address: str
    is_gone: Callable[[], bool] = lambda: False


@dataclass(slots=True)
class _Check:
    """A password check that waits or runs, for all requests with the same credentials."""

    shown: Password
    stored: str | None
    cost: int
    first: InitVar[Client]
    clients: list[Client] = field(init=False)
    task: asyncio.Task[bool] | None = None

    def __post_init__(self, first: Client) -> None:
        self.clients = [first]


class Logins:
    """Checks the credentials of clients. `accounts` returns the accounts that are in force now."""

    def __init__(
        self,
        accounts: Callable[[], Accounts],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._accounts = accounts
        self._clock, self._wall, self._sleep = clock, wall, sleep
        self._key = secrets.token_bytes(32)
        self._pool = ThreadPoolExecutor(THREADS, "passwords", initializer=_give_way)
        self._turns = Turns(THREADS)
        self._verified: OrderedDict[bytes, None] = OrderedDict()
        self._running: dict[bytes, _Check] = {}
        self._failures = LoginFailures()

    async def close(self) -> None:
        """Ends the checks that wait, and waits for those that run."""
        tasks = [check.task for check in self._running.values() if check.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)

    async def identify(
        self, header: str, certificate: Mapping[str, Any] | None, client: Client
    ) -> Identity | Refused:
        """Identifies a client. The answer to a failed attempt is delayed."""
        found = await self._identify(header, certificate, client)
        if isinstance(found, Refused) and found.counts and found.status == 401:
            await self._sleep(self._failures.delay(client.address, self._clock()))
        return found

    def begin_session(self, who: Identity, scopes: tuple[Scope, ...]) -> str:
        """Returns a signed session token, valid for `SESSION_SECONDS`."""
        until = int(self._wall()) + SESSION_SECONDS
        return sign(self._key, Session(who.how, who.name, who.stamp, until, scopes))

    async def _identify(
        self, header: str, certificate: Mapping[str, Any] | None, client: Client
    ) -> Identity | Refused:
        accounts = self._accounts()
        try:  # without any accounts, credentials are ignored
            shown = parse_authorization(header) if accounts.by_challenge else None
        except ValueError as exc:
            return Refused(401, str(exc), counts=False)
        if isinstance(shown, Password):
            return await self._identify_password(accounts, shown, client)
        if isinstance(shown, Bearer):
            if shown.secret.startswith(SESSION_PREFIX):
                return self._identify_session(accounts, shown.secret)
            return self._identify_token(accounts, shown.secret, client)
        user = certificate_user(certificate) if accounts.certificates and certificate else ""
        if user:
            return Identity("certificate", user, accounts.rights_of(user))
        return Identity("anonymous", "", accounts.anonymous)

    # passwords

    async def _identify_password(
        self, accounts: Accounts, shown: Password, client: Client
    ) -> Identity | Refused:
        stored = accounts.users.get(shown.user)
        known = "" if stored is None else shown.user
        found = await self._check(shown, stored, accounts.cost, client)
        if isinstance(found, Refused):
            return Refused(found.status, found.message, known, retry_seconds=found.retry_seconds)
        if not found or stored is None:
            return Refused(401, "wrong user or password", known)
        stamp = stamp_of(self._key, stored)
        return Identity("password", shown.user, accounts.rights_of(shown.user), stamp)

    async def _check(
        self, shown: Password, stored: str | None, cost: int, client: Client
    ) -> bool | Refused:
        text = "\0".join((shown.user, shown.secret, stored or ""))
        proof = hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), "sha256")
        if proof in self._verified:
            self._verified.move_to_end(proof)
            return True
        running = self._running.get(proof)
        if running is None:
            if not self._turns.has_room(login_key(client.address)):
                return Refused(503, "too many concurrent logins; retry in 1 s", retry_seconds=1)
            wait = self._failures.begin(client.address, self._clock(), shown.user)
            if wait:
                return _too_many(wait, "of this user")
            running = self._running[proof] = _Check(shown, stored, cost, client)
            running.task = asyncio.ensure_future(self._run(proof, running))
        else:
            running.clients.append(client)
        assert running.task is not None
        return await asyncio.shield(running.task)

    async def _run(self, proof: bytes, check: "_Check") -> bool:
        """Checks a password when it is its client's turn; not for clients that are gone by then."""
        shown, stored, first = check.shown, check.stored, check.clients[0]
        try:
            async with self._turns.turn(login_key(first.address)):
                if all(client.is_gone() for client in check.clients):
                    return False
                hashed = decoy_of(check.cost) if stored is None else stored
                work = partial(check_password, shown.secret, hashed, check.cost)
                good = await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            del self._running[proof]
        if good and stored is not None:
            self._remember(proof)
            self._failures.succeeded(first.address, self._clock(), shown.user)
        return good

    def _remember(self, proof: bytes) -> None:
        self._verified[proof] = None
        if len(self._verified) > MAX_REMEMBERED:
            self._verified.popitem(last=False)

    # tokens

    def _identify_token(
        self, accounts: Accounts, secret: str, client: Client
    ) -> Identity | Refused:
        token = accounts.tokens.get(fingerprint(secret))
        if token is not None and not self._has_expired(token):
            return self._of_token(token)
        wait = self._failures.begin(client.address, self._clock())
        if wait:
            return _too_many(wait, "with a token")
        if token is not None:
            return Refused(401, f"the token {token.name} has expired", token.name)
        return Refused(401, "the token is unknown to this registry")

    def _of_token(self, token: Token) -> Identity:
        return Identity("token", token.name, token.rights, stamp_of(self._key, token.sha256))

    def _has_expired(self, token: Token) -> bool:
        return token.expires is not None and self._wall() >= token.expires

    def _identify_session(self, accounts: Accounts, text: str) -> Identity | Refused:
        session = open_session(self._key, text, self._wall())
        who = None if session is None else self._current_identity(accounts, session)
        if session is None or who is None or who.stamp != session.stamp:
            return Refused(401, "the session has expired; log in again", counts=False)
        return Identity(who.how, who.name, who.rights, who.stamp, session.scopes)

    def _current_identity(self, accounts: Accounts, session: Session) -> Identity | None:
        """The present identity and rights of the client to which the session was issued.

        None if its account no longer exists.
        """
        name = session.name
        if session.how == "anonymous":
            return Identity("anonymous", "", accounts.anonymous)
        if session.how == "certificate" and accounts.certificates:
            return Identity("certificate", name, accounts.rights_of(name))
        if session.how == "password" and name in accounts.users:
            stamp = stamp_of(self._key, accounts.users[name])
            return Identity("password", name, accounts.rights_of(name), stamp)
        tokens = accounts.tokens.values() if session.how == "token" else ()
        token = next((t for t in tokens if t.name == name and not self._has_expired(t)), None)
        return None if token is None else self._of_token(token)


def check_password(secret: str, stored: str, cost: int = 0) -> bool:
    """Returns True if the password matches the bcrypt hash. Slow on purpose.

    A wrong password takes as long as a hash of `cost` takes, whatever that of `stored` is: the work
    doubles with each cost, so the missing part is one hash of each cost between them.
    """
    data = secret.encode("utf-8", "replace")[:_BCRYPT_BYTES]
    good = _matches(data.replace(b"\0", b"?"), stored) and b"\0" not in data
    if not good:
        for missing in range(cost_of(stored), cost):
            _matches(data, decoy_of(missing))
    return good


def _matches(data: bytes, stored: str) -> bool:
    try:
        return bcrypt.checkpw(data, stored.encode())
    except ValueError:  # a salt that no bcrypt makes: takes no time by itself
        bcrypt.checkpw(b"", decoy_of(cost_of(stored)).encode())
        return False


def _give_way() -> None:
    """Lets a thread of checks run behind those that serve. Only a hint."""
    with suppress(OSError):
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS)


def certificate_user(certificate: Mapping[str, Any]) -> str:
    """The user of a client certificate: its common name, else its first alternative name, or ""."""
    for part in certificate.get("subject", ()):
        for key, value in part:
            if key == "commonName" and value:
                return str(value)
    return next((str(value) for _, value in certificate.get("subjectAltName", ())), "")


def _too_many(wait: float, which: str) -> Refused:
    seconds = max(1, round(wait))
    message = f"too many failed logins {which} from this address; retry in {seconds} s"
    return Refused(429, message, retry_seconds=seconds)
