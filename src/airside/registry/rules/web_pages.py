"""The names that the registry answers to, and what web pages may ask of it. Pure.

A browser sends the requests of any web page to a loopback address, too. Always holds:

- Where names are checked (on a loopback address without TLS; on every address without TLS if
  `allowed_hosts` is set), a request is answered only if each name that it gives the server is
  known: its one `Host` header, and the authority of a target in absolute form. So a page that
  rebinds its own DNS name to this host gets nothing. Only probes of `PUBLIC` paths by HTTP/1.0,
  which no browser sends, may lack the header. Ports are ignored: tunnels change them, and a
  page cannot rebind a name that it does not own.
- A request that writes is refused if its `Origin` is not the registry's own, or if the browser says
  (`Sec-Fetch-Site`) that a page of another origin sent it. This holds on every address.
- A request that reads is refused if the browser says so, as it may fetch content from an upstream
  registry, and its status tells what is here. `PUBLIC` paths reveal nothing and are answered. So is
  a link that somebody follows to a document of `PAGE` (a tab shows it, no frame, and the page that
  has the link cannot read it).
- No response grants a page of another origin anything (CORS).

What a client is allowed to do besides is left to `registry.rules.access`.
"""

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from airside.core.listen_address import parse_listen
from airside.core.settings import Settings
from airside.registry.rules.answers import Answer, problem

PUBLIC = frozenset({"/", "/healthz", "/readyz"})
"""Paths that reveal nothing about images."""
METRICS = "/metrics"
PAGE = "/ui"
"""The path of the web page, and the start of those below it."""
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

_AUTHORITY = re.compile(r"(?:\[([^\]%]+)(?:%[^\]]*)?\]|([^][:@/?#\s]+))(?::([0-9]{0,5}))?\Z")
_PORTS = {"http": 80, "https": 443}
_OWN_SITES = frozenset({"same-origin", "none"})
_WILDCARDS = frozenset({"0.0.0.0", "::", "*"})  # noqa: S104 - names that are no host's


class Authority(NamedTuple):
    """A host in lower case without a final dot, and its port; -1 if the text has none."""

    host: str
    port: int


class Origin(NamedTuple):
    """The origin of a web page (RFC 6454)."""

    scheme: str
    host: str
    port: int


@lru_cache(maxsize=256)
def parse_authority(text: str) -> Authority | None:
    """Parses `host`, `host:port` or `[address]:port`; None if it is malformed."""
    match = _AUTHORITY.match(text)
    if match is None:
        return None
    host = (match[1] or match[2]).lower().removesuffix(".")
    if match[1] or host.replace(".", "").isdigit():
        try:
            host = str(ipaddress.ip_address(host))
        except ValueError:
            return None
    return Authority(host, int(match[3]) if match[3] else -1) if host else None


def parse_origin(text: str) -> Origin | None:
    """Parses `scheme://host[:port]`; None if it is malformed, or `null`."""
    scheme, mark, rest = text.lower().partition("://")
    found = parse_authority(rest) if mark and scheme in _PORTS else None
    return found and _origin(scheme, found)


def _origin(scheme: str, authority: Authority) -> Origin:
    port = _PORTS[scheme] if authority.port < 0 else authority.port
    return Origin(scheme, authority.host, port)


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What decides on a request. Header values are as sent, one for each header."""

    method: str
    path: str
    hosts: tuple[str, ...]
    origins: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    """Values of `Sec-Fetch-Site`."""
    fetches: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    """Values of `Sec-Fetch-Mode` and of `Sec-Fetch-Dest`."""
    authority: str | None = None
    """That of a target in absolute form; None in origin form."""
    scheme: str = "http"
    is_http_1_0: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return self.hosts if self.authority is None else (*self.hosts, self.authority)

    @property
    def follows_link(self) -> bool:
        """True if a browser opens a document of the page in a tab; all of them change nothing."""
        is_page = self.path == PAGE or self.path.startswith(f"{PAGE}/")
        return self.method == "GET" and is_page and self.fetches == (("navigate",), ("document",))

    @property
    def may_lack_host(self) -> bool:
        """True for the probe of a proxy or monitor, such as HAProxy's `OPTIONS / HTTP/1.0`."""
        return self.is_http_1_0 and self.method in SAFE and self.path in PUBLIC


