"""What a runtime asks for an image, by the settings as they stand: the search order. Blocking.

`plan_write` decides what to write; this module reads what is there, whoever wrote it. `explain` and
`doctor` both use it, so that they agree.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from airside.containerd.mirror import hosts_toml as hosts
from airside.containerd.mirror.atomic_file import is_there, read_text
from airside.containerd.mirror.certs_d import directory_of, registries_of
from airside.containerd.mirror.endpoint import Endpoint, of_containerd, of_k3s
from airside.containerd.mirror.k3s_flags import config_files, is_set
from airside.containerd.mirror.locations import HostsNode, Node, RegistriesNode
from airside.core.errors import ConflictError, UnavailableError

DEFAULTS = (hosts.DEFAULT, "*")
"""The names of containerd and of K3s for all registries without settings of their own."""


@dataclass(frozen=True, slots=True)
class Search:
    """The addresses that are asked for a registry, in order; "" is the registry's own.

    `path`: the file that decides. `unread`: why the settings cannot be read, so that all of this is
    unknown; `ignored`: why the runtime ignores the file.
    """

    runtime: str
    registry: str
    path: Path
    addresses: tuple[str, ...] = ("",)
    endpoints: tuple[Endpoint | None, ...] = (None,)
    unread: str = ""
    ignored: str = ""

    def begins_with(self, url: str) -> bool:
        """Returns True if this registry of ours is asked first."""
        return self._is(0, url)

    def after(self, url: str) -> tuple[str, ...]:
        """Returns what is asked when ours, asked first, lacks the image: () if nothing else."""
        return tuple(a for n, a in enumerate(self.addresses) if not self._is(n, url))

    def _is(self, number: int, url: str) -> bool:
        wanted = of_containerd(url)
        return wanted is not None and wanted.means(self.endpoints[number])


def searches_of(node: Node, registries: Sequence[str] | None = None) -> list[Search]:
    """Returns the search for each of these registries; None means all that have settings."""
    try:
        if isinstance(node, RegistriesNode):
            return list(_of_k3s(node, registries))
        names = registries_of(node) if registries is None else registries
        return [_of_containerd(node, name) for name in names]
    except UnavailableError as exc:
        path = node.path if isinstance(node, RegistriesNode) else node.roots[0]
        names = registries or DEFAULTS[:1]
        return [Search(node.runtime, name, path, unread=exc.message) for name in names]


def _of_containerd(node: HostsNode, registry: str) -> Search:
    """A directory without the file, or with one that cannot be read, has no mirrors."""
    directory = directory_of(node, registry)
    if not is_there(directory):
        directory = directory_of(node, hosts.DEFAULT)
    path = directory / hosts.FILE
    try:
        text = read_text(path)
        order = [("", False)] if text is None else hosts.asked(text, node.reader)
    except ConflictError as exc:
        return Search(node.runtime, registry, path, ignored=f"{path}: {exc.message}")
    endpoints = [of_containerd(url, override_path=as_given) for url, as_given in order]
    return Search(node.runtime, registry, path, tuple(url for url, _ in order), tuple(endpoints))


def _of_k3s(node: RegistriesNode, registries: Sequence[str] | None) -> Iterator[Search]:
    from airside.containerd.mirror import registries_yaml as k3s  # noqa: PLC0415 - a YAML parser, only for K3s

    path = node.path
    try:
        text = read_text(path) or ""
        names = k3s.all_registries(text) if registries is None else registries
        is_end = is_set([read_text(file) or "" for file in config_files(path)])
        for name in names:
            asked = tuple(k3s.asked(text, name, is_end=is_end))
            endpoints = tuple(map(of_k3s, asked))
            yield Search(node.runtime, name, path, asked, endpoints)
    except ConflictError as exc:
        for name in registries or DEFAULTS[1:]:
            yield Search(node.runtime, name, path, ignored=f"{path}: {exc.message}")
