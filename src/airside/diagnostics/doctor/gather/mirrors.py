"""Checks the mirror settings of each runtime: does it ask Airside's registry first? Blocking."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from airside.containerd.mirror.locations import HostsNode, Node, RegistriesNode, find_nodes
from airside.containerd.mirror.search_order import searches_of
from airside.core.host_root import host_root, on_host
from airside.diagnostics.doctor.facts import Mirror, Runtime

_OF_K3S = "k3s"
_USUAL = Path("/etc/containerd/certs.d")
_WRITE = "airside mirror write --all"


def look_at_mirrors(runtimes: Iterable[Runtime], url: str) -> tuple[Mirror, ...]:
    """Returns the settings of runtimes with CRI; other clients get mirrors by their own options."""
    return tuple(mirror for each in runtimes if each.cri for mirror in _mirrors(each, url))


def _mirrors(runtime: Runtime, url: str) -> Iterator[Mirror]:
    cri = runtime.cri
    assert cri is not None
    if runtime.name == _OF_K3S:
        for node in find_nodes(host_root()):
            if isinstance(node, RegistriesNode):
                yield _mirror(str(node.path), url, replace(node, reader=runtime.numbers or None))
    elif cri.hosts:
        node = HostsNode(runtime.name, cri.hosts, cri.hosts_warning, runtime.numbers or None)
        yield _mirror(runtime.socket, url, node)
    else:
        yield Mirror(runtime.socket, url, _WRITE, reason=f"this user may not read {cri.unread}")


def _mirror(subject: str, url: str, node: Node) -> Mirror:
    searches = searches_of(node)
    read = [each for each in searches if not each.unread]
    asked = [each for each in read if each.begins_with(url)]
    return Mirror(
        subject,
        url,
        _command(node),
        asked=tuple(each.registry for each in asked),
        lacking=tuple(each.registry for each in read if each not in asked),
        warning=node.warning if isinstance(node, HostsNode) else "",
        ignored=_texts(each.ignored for each in read),
        reason=_texts(each.unread for each in searches),
    )


def _texts(reasons: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(filter(None, reasons)))


def _command(node: Node) -> str:
    """The command that writes the settings where this runtime reads them."""
    if isinstance(node, RegistriesNode) or node.roots[0] == on_host(_USUAL):
        return _WRITE
    return f"{_WRITE} --certs-dir {node.roots[0]}"