@dataclass(frozen=True, slots=True)
class KnownNames:
    """The names of this registry. `is_checked`: others are not answered."""

    hosts: frozenset[str]
    authorities: frozenset[Authority] = frozenset()
    """The entries of `allowed_hosts`: a page of one of them is the registry's own."""
    origins: frozenset[Origin] = frozenset()
    is_checked: bool = True
    has_addresses: bool = False
    """Other hosts reach it: every IP address is a name, which no page can rebind."""
    listen: str = ""

    def refusal(self, request: PageRequest) -> Answer | None:
        """Returns why a request is not answered; None if it is."""
        if self.is_checked:
            if len(request.hosts) != 1 and (request.hosts or not request.may_lack_host):
                found = f"{len(request.hosts)} Host headers"
                return problem(400, "DENIED", f"a request needs one Host header, found {found}")
            unknown = next((name for name in request.names if not self.knows(name)), None)
            if unknown is not None:
                return self._misdirected(unknown)
        return self._foreign(request)

    def knows(self, text: str) -> bool:
        """Returns True if the text of a Host header names this registry."""
        authority = parse_authority(text)
        if authority is None:
            return False
        if self.has_addresses and _address(authority.host) is not None:
            return True
        return authority.host in self.hosts or _is_loopback(authority.host)

    def _misdirected(self, name: str) -> Answer:
        message = (
            f"{name[:200]!r} is not a name of this registry: use {self.listen}, "
            "or add the name to the setting allowed_hosts"
        )
        return problem(421, "DENIED", message, {"setting": "allowed_hosts"})

    def _foreign(self, request: PageRequest) -> Answer | None:
        is_read = request.method in SAFE
        if is_read and (request.path in PUBLIC or request.method == "OPTIONS"):
            return None
        what = "a web page of another origin may not use this registry, found"
        foreign = [site for site in request.sites if site.strip().lower() not in _OWN_SITES]
        if foreign and request.follows_link:
            return None
        if foreign:  # whatever the settings
            return problem(403, "DENIED", f"{what} Sec-Fetch-Site: {foreign[0][:200]!r}")
        if not is_read:
            foreign = [text for text in request.origins if not self._owns(text, request)]
        if not foreign:
            return None
        message = (
            f"{what} Origin: {foreign[0][:200]!r}; "
            "if the page is this registry's, add its host to the setting allowed_hosts"
        )
        return problem(403, "DENIED", message, {"setting": "allowed_hosts"})

    def _owns(self, text: str, request: PageRequest) -> bool:
        origin = parse_origin(text.strip())
        if origin is None:
            return False
        if origin in self.origins or self._allows(origin):
            return True
        asked = [parse_authority(host) for host in request.hosts]
        return any(host and _origin(request.scheme, host) == origin for host in asked)

    def _allows(self, origin: Origin) -> bool:
        default = origin.port == _PORTS[origin.scheme]
        fitting = {Authority(origin.host, origin.port)}
        return bool(
            self.authorities & (fitting | ({Authority(origin.host, -1)} if default else set()))
        )


def known_names(settings: Settings, *, is_loopback: bool) -> KnownNames:
    """Returns the names by the settings. `is_loopback`: `listen` is reached by this host only."""
    host, _ = parse_listen(settings.listen)
    allowed = [parse_authority(text) for text in settings.allowed_hosts]
    known = [*allowed, *(parse_authority(text) for text in settings.registry_names)]
    origin = parse_origin(settings.public_url.partition("://")[0] + "://" + _host_of(settings))
    hosts = {authority.host for authority in known if authority} | {"localhost"}
    hosts |= {origin.host} if origin else set()
    hosts |= {host.lower().removesuffix(".")} - _WILDCARDS
    return KnownNames(
        frozenset(hosts),
        frozenset(each for each in allowed if each),
        frozenset({origin} if origin else ()),
        is_checked=not settings.tls_cert
        and (is_loopback or bool(settings.allowed_hosts))
        and "*" not in settings.allowed_hosts,
        has_addresses=not is_loopback,
        listen=settings.listen,
    )


def _host_of(settings: Settings) -> str:
    return settings.public_url.partition("://")[2].partition("/")[0].rpartition("@")[2]


@lru_cache(maxsize=256)
def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_loopback
