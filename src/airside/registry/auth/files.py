"""The files that secure the registry: certificate, key, client CA, passwords and rules. Blocking.

The files are read at the start, where any error in them is a ConfigError, and again by `reload`
when they have changed. An error in a changed file changes nothing: the previous content stays in
force, the log gives the reason, and the next change is read. Certificate and key count as one file:
while they are being replaced one after the other, the old pair stays in force.

Also decides on which addresses the registry may listen without TLS: on those that only this host
reaches, or on all with `insecure = true`.
"""

import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from airside.core.errors import ConfigError
from airside.core.settings import MIB, Settings
from airside.registry.rules.access import ACTIONS
from airside.registry.rules.accounts import (
    Accounts,
    Anonymous,
    Rules,
    accounts_of,
    parse_htpasswd,
    parse_rules,
)

Loaded = TypeVar("Loaded")
Stamp = tuple[int, ...] | None

_MAX_BYTES = 4 * MIB
_LOG = logging.getLogger("airside.registry")


def is_loopback(host: str, key: str = "listen") -> bool:
    """Returns True if only this host reaches all addresses of the host name of a setting.

    Raises ConfigError if the name cannot be resolved.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise ConfigError(f"cannot listen on {host}: {exc}; choose another {key}", key=key) from exc
    return all(
        ipaddress.ip_address(str(each[4][0]).partition("%")[0]).is_loopback for each in found
    )


def check_exposure(settings: Settings, host: str) -> bool:
    """Returns True for a loopback address. Raises ConfigError if it must not be listened on."""
    if settings.client_ca and not settings.tls_cert:
        raise ConfigError("client_ca needs TLS: set tls_cert and tls_key", key="client_ca")
    if settings.tls_key and not settings.tls_cert:
        raise ConfigError("tls_key is set, tls_cert is not", key="tls_cert")
    local = is_loopback(host)
    if not local and not settings.tls_cert and not settings.insecure:
        raise ConfigError(
            f"{settings.listen} can be reached from other hosts, and TLS is not set up",
            key="listen",
            hint="set tls_cert and tls_key; or listen on 127.0.0.1; or set insecure = true, if "
            "everybody on the network may read passwords and images in transit",
        )
    return local


@dataclass(slots=True)
class _WatchedFiles(Generic[Loaded]):
    """A value that is loaded from files, and the state of the files when it was loaded."""

    what: str
    paths: tuple[Path, ...]
    load: Callable[[], Loaded]
    value: Loaded = field(init=False)
    stamps: tuple[Stamp, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.stamps = self._stamps()
        self.value = self.load()

    def reload(self) -> bool:
        """Loads the value again if a file has changed. Returns True if that succeeded."""
        stamps = self._stamps()
        if stamps == self.stamps:
            return False
        self.stamps = stamps
        try:
            self.value = self.load()
        except ConfigError as exc:
            _LOG.error(
                "cannot reload %s: %s; the previous content stays in force until the next change",
                self.what,
                exc.message,
            )
            return False
        _LOG.info("reloaded %s after a change", self.what)
        return True

    def _stamps(self) -> tuple[Stamp, ...]:
        return tuple(map(_stamp, self.paths))


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class SecurityFiles:
    """The current content of the files.

    `reload` blocks and belongs in a worker thread; everything else is safe to use from any thread.
    """

    def __init__(self, settings: Settings, *, is_loopback: bool) -> None:
        """Reads all files. Raises ConfigError."""
        self._settings, self.is_loopback = settings, is_loopback
        cert, key, ca, htpasswd, access = (
            _path(text)
            for text in (
                *(settings.tls_cert, settings.tls_key, settings.client_ca),
                *(settings.htpasswd, settings.access),
            )
        )
        self._tls = _WatchedFiles(
            "the certificate",
            _present(cert, key, ca),
            lambda: None if cert is None else tls_context(cert, key, ca),
        )
        self._accounts = _WatchedFiles(
            "passwords and rules",
            _present(htpasswd, access),
            lambda: self._read_accounts(htpasswd, access),
        )

    @property
    def tls(self) -> ssl.SSLContext | None:
        return self._tls.value

    @property
    def accounts(self) -> Accounts:
        return self._accounts.value

    @property
    def has_files(self) -> bool:
        """True if any file is configured, so that `reload` may find a change."""
        return bool(self._tls.paths or self._accounts.paths)

    def describe(self) -> dict[str, Any]:
        """The `access` object of `airside status`."""
        accounts = self.accounts
        everybody = [action for action in ACTIONS if accounts.anonymous.may_everywhere(action)]
        return {
            "tls": self.tls is not None,
            "users": len(accounts.users),
            "tokens": len(accounts.tokens),
            "certificates": accounts.certificates,
            "anonymous": everybody if everybody or not accounts.anonymous.rules else ["rules"],
            "read_only": self._settings.read_only,
        }

    def reload(self) -> bool:
        """Reads changed files again. Returns True if any new content is in force."""
        return any([self._tls.reload(), self._accounts.reload()])

    def _read_accounts(self, htpasswd: Path | None, access: Path | None) -> Accounts:
        users: Mapping[str, str] | None = None
        rules: Rules | None = None
        if htpasswd is not None:
            users = _parse_file(htpasswd, parse_htpasswd)
        if access is not None:
            rules = _parse_file(access, parse_rules)
        return accounts_of(
            users,
            rules,
            anonymous=cast("Anonymous", self._settings.anonymous),
            certificates=bool(self._settings.client_ca),
            is_loopback=self.is_loopback,
        )


def open_security_files(settings: Settings, host: str) -> SecurityFiles:
    """Checks the address, and reads the files. Raises ConfigError."""
    return SecurityFiles(settings, is_loopback=check_exposure(settings, host))


def _path(text: str) -> Path | None:
    return Path(text).absolute() if text else None


def _present(*paths: Path | None) -> tuple[Path, ...]:
    return tuple(path for path in paths if path is not None)


def _parse_file(path: Path, parse: Callable[[str], Loaded]) -> Loaded:
    try:
        return parse(_read_text(path))
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path} is not UTF-8") from exc
    except ConfigError as exc:
        raise ConfigError(f"{path}: {exc.message}") from exc


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"the file is larger than {_MAX_BYTES} bytes")
    return data.decode()


def tls_context(cert: Path, key: Path | None, ca: Path | None) -> ssl.SSLContext:
    """A TLS context for the server: 1.2 or later. With a CA, clients may present a certificate.

    Raises ConfigError if a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    pair = " and ".join(map(str, _present(cert, key)))
    try:
        context.load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ValueError) as exc:
        raise ConfigError(f"cannot use {pair}: {_reason(exc)}") from exc
    if ca is None:
        return context
    try:
        context.load_verify_locations(ca)
    except (OSError, ValueError) as exc:
        raise ConfigError(f"cannot use {ca}: {_reason(exc)}") from exc
    context.verify_mode = ssl.CERT_OPTIONAL
    context.options |= ssl.OP_NO_TICKET  # a resumed session skips the check by a new CA
    context.num_tickets = 0
    return context


def _reason(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLError):
        return f"{exc.reason or exc}: is it PEM, unencrypted, and do they belong together?"
    return exc.strerror or str(exc) if isinstance(exc, OSError) else str(exc)
