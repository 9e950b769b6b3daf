"""CRI settings in containerd's configuration files, for versions whose CRI does not report them.

Blocking. Reads all three versions of the format. An imported file overrides its importer.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from airside.containerd.mirror.cri_config import Registry, registry_settings
from airside.core.host_root import as_named, on_host

_MOST_FILES = 100
_DEFAULT = Path("/etc/containerd/config.toml")
_FLAGS = ("-c", "--config")
_USUAL = {
    "k3s": (
        Path("/var/lib/rancher/k3s/agent/etc/containerd/config.toml"),
        Path("/var/lib/rancher/rke2/agent/etc/containerd/config.toml"),
    ),
    "k0s": (Path("/etc/k0s/containerd.toml"), Path("/run/k0s/containerd-cri.toml")),
    "microk8s": (Path("/var/snap/microk8s/current/args/containerd.toml"),),
}
_CLASSIC, _MODERN = "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"


@dataclass(frozen=True, slots=True)
class CriFiles:
    """The settings in the files; None if the files do not set them.

    `main`: the file that containerd starts with. `unread`: a file that this user may not read; all
    other settings are then uncertain.
    """

    discard: bool | None = None
    sandbox: str = ""
    registry: Registry = field(default_factory=Registry)
    main: str = ""
    unread: str = ""


def config_paths(words: list[str], name: str) -> tuple[Path, ...]:
    """Returns the configuration file of this command line, else the usual ones of this runtime."""
    for word, following in zip(words, (*words[1:], ""), strict=False):
        flag, equals, value = word.partition("=")
        if flag in _FLAGS:
            return (as_named(value if equals else following),)
    usual = _USUAL.get(name, (_DEFAULT,)) if not words else (_DEFAULT,)
    return tuple(map(on_host, usual))


def read_configs(paths: Iterable[Path]) -> CriFiles:
    """Returns the merged settings of the files and of those they import."""
    pending, seen, texts = list(paths), set[Path](), list[Mapping[str, Any]]()
    found = CriFiles(main=str(pending[0]) if pending else "")
    while pending and len(seen) < _MOST_FILES:
        path = pending.pop(0)
        if path in seen:
            continue
        seen.add(path)
        try:
            parsed = tomllib.loads(path.read_text(encoding="utf-8"))
        except PermissionError:
            found = replace(found, unread=str(path))
        except (OSError, ValueError):  # containerd reports its errors itself
            continue
        else:
            found = _merged(found, parsed)
            texts.append(parsed)
            pending += _imports(path, parsed.get("imports"))
    return replace(found, registry=registry_settings(texts))


def _imports(path: Path, imports: Any) -> list[Path]:
    found: list[Path] = []
    for pattern in imports if isinstance(imports, list) else ():
        place = as_named(path.parent / str(pattern))  # an absolute one replaces the directory
        if "*" in str(pattern):
            found += sorted(Path("/").glob(str(place).lstrip("/")))
        else:
            found.append(place)
    return found


def _merged(before: CriFiles, parsed: Mapping[str, Any]) -> CriFiles:
    plugins = _table(parsed, "plugins")
    old = plugins if parsed.get("version", 1) == 1 else {}
    classic = _table(plugins, _CLASSIC) or _table(old, "cri")
    modern = _table(plugins, _MODERN)
    discard = modern.get("discard_unpacked_layers")
    if discard is None:
        discard = _table(classic, "containerd").get("discard_unpacked_layers")
    sandbox = _table(modern, "pinned_images").get("sandbox") or classic.get("sandbox_image")
    return replace(
        before,
        discard=discard if isinstance(discard, bool) else before.discard,
        sandbox=sandbox if isinstance(sandbox, str) else before.sandbox,
    )


def _table(parsed: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = parsed.get(name)
    return found if isinstance(found, dict) else {}
