"""Where containerd searches `hosts.toml` files: the directories of `config_path`. Blocking.

The first directory with an entry for the registry counts, else the first with `_default`, which
ends the search. Raises UnavailableError.
"""

from pathlib import Path

from airside.containerd.mirror.atomic_file import is_there, names_in
from airside.containerd.mirror.hosts_toml import DEFAULT, directory_names, registry_of
from airside.containerd.mirror.locations import HostsNode


def directory_of(node: HostsNode, registry: str) -> Path:
    """Returns the directory of this registry: where containerd finds it, else the one to make."""
    default = default_directory(node)
    if registry == DEFAULT:
        return default
    for root in searched(node):
        for name in directory_names(registry):
            if is_there(root / name):
                return root / name
    return node.roots[0] / registry


def default_directory(node: HostsNode) -> Path:
    """Returns the directory for all other registries: searched last, it hides none."""
    return searched(node)[-1] / DEFAULT


def searched(node: HostsNode) -> list[Path]:
    """Returns the roots up to the first with a `_default`, which ends containerd's search."""
    found: list[Path] = []
    for root in node.roots:
        found.append(root)
        if is_there(root / DEFAULT):
            break
    return found


def registries_of(node: HostsNode) -> list[str]:
    """Returns the default, and each registry with a directory, which gets no default."""
    own = [
        registry_of(name)
        for root in searched(node)
        for name in names_in(root)
        if not name.startswith(".") and name != DEFAULT and (root / name).is_dir()
    ]
    return [DEFAULT, *dict.fromkeys(own)]
