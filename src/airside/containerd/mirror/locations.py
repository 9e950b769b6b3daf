"""Finds the mirror settings of this machine: K3s, RKE2, k0s, MicroK8s and plain containerd.

A runtime counts as installed if a directory of its installation exists, so that settings can be
written before its first start. K3s and RKE2 generate containerd's files from a `registries.yaml` at
each start; the others read `hosts.toml` files.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from airside.containerd.mirror.atomic_file import is_there, names_in, read_text
from airside.containerd.mirror.cri_config import (
    Registry,
    Version,
    advice,
    registry_settings,
)
from airside.containerd.mirror.k0s_drop_in import drop_in_file, is_merged
from airside.core.errors import AirsideError
from airside.core.host_root import below, in_host

_MOST_FILES = 200
"""Configuration files that are read of one containerd, at most."""
_RANCHER = (
    ("k3s", "etc/rancher/k3s", "var/lib/rancher/k3s"),
    ("rke2", "etc/rancher/rke2", "var/lib/rancher/rke2"),
)
_K0S = ("etc/k0s", "var/lib/k0s")
_MICROK8S = "var/snap/microk8s/current/args"
_CONTAINERD = ("etc/containerd", "run/containerd/containerd.sock")


@dataclass(frozen=True, slots=True)
class HostsNode:
    """A containerd that reads `hosts.toml` from these directories; the first that fits counts."""

    runtime: str
    roots: tuple[Path, ...]
    reader: Version | None = None
    """The oldest containerd that reads them; None if unknown."""
    registry: Registry | None = None
    """The settings that name these directories; None if they were named by hand."""
    config: str = ""
    """The file of these settings."""
    drop_in: Path | None = None
    """A file of ours that names the directory; None if nobody reads one, or others named it."""

    @property
    def warning(self) -> str:
        """Returns why containerd does not read these files, and what to do; "" if it does."""
        if self.registry is None:
            return ""
        config, directory = in_host(Path(self.config)), in_host(self.roots[0])
        return advice(self.registry, str(config), str(directory), self.reader)


@dataclass(frozen=True, slots=True)
class RegistriesNode:
    """A K3s or RKE2 with its `registries.yaml`."""

    runtime: str
    path: Path
    reader: Version | None = None


Node = HostsNode | RegistriesNode


def find_nodes(system: Path) -> list[Node]:
    """Returns the runtimes below this root directory; plain containerd if none is found.

    Raises UnavailableError.
    """
    found: list[Node] = [
        RegistriesNode(runtime, system / etc / "registries.yaml")
        for runtime, etc, lib in _RANCHER
        if is_there(system / etc) or is_there(system / lib)
    ]
    if any(is_there(system / path) for path in _K0S):
        found.append(_k0s(system))
    if is_there(system / _MICROK8S):
        found.append(HostsNode("microk8s", (system / _MICROK8S / "certs.d",)))
    if not found or any(is_there(system / path) for path in _CONTAINERD):
        found.append(_containerd(system))
    return found


def nodes_of(system: Path, runtime: str) -> list[Node]:
    """Returns the settings of one runtime below this root, before its first start too.

    None of MicroK8s before it is installed: snapd makes `current` itself, and fails if it is there.
    Raises UnavailableError.
    """
    found = [node for node in find_nodes(system) if node.runtime == runtime]
    if found:
        return found
    for name, etc, _ in _RANCHER:
        if name == runtime:
            return [RegistriesNode(name, system / etc / "registries.yaml")]
    if runtime == "k0s":
        return [_k0s(system)]
    if runtime == "microk8s":
        return []
    return [_containerd(system)]


def _k0s(system: Path) -> Node:
    """k0s merges `containerd.d/*.toml` into the configuration that it generates."""
    config = system / "etc/k0s/containerd.toml"
    drop_ins = system / "etc/k0s/containerd.d"
    ours, usual = drop_in_file(drop_ins), drop_ins / "certs.d"
    main = list(_read_with_imports(system, config))
    found = sorted(drop_ins.glob("*.toml"))
    others = registry_settings([*main, *_read([path for path in found if path != ours])])
    all_files = registry_settings([*main, *_read(found)])
    node = _node(system, "k0s", all_files, ours, (usual,))
    if others.config_path or others.mirrors or not others.cri:
        return node
    return replace(node, drop_in=ours) if is_there(ours) or _merges(config, drop_ins) else node


def _merges(config: Path, drop_ins: Path) -> bool:
    try:
        return is_merged(read_text(config), has_drop_ins=is_there(drop_ins))
    except AirsideError:
        return False  # a file that cannot be read is nobody's that we know


def _containerd(system: Path) -> Node:
    config = system / "etc/containerd/config.toml"
    files = list(_read_with_imports(system, config))
    if not files:  # then containerd 2.2 and later has these
        files = list(_read(sorted((system / "etc/containerd/conf.d").glob("*.toml"))))
    usual: tuple[Path, ...] = (system / "etc/containerd/certs.d",)
    docker = system / "etc/docker/certs.d"  # the second directory of containerd 2.2's default
    if names_in(docker):
        usual = (*usual, docker)
    return _node(system, "containerd", registry_settings(files), config, usual)


def _node(
    system: Path, runtime: str, registry: Registry, config: Path, usual: tuple[Path, ...]
) -> HostsNode:
    given = tuple(below(system, path) for path in registry.directories())
    return HostsNode(runtime, given or usual, None, registry, str(config))


def _read_with_imports(system: Path, config: Path) -> Iterator[Mapping[str, Any]]:
    """Returns a configuration and its imports, in containerd's order."""
    pending, seen = [config], set[Path]()
    while pending and len(seen) < _MOST_FILES:
        path = pending.pop(0)
        if path in seen:
            continue
        seen.add(path)
        for file in _read([path]):
            yield file
            imports = file.get("imports")
            for pattern in imports if isinstance(imports, list) else ():
                pending += _imported(below(system, path.parent / str(pattern)))


def _imported(place: Path) -> list[Path]:
    if "*" not in str(place):
        return [place]
    return sorted(Path(place.anchor).glob(str(place.relative_to(place.anchor))))


def _read(paths: list[Path]) -> Iterator[Mapping[str, Any]]:
    """Yields the readable files. An unreadable one is skipped: containerd itself reports it."""
    for path in paths[:_MOST_FILES]:
        try:
            yield tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
