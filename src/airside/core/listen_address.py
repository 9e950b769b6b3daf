"""The addresses that the agent listens on, as settings name them. Pure."""

from airside.core.errors import ConfigError

_HIGHEST_PORT = 65535


def parse_listen(text: str, key: str = "listen") -> tuple[str, int]:
    """Parse `HOST:PORT`, `[::1]:5050` or `:5050` of a setting. Raises ConfigError."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > _HIGHEST_PORT:
        raise ConfigError(
            f"{key} must be HOST:PORT, such as 127.0.0.1:5050, found {text!r:.200}", key=key
        )
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - asked for by an empty host
