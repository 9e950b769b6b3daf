"""The middleware that controls access to the registry. Async.

`registry.rules.access` decides which rights a request needs and has, `registry.auth.login` who the
client is. This module refuses requests (401 with a challenge, 403, 405, 413, 429), answers
`/token`, writes the audit log, and stores the rights of the client in the request under `ACCESS`.

If everybody may pull everything, reads without credentials skip all checks.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from aiohttp import hdrs, web

from airside.core.settings import Settings
from airside.oci.reference import is_host
from airside.ports.content import RegistryView
from airside.registry.auth.login import Client, Identity, Logins, Refused
from airside.registry.http.audit import audit, audit_write
from airside.registry.http.request_access import ACCESS, WHO, Access
from airside.registry.http.requests import client_of, target_of
from airside.registry.http.responses import response_of
from airside.registry.http.throttle import IN, OUT, throttle_of
from airside.registry.rules.access import (
    READING,
    Everywhere,
    Need,
    Requirement,
    Rights,
    Verdict,
    judge,
    parse_needs,
)
from airside.registry.rules.accounts import Accounts
from airside.registry.rules.answers import Answer, problem
from airside.registry.rules.credentials import (
    SESSION_SECONDS,
    Scope,
    basic_challenge,
    bearer_challenge,
    covers,
    parse_scopes,
    scopes_of,
)
from airside.registry.rules.requests import ListCatalog, Ping
from airside.registry.rules.web_pages import METRICS, PUBLIC

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_PING = frozenset({"/v2", "/v2/"})


@dataclass(slots=True)
class _Call:
    """One request, its requirement and its client."""

    request: web.Request
    requirement: Requirement
    who: Identity

    @property
    def needs(self) -> tuple[Need, ...]:
        return self.requirement if isinstance(self.requirement, tuple) else ()

    @property
    def writes(self) -> bool:
        if isinstance(self.requirement, Everywhere):
            return self.requirement.writes
        return any(need.writes for need in self.needs)


class AccessGuard:
    """The middleware. Call `close` when no request is left."""

    def __init__(
        self,
        view: RegistryView,
        accounts: Callable[[], Accounts],
        settings: Settings,
        reads: Executor,
        *,
        logins: Logins | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`wall`: the time by which tokens and sessions expire."""
        self._view, self._accounts, self._settings, self._reads = view, accounts, settings, reads
        self._logins = logins or Logins(accounts, wall=wall)
        self._throttles = [
            (key, throttle)
            for key in (OUT, IN)
            if (throttle := throttle_of(settings.bandwidth_bytes, settings.client_bandwidth_bytes))
        ]

    async def close(self) -> None:
        await self._logins.close()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        for key, throttle in self._throttles:
            request[key] = throttle
        target = target_of(request)
        path = target.partition("?")[0]
        if path == METRICS and self._settings.metrics == "none":
            return response_of(
                problem(404, "UNKNOWN", "/metrics is switched off (setting metrics)")
            )
        is_open = path in PUBLIC or (path == METRICS and self._settings.metrics == "all")
        if is_open or self._is_public(request, path):
            return await handler(request)
        who = await self._logins.identify(
            request.headers.get(hdrs.AUTHORIZATION, ""),
            _certificate(request),
            Client(client_of(request), lambda: request.transport is None),
        )
        if path == "/token":
            return self._token(request, who)
        if isinstance(who, Refused):
            return self._login_refused(request, parse_needs(request.method, target), who)
        return await self._respond(
            _Call(request, parse_needs(request.method, target), who), handler
        )

    def _is_public(self, request: web.Request, path: str) -> bool:
        return (
            request.method in READING
            and hdrs.AUTHORIZATION not in request.headers
            and "/uploads/" not in path
            and "%" not in path
            and path not in _PING
            and path != "/token"
            and self._accounts().anonymous.may_everywhere("pull")
        )

    async def _respond(self, call: _Call, handler: Handler) -> web.StreamResponse:
        verdicts: list[Verdict] = []
        if isinstance(call.requirement, Answer):
            everything = call.who.rights.may_everywhere("pull")
            if target_of(call.request).partition("?")[0] == METRICS and not everything:
                return self._denied(call)
            if call.request.method not in READING or not everything:
                return response_of(call.requirement)
        else:
            refused = self._refusal(call)
            if refused is not None:
                return refused
            verdicts = await self._judge(call)
            if "denied" in verdicts:
                return self._denied(call)
        if call.who.rights.view_key or call.who.scopes is not None:
            call.request[ACCESS] = Access(call.who.rights, call.who.scopes)
        call.request[WHO] = call.who
        response = await handler(call.request)
        is_hidden = response.status == 404 and "partly" in verdicts  # perhaps
        if is_hidden and call.who.scopes is None and self._could_log_in(call):
            return self._denied(call)
        if call.writes:
            audit_write(call.request, call.who, call.needs, response.status)
        return response

    def _refusal(self, call: _Call) -> web.Response | None:
        """The refusal that does not depend on the repository; None if there is none."""
        who, accounts = call.who, self._accounts()
        if call.writes and self._settings.read_only:
            audit(call.request, who, "denied", call.needs, 405)
            message = "this registry is read-only (setting read_only)"
            return response_of(problem(405, "UNSUPPORTED", message, None, ("Allow", "GET, HEAD")))
        if isinstance(call.requirement, Ping):
            closed = who.is_anonymous and who.scopes is None and _asks_for_login(accounts)
            return self._denied(call) if closed else None
        if isinstance(call.requirement, Everywhere):
            may = who.scopes is None and who.rights.may_everywhere(call.requirement.action)
            return None if may else self._denied(call)
        if who.scopes is not None and not covers(who.scopes, call.requirement):
            return self._challenge(call.request, call.requirement, error="insufficient_scope")
        if isinstance(call.requirement, ListCatalog):
            return None if _may_pull_any(who.rights) else self._denied(call)
        return self._too_large(call)

    def _too_large(self, call: _Call) -> web.Response | None:
        limits = self._settings.limits
        is_document = "/manifests/" in call.request.path
        limit = limits.document_bytes if is_document else limits.upload_bytes
        if not call.writes or (call.request.content_length or 0) <= limit:
            return None
        name = "document_bytes" if is_document else "upload_bytes"
        message = f"the body is larger than {limit} bytes (setting limits.{name})"
        return response_of(problem(413, "SIZE_INVALID", message))

    async def _judge(self, call: _Call) -> list[Verdict]:
        rights = call.who.rights
        if all(rights.may_everywhere(need.action) for need in call.needs):
            return ["allowed"] * len(call.needs)
        registry = self._settings.default_registry
        job = self._reads.submit(
            lambda: [judge(self._view, rights, need, registry) for need in call.needs]
        )
        return await asyncio.wrap_future(job)

    # refusing

    def _denied(self, call: _Call) -> web.Response:
        """401 for a client that can still log in, else 403."""
        who = call.who
        if self._could_log_in(call):
            return self._challenge(call.request, call.requirement)
        audit(call.request, who, "denied", call.needs, 403)
        hint = (
            "" if not who.is_anonymous else "; nobody can log in: htpasswd and access are not set"
        )
        what = ", ".join(f"{need.action} {need.name}" for need in call.needs) or "this"
        if isinstance(call.requirement, Everywhere):
            action = call.requirement.action
            what = f"the page has all names: it needs the right to {action} all images; this"
        return response_of(problem(403, "DENIED", f"{what} is not allowed{hint}"))

    def _could_log_in(self, call: _Call) -> bool:
        return call.who.is_anonymous and self._accounts().any_login

    def _login_refused(
        self, request: web.Request, requirement: Requirement, why: Refused
    ) -> web.Response:
        self._audit_failure(request, why)
        if why.status == 401:
            return self._challenge(request, requirement, message=why.message, error="invalid_token")
        retry = ("Retry-After", str(why.retry_seconds))
        return response_of(problem(why.status, "TOOMANYREQUESTS", why.message, None, retry))

    def _challenge(
        self,
        request: web.Request,
        requirement: Requirement,
        *,
        message: str = "log in first",
        error: str = "",
    ) -> web.Response:
        """A 401 with a challenge: `/token` if anonymous clients have any rights, else Basic.

        Every client supports Basic. But only the token flow also serves clients without
        credentials, which get an anonymous token (ADR 0018).
        """
        accounts, url = self._accounts(), self._url(request)
        challenge = basic_challenge()
        is_page = isinstance(requirement, Everywhere)  # browsers know Basic only
        if accounts.anonymous.rules and accounts.by_challenge and url and not is_page:
            challenge = bearer_challenge(url, scopes_of(requirement), error=error)
        header = ("WWW-Authenticate", challenge)
        return response_of(problem(401, "UNAUTHORIZED", message, None, header))

    def _url(self, request: web.Request) -> str:
        if self._settings.public_url:
            return self._settings.public_url.rstrip("/")
        host = request.headers.get(hdrs.HOST, "")
        return f"{'https' if request.secure else 'http'}://{host}" if is_host(host) else ""

    # the token endpoint

    def _token(self, request: web.Request, who: Identity | Refused) -> web.Response:
        if request.method != "GET":
            message = "/token supports GET only"
            return response_of(problem(405, "UNSUPPORTED", message, None, ("Allow", "GET")))
        if isinstance(who, Refused):
            self._audit_failure(request, who)
            more = ("WWW-Authenticate", basic_challenge())
            if who.status != 401:
                more = ("Retry-After", str(who.retry_seconds))
            code = "UNAUTHORIZED" if who.status == 401 else "TOOMANYREQUESTS"
            return response_of(problem(who.status, code, who.message, None, more))
        try:
            scopes = parse_scopes(request.query.getall("scope", []))
        except ValueError as exc:
            return response_of(problem(400, "UNSUPPORTED", str(exc)))
        if who.scopes is not None:
            return response_of(
                problem(403, "DENIED", "a session token cannot be used to get another one")
            )
        return self._session(who, scopes)

    def _session(self, who: Identity, scopes: tuple[Scope, ...]) -> web.Response:
        token = self._logins.begin_session(who, scopes)
        body = {"token": token, "access_token": token, "expires_in": SESSION_SECONDS}
        headers = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
        return response_of(Answer(200, json.dumps(body).encode(), headers))

    def _audit_failure(self, request: web.Request, why: Refused) -> None:
        if why.counts:
            who = Identity("anonymous", why.name, Rights())
            audit(request, who, "login failed", (), why.status)


def _asks_for_login(accounts: Accounts) -> bool:
    """Returns True if `/v2/` answers 401, from which clients learn whether and how to log in."""
    return accounts.by_challenge or not accounts.anonymous.rules


def _may_pull_any(rights: Rights) -> bool:
    return any("pull" in rule.actions for rule in rights.rules)


def _certificate(request: web.Request) -> Mapping[str, Any] | None:
    if request.transport is None:
        return None
    found: Mapping[str, Any] | None = request.transport.get_extra_info("peercert")
    return found
