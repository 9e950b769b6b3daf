"""Reads from containerd's configuration where `hosts.toml` files are searched. Pure.

The CRI plugin reads them from its `config_path`: a list of directories separated by `:`. The first
directory with a file for the registry, or with `_default`, counts. containerd 2.2 and later has a
default; earlier versions read no `hosts.toml` unless `config_path` is set.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_PLUGINS = {1: "cri", 2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.images"}
"""The plugin with the registry settings, by the version of the configuration."""


@dataclass(frozen=True, slots=True)
class Registry:
    """The registry settings of all files together; later files override earlier ones."""

    config_path: str = ""
    mirrors: bool = False
    """True if there are mirrors of the old form, which containerd refuses beside a config_path."""
    cri: bool = True
    """True if the plugin is on."""
    version: int = 2

    def directories(self) -> tuple[str, ...]:
        return tuple(part for part in self.config_path.split(":") if part)


def registry_settings(files: Iterable[Mapping[str, Any]]) -> Registry:
    """Merges parsed configuration files in the order in which containerd merges them."""
    found = Registry()
    for file in files:
        version = file.get("version", 1)
        version = version if version in _PLUGINS else max(_PLUGINS)
        plugins = _table(file.get("plugins"))
        registry = _table(_table(plugins.get(_PLUGINS[version])).get("registry"))
        off = file.get("disabled_plugins")
        found = Registry(
            str(registry.get("config_path") or found.config_path),
            bool(registry.get("mirrors")) or found.mirrors,
            found.cri and not (isinstance(off, list) and {"cri", *_PLUGINS.values()} & set(off)),
            max(version, 2) if registry or version > found.version else found.version,
        )
    return found


def advice(registry: Registry, file: str, directories: str) -> str:
    """Returns what to add to the configuration; "" if nothing."""
    if registry.config_path or not registry.cri:
        return ""
    text = (
        f"{file} sets no config_path, without which containerd before 2.2 reads no hosts.toml; "
        f'put config_path = "{directories}" under '
        f'[plugins."{_PLUGINS[registry.version]}".registry] and restart containerd'
    )
    if registry.mirrors:
        text += "; the registry.mirrors that it has now must go: containerd refuses both together"
    return text


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
