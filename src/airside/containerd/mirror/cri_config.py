"""Reads from containerd's configuration where `hosts.toml` files are searched. Pure.

The CRI plugin reads them from its `config_path`: a list of directories separated by `:`. The first
directory with a file for the registry, or with `_default`, counts. containerd 2.2 and later has a
default; earlier versions read no `hosts.toml` unless `config_path` is set.

From 2.1 on CRI pulls by the transfer service, which takes the whole list for the name of one
directory, and so reads no file of a list, that of the default included (containerd 12808; tried on
2.1.9). CRI pulls itself, as before, if a setting asks for it that the transfer service lacks.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Version = tuple[int, ...]
"""Of containerd, for instance (1, 7, 24)."""
_TRANSFERS_SINCE = (2, 1)
_DEFAULT_SINCE = (2, 2)
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
    pulls_itself: bool = False
    """True if CRI pulls without the transfer service, and reads lists."""

    def directories(self) -> tuple[str, ...]:
        return tuple(part for part in self.config_path.split(":") if part)


def registry_settings(files: Iterable[Mapping[str, Any]]) -> Registry:
    """Merges parsed configuration files in the order in which containerd merges them."""
    found = Registry()
    for file in files:
        version = file.get("version", 1)
        version = version if version in _PLUGINS else max(_PLUGINS)
        plugins = _table(file.get("plugins"))
        plugin = _table(plugins.get(_PLUGINS[version]))
        registry = _table(plugin.get("registry"))
        off = file.get("disabled_plugins")
        found = Registry(
            str(registry.get("config_path") or found.config_path),
            bool(registry.get("mirrors")) or found.mirrors,
            found.cri and not (isinstance(off, list) and {"cri", *_PLUGINS.values()} & set(off)),
            max(version, 2) if registry or version > found.version else found.version,
            found.pulls_itself or _pulls_itself(plugin, registry),
        )
    return found


def _pulls_itself(plugin: Mapping[str, Any], registry: Mapping[str, Any]) -> bool:
    """Follows containerd 2.1, as tried for each of these settings."""
    tables = (plugin, _table(plugin.get("containerd")))
    switches = ("use_local_image_pull", "image_pull_with_sync_fs", "discard_unpacked_layers")
    return (
        any(table.get(name) is True for table in tables for name in switches)
        or plugin.get("max_concurrent_downloads") not in (None, 3)
        or any(registry.get(name) for name in ("mirrors", "configs", "auths"))
    )


def advice(registry: Registry, file: str, directory: str, reader: Version | None = None) -> str:
    """Returns why this containerd reads no `hosts.toml`, and what to do; "" if it reads them.

    `directory`: the one to name. `reader`: its version; None if unknown, which may be any.
    """
    has_default = reader is not None and reader >= _DEFAULT_SINCE
    takes_list = registry.pulls_itself or (reader is not None and reader < _TRANSFERS_SINCE)
    if not registry.cri:
        return ""
    place = f'under [plugins."{_PLUGINS[registry.version]}".registry] and restart containerd'
    if not registry.config_path and not (has_default and takes_list):
        text = (
            f"{file} sets no config_path, without which containerd before 2.2 reads no hosts.toml, "
            f'and a later one none when CRI pulls; put config_path = "{directory}" {place}'
        )
        if registry.mirrors:
            text += "; the registry.mirrors that it has must go: containerd refuses both together"
        return text
    if ":" in registry.config_path and not takes_list:
        first = next(iter(registry.directories()), directory)
        return (
            f"{file} sets a config_path of several directories, of which containerd 2.1 and later "
            f'reads none when CRI pulls; put config_path = "{first}" {place}'
        )
    return ""


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
