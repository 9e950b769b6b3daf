"""Whether a containerd asks a registry through the proxy of its environment. Pure.

Follows Go's net/http: never for this host, nor for what NO_PROXY names: `*`, an address, a network,
or a domain with all below it; each may have a port.
"""

from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}


def proxy_for(url: str, environment: Mapping[str, str]) -> str:
    """Returns the proxy for a URL, as the environment says; "" if none."""
    parts = urlsplit(url)
    host, port = (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(parts.scheme, 0)
    name = f"{parts.scheme}_proxy"
    proxy = environment.get(name.upper()) or environment.get(name) or ""
    excepted = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    if not proxy or host == "localhost" or _is_loopback(host):
        return ""
    if any(_names(each.strip().lower(), host, port) for each in excepted.split(",")):
        return ""
    return proxy


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return False


def _names(pattern: str, host: str, port: int) -> bool:
    """Returns True if an entry of NO_PROXY names this host."""
    if pattern in ("", "*"):
        return pattern == "*"
    with suppress(ValueError):
        return ip_address(host) in ip_network(pattern.strip("[]"), strict=False)
    name, colon, number = pattern.rpartition(":")
    if colon and number.isdecimal():
        return int(number) == port and _names(name, host, port)
    bare = pattern.removeprefix("*").removeprefix(".")
    return host.endswith(f".{bare}") or (host == bare and not pattern.startswith((".", "*")))
