"""Ports of loopback for servers that tests start."""

import socket


def free_port() -> int:
    """Returns a port on which nothing listens now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])
