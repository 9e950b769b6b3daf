"""Identifies clients by password, token, session or certificate. Async.

- bcrypt runs in a pool of its own, never on the event loop. A successful check is cached under a
  keyed hash, so that a pull of many layers costs one check. Equal checks do not run concurrently.
- An unknown user costs a check as well. Failures are counted by client: each further answer is
  delayed longer, then attempts are refused for a while without a check. Credentials that are in the
  cache are accepted regardless of failures.
- No secret is stored or logged. The name of a failed login is logged only if that user exists.
"""

import asyncio
import hmac
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import bcrypt

from airside.registry.rules.access import Rights
from airside.registry.rules.accounts import Accounts, Token
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
from airside.registry.rules.token_bucket import LoginFailures

THREADS = 2
MAX_REMEMBERED = 1024
MAX_CHECKS = 64
"""Limit of checks that run or wait; further ones are refused at once."""

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
        self._pool = ThreadPoolExecutor(THREADS, "passwords")
        self._verified: OrderedDict[bytes, None] = OrderedDict()
        self._running: dict[bytes, asyncio.Future[bool]] = {}
        self._failures = LoginFailures()

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def identify(
        self, header: str, certificate: Mapping[str, Any] | None, client: str
    ) -> Identity | Refused:
        """Identifies a client. The answer to a failed attempt is delayed."""
        found = await self._identify(header, certificate, client)
        if isinstance(found, Refused) and found.counts and found.status == 401:
            await self._sleep(self._failures.delay(client, self._clock()))
        return found

    def begin_session(self, who: Identity, scopes: tuple[Scope, ...]) -> str:
        """Returns a signed session token, valid for `SESSION_SECONDS`."""
        until = int(self._wall()) + SESSION_SECONDS
        return sign(self._key, Session(who.how, who.name, who.stamp, until, scopes))

    async def _identify(
        self, header: str, certificate: Mapping[str, Any] | None, client: str
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
        self, accounts: Accounts, shown: Password, client: str
    ) -> Identity | Refused:
        stored = accounts.users.get(shown.user)
        known = "" if stored is None else shown.user
        found = await self._check(shown, stored, accounts.decoy, client)
        if isinstance(found, Refused):
            return Refused(found.status, found.message, known, retry_seconds=found.retry_seconds)
        if not found or stored is None:
            return Refused(401, "wrong user or password", known)
        stamp = stamp_of(self._key, stored)
        return Identity("password", shown.user, accounts.rights_of(shown.user), stamp)

    async def _check(
        self, shown: Password, stored: str | None, decoy: str, client: str
    ) -> bool | Refused:
        text = "\0".join((shown.user, shown.secret, stored or ""))
        proof = hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), "sha256")
        if proof in self._verified:
            self._verified.move_to_end(proof)
            return True
        running = self._running.get(proof)
        if running is None:
            if len(self._running) >= MAX_CHECKS:
                return Refused(503, "too many concurrent logins; retry in 1 s", retry_seconds=1)
            wait = self._failures.begin(client, self._clock())
            if wait:
                return _too_many(wait)
            running = self._start(proof, shown.secret, stored, decoy, client)
        return await asyncio.shield(running)

    def _start(
        self, proof: bytes, secret: str, stored: str | None, decoy: str, client: str
    ) -> asyncio.Future[bool]:
        job = self._pool.submit(check_password, secret, stored or decoy)
        running = self._running[proof] = asyncio.wrap_future(job)

        def done(future: asyncio.Future[bool]) -> None:
            del self._running[proof]
            if future.cancelled() or future.exception() is not None:
                return
            if future.result() and stored is not None:
                self._remember(proof)
                self._failures.succeeded(client, self._clock())

        running.add_done_callback(done)
        return running

    def _remember(self, proof: bytes) -> None:
        self._verified[proof] = None
        if len(self._verified) > MAX_REMEMBERED:
            self._verified.popitem(last=False)

    # tokens

    def _identify_token(self, accounts: Accounts, secret: str, client: str) -> Identity | Refused:
        token = accounts.tokens.get(fingerprint(secret))
        if token is not None and not self._has_expired(token):
            return self._of_token(token)
        wait = self._failures.begin(client, self._clock())
        if wait:
            return _too_many(wait)
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


def check_password(secret: str, stored: str) -> bool:
    """Returns True if the password matches the bcrypt hash. Slow on purpose."""
    data = secret.encode("utf-8", "replace")[:_BCRYPT_BYTES]
    try:
        return b"\0" not in data and bcrypt.checkpw(data, stored.encode())
    except ValueError:
        return False


def certificate_user(certificate: Mapping[str, Any]) -> str:
    """The user of a client certificate: its common name, else its first alternative name, or ""."""
    for part in certificate.get("subject", ()):
        for key, value in part:
            if key == "commonName" and value:
                return str(value)
    return next((str(value) for _, value in certificate.get("subjectAltName", ())), "")


def _too_many(wait: float) -> Refused:
    seconds = max(1, round(wait))
    message = f"too many failed logins from this address; retry in {seconds} s"
    return Refused(429, message, retry_seconds=seconds)
