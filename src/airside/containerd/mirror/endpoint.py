"""Registry addresses as containerd and K3s read them, and spellings that mean the same one. Pure.

Tried on containerd 1.6.20, 1.7.24 and 2.1.9: an address that does not begin with `http` gets
`https://`, `/v2` is appended to its path, and the letters of a scheme are not folded (`HTTP://` is
a host of that name). K3s reads an address of this host with a port but without a scheme as HTTP.
"""

import re
from ipaddress import ip_address
from posixpath import normpath
from typing import NamedTuple
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}
_API = "/v2"
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not listened on
_NO_URL = re.compile(r"[\x00-\x1f\x7f]|%(?![0-9A-Fa-f]{2})")
_NO_HOST = re.compile(r"[ \\^`{|}]")
_HOST = re.compile(r"\[.*\](?::\d*)?|(?!\[)(?:.*:\d*|[^:]*)")
_LOCAL = ("127.0.0.1", "::1")
"""What the name `localhost` stands for."""


class Endpoint(NamedTuple):
    """A registry that is asked, with the defaults of its spelling filled in."""

    scheme: str
    host: str
    port: int
    path: str

    def means(self, other: "Endpoint | None") -> bool:
        """Returns True if both are spellings of one registry."""
        if other is None or self._replace(host=other.host) != other:
            return False
        hosts = {self.host, other.host}
        return len(hosts) == 1 or ("localhost" in hosts and bool(hosts & set(_LOCAL)))


def of_containerd(address: str, *, override_path: bool = False) -> Endpoint | None:
    """Parses the key of a `[host]` table or a `server`; None if containerd cannot."""
    return _parsed(_with_scheme(address), override_path=override_path)


def is_parsed(address: str) -> bool:
    """Returns False for an address that Go parses as no URL; containerd then ignores the file."""
    url = _with_scheme(address).partition("#")[0].partition("?")[0]
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    return not _NO_URL.search(url) and not _NO_HOST.search(host) and bool(_HOST.fullmatch(host))


def _with_scheme(address: str) -> str:
    return address if address.startswith("http") else f"https://{address}"


def of_k3s(address: str) -> Endpoint | None:
    """Parses an `endpoint` of a `registries.yaml`; None if K3s cannot."""
    if "://" in address:
        return _parsed(address)
    found = _parsed(f"https://{address}")
    if found is None or found.port == _PORTS["https"] or not _is_loopback(found.host):
        return found
    return found._replace(scheme="http")


def has_brackets(address: str) -> bool:
    """Returns True for an IPv6 literal. containerd 1.x reads no `[host]` table of such a name."""
    return "[" in address


def _parsed(url: str, *, override_path: bool = False) -> Endpoint | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not url.startswith(f"{parts.scheme}:") or not parts.hostname:
        return None
    path = normpath(parts.path) if parts.path else ""
    path = path.rstrip("/") if path.strip("/") else ""
    if not path.endswith(_API) and not override_path:
        path += _API
    return Endpoint(parts.scheme, _host(parts.hostname), port or _PORTS[parts.scheme], path)


def _host(text: str) -> str:
    host = text.lower().rstrip(".")
    try:
        address = ip_address(host)
    except ValueError:
        return host
    mapped = getattr(address, "ipv4_mapped", None)
    found = str(mapped or address)
    return _ANY.get(found, found)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
