"""Checks the mirror settings of each runtime: does it ask Airside's registry first? Blocking."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from airside.containerd.mirror.locations import HostsNode, Node, RegistriesNode, find_nodes
from airside.containerd.mirror.search_order import DEFAULTS, searches_of
from airside.core.host_root import host_root, on_host
from airside.diagnostics.doctor.facts import Mirror, Runtime
from airside.diagnostics.pull_commands import USUAL_ADDRESS
from airside.oci.reference import DEFAULT_HOST, looks_like_host

_OF_K3S = "k3s"
_USUAL = Path("/etc/containerd/certs.d")
_WRITE = "airside mirror write --all"
_HUB = "registry-1.docker.io"
_REGISTRIES = 2


def look_at_mirrors(
    runtimes: Iterable[Runtime], url: str, names: Iterable[str] = ()
) -> tuple[Mirror, ...]:
    """Returns the settings of runtimes with CRI; other clients get mirrors by their own options.

    `names`: of images, whose registries stand for all others.
    """
    usual = _registries(names)
    return tuple(
        replace(mirror, proxies=each.proxies)
        for each in runtimes
        if each.cri
        for mirror in _mirrors(each, url, usual)
    )


def _registries(names: Iterable[str]) -> list[str]:
    """Returns the registries of most of these names."""
    hosts = Counter(host for host in (n.partition("/")[0] for n in names) if looks_like_host(host))
    return [host for host, _ in hosts.most_common(_REGISTRIES)] or [DEFAULT_HOST]


def _mirrors(runtime: Runtime, url: str, usual: Sequence[str]) -> Iterator[Mirror]:
    cri = runtime.cri
    assert cri is not None
    if runtime.name == _OF_K3S:
        for node in find_nodes(host_root()):
            if isinstance(node, RegistriesNode):
                read = replace(node, reader=runtime.numbers or None)
                yield _mirror(str(node.path), url, read, usual)
    elif cri.hosts:
        node = HostsNode(runtime.name, cri.hosts, runtime.numbers or None)
        yield replace(_mirror(runtime.socket, url, node, usual), warning=cri.hosts_warning)
    else:
        yield Mirror(
            runtime.socket, url, _command(None, url), reason=f"this user may not read {cri.unread}"
        )


def _mirror(subject: str, url: str, node: Node, usual: Sequence[str]) -> Mirror:
    searches = searches_of(node)
    read = [each for each in searches if not each.unread]
    asked = [each for each in read if each.begins_with(url)]
    return Mirror(
        subject,
        url,
        _command(node, url),
        asked=tuple(each.registry for each in asked),
        lacking=tuple(each.registry for each in read if each not in asked),
        ignored=_texts(each.ignored for each in read),
        reason=_texts(each.unread for each in searches),
        then={
            name: tuple(address or own_address(name) for address in each.after(url))
            for each in asked
            for name in (usual if each.registry in DEFAULTS else (each.registry,))
        },
    )


def own_address(registry: str) -> str:
    """Returns what containerd asks for a registry without a mirror."""
    return f"https://{_HUB if registry == DEFAULT_HOST else registry}"


def _texts(reasons: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(filter(None, reasons)))


def _command(node: Node | None, url: str) -> str:
    """The command that writes the settings where this runtime reads them."""
    scheme, _, address = url.partition("://")
    where = "" if scheme == "https" or address == USUAL_ADDRESS else f" --address {address}"
    if isinstance(node, HostsNode) and node.roots[0] != on_host(_USUAL):
        where += f" --certs-dir {node.roots[0]}"
    return f"{_WRITE}{where}"
