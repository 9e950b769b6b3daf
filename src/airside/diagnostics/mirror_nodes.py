"""The mirror settings of the runtimes in use, wherever they are: for `explain`. Blocking.

As the doctor finds them: by the configuration of the containerd that listens on each socket, be it
started with another file or directory. Where none answers, by the usual places on this host.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace

from airside.containerd.client import Client
from airside.containerd.cri import Cri
from airside.containerd.discovery import parse_version
from airside.containerd.mirror.locations import HostsNode, Node, RegistriesNode, find_nodes
from airside.containerd.sockets import known_sockets
from airside.core.errors import AirsideError
from airside.core.host_root import host_root
from airside.diagnostics.doctor.gather.configs import config_paths, read_configs
from airside.diagnostics.doctor.gather.cris import hosts_in_use, parsed_config
from airside.diagnostics.doctor.gather.processes import PROC, command_line
from airside.diagnostics.doctor.gather.sockets import probe

_ANSWER_SECONDS = 1.0
_OF_K3S = "k3s"


def nodes_at(sockets: Iterable[str]) -> list[tuple[Node, str]]:
    """Returns the settings of the containerd at these sockets, and why one does not read them.

    Raises UnavailableError.
    """
    found = [each for path in dict.fromkeys(sockets) for each in _at(path)]
    return list(dict.fromkeys(found)) or [(node, "") for node in find_nodes(host_root())]


def _at(path: str) -> Iterator[tuple[Node, str]]:
    name = {socket: name for name, socket in known_sockets().items()}.get(path, "containerd")
    probed = probe(path)
    if probed.state != "answers":
        return
    words = command_line(PROC / str(probed.pid)) if probed.pid else []
    files = read_configs(config_paths(words, name))
    with suppress(AirsideError), Client.open(path, patience_seconds=_ANSWER_SECONDS) as client:
        numbers = parse_version(client.version(seconds=_ANSWER_SECONDS))
        if name == _OF_K3S:
            yield from _rancher(numbers)
            return
        config = parsed_config(Cri(client.channel).status()[1].get("config", ""))
        hosts, warning = hosts_in_use(config, numbers, files)
        if hosts:
            yield HostsNode(name, hosts, numbers), warning


def _rancher(numbers: tuple[int, ...]) -> Iterator[tuple[Node, str]]:
    for node in find_nodes(host_root()):
        if isinstance(node, RegistriesNode):
            yield replace(node, reader=numbers), ""
