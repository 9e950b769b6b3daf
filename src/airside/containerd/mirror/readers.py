"""The versions of the containerd that read mirror settings, asked on their sockets. Blocking."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from airside.containerd.mirror.cri_config import Version
from airside.containerd.mirror.locations import Node
from airside.containerd.sockets import is_socket, known_sockets
from airside.core.errors import AirsideError

_ANSWER_SECONDS = 2.5
_SHARED = {"rke2": "k3s"}
"""RKE2's containerd listens where that of K3s does."""


def with_readers(nodes: Iterable[Node], sockets: Iterable[str], *, every: bool) -> list[Node]:
    """Returns the nodes with the oldest containerd that answers on their sockets.

    `sockets`: further ones beside the usual. `every`: the nodes were named by hand, so that any of
    the sockets may be theirs. A containerd that does not answer is left out.
    """
    names = {path: name for name, path in known_sockets().items()}
    found: dict[str, list[Version]] = {}
    for path in dict.fromkeys((*names, *sockets)):
        version = _version(path) if is_socket(path) else None
        if version is not None:
            found.setdefault(names.get(path, "containerd"), []).append(version)
    whole = [version for versions in found.values() for version in versions]
    return [
        replace(
            node,
            reader=_oldest(whole if every else found.get(_SHARED.get(node.runtime, node.runtime))),
        )
        for node in nodes
    ]


def _oldest(versions: Sequence[Version] | None) -> Version | None:
    return min(versions) if versions else None


def _version(socket: str) -> Version | None:
    from airside.containerd.client import Client  # noqa: PLC0415 - gRPC only where a containerd is
    from airside.containerd.discovery import parse_version  # noqa: PLC0415

    with suppress(AirsideError), Client.open(socket, patience_seconds=_ANSWER_SECONDS) as client:
        return parse_version(client.version(seconds=_ANSWER_SECONDS))
    return None
