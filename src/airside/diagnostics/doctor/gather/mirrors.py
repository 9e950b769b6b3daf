"""Checks the mirror settings of each runtime: does it ask Airside's registry first? Blocking.

Plans `airside mirror write`: settings that the plan does not change exist already.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from airside.containerd.mirror.apply import Change, plan_write
from airside.containerd.mirror.locations import HostsNode, Node, RegistriesNode, find_nodes
from airside.core.host_root import host_root, on_host
from airside.diagnostics.doctor.facts import Mirror, Runtime

_THERE = {"unchanged", "kept"}
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
                yield _mirror(str(node.path), url, node)
    elif cri.hosts:
        node = HostsNode(runtime.name, cri.hosts, cri.hosts_warning)
        yield _mirror(runtime.socket, url, node)
    else:
        yield Mirror(runtime.socket, url, _WRITE, reason=f"this user may not read {cri.unread}")


def _mirror(subject: str, url: str, node: Node) -> Mirror:
    changes = plan_write([node], url, None)
    refused = [change.error.message for change in changes if change.error is not None]
    planned = [change for change in changes if change.error is None]
    return Mirror(
        subject,
        url,
        _command(node),
        asked=_registries(c for c in planned if c.state in _THERE),
        lacking=_registries(c for c in planned if c.state not in _THERE),
        warning=node.warning if isinstance(node, HostsNode) else "",
        reason="; ".join(refused),
    )


def _command(node: Node) -> str:
    """The command that writes the settings where this runtime reads them."""
    if isinstance(node, RegistriesNode) or node.roots[0] == on_host(_USUAL):
        return _WRITE
    return f"{_WRITE} --certs-dir {node.roots[0]}"


def _registries(changes: Iterable[Change]) -> tuple[str, ...]:
    found: Sequence[str] = [name for change in changes for name in change.registries]
    return tuple(dict.fromkeys(found))
