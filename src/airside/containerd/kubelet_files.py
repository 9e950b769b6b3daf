"""Where the kubelets of this host keep their settings and their directories. Blocking.

The usual places of each distribution, and those that the flags `--config`, `--config-dir` and
`--root-dir` name: of running kubelets, and in files with the flags of a kubelet that is no process
of its own. Never raises OSError.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_ROOTS = (
    "var/lib/kubelet",
    "var/lib/k0s/kubelet",
    "var/snap/microk8s/common/var/lib/kubelet",
)
_MAIN = (
    "var/lib/kubelet/config.yaml",
    "var/lib/kubelet/config.json",
    "etc/kubernetes/kubelet/*",
    "var/lib/k0s/kubelet*config.yaml",
    "var/lib/k0s/kubelet/config*",
    "var/snap/microk8s/current/args/kubelet",
)
_DROP_INS = (
    "etc/kubernetes/kubelet.conf.d/*.conf",
    "etc/kubernetes/kubelet/config.json.d/*.conf",
    "var/lib/kubelet/config.d/*.conf",
    "var/lib/rancher/*/agent/etc/kubelet.conf.d/*.conf",
)
"""kubelet reads of `--config-dir` what ends in `.conf`, by name, over its main configuration."""
_FLAGS = (
    "etc/rancher/*/config.yaml",
    "etc/rancher/*/config.yaml.d/*.yaml",
    "etc/systemd/system/k3s*.service",
    "etc/systemd/system/k3s*.service.env",
    "etc/systemd/system/kubelet.service.d/*.conf",
    "etc/default/kubelet",
    "etc/sysconfig/kubelet",
    "var/lib/kubelet/kubeadm-flags.env",
    "var/snap/microk8s/current/args/kubelet",
)
_FLAG = re.compile(r"(?:\A|[\s\"',\[-])(config|config-dir|root-dir)[= ][\"']?(/[^\s\"',\]]+)")
_SNAP = {
    "${SNAP_DATA}": "/var/snap/microk8s/current",
    "${SNAP_COMMON}": "/var/snap/microk8s/common",
}
_MOST_BYTES = 1 << 20

_SIGNS = (
    "var/lib/kubelet",
    "etc/rancher/k3s",
    "var/lib/rancher/k3s/agent",
    "etc/rancher/rke2",
    "var/lib/rancher/rke2/agent",
    "etc/k0s",
    "var/lib/k0s",
    "var/snap/microk8s/current/args",
)
"""Below the root directory: one that is there shows that a kubelet runs on the host, or ran."""


def has_kubelet(root: Path) -> bool:
    """Returns True if a file or directory below the root directory shows a kubelet."""
    return any(os.path.exists(root / sign) for sign in _SIGNS)  # noqa: PTH110 - it never raises


def kubelet_settings(root: Path) -> list[Path]:
    """Returns files that may have kubelet's settings; a later one overrides the earlier ones."""
    flags = list(_flags(root))
    main = [root / path.lstrip("/") for name, path in flags if name == "config"]
    directories = [root / path.lstrip("/") for name, path in flags if name == "config-dir"]
    drop_ins = [file for each in directories for file in _listed(each, "*.conf")]
    return list(dict.fromkeys([*_found(root, _MAIN), *main, *_found(root, _DROP_INS), *drop_ins]))


def kubelet_roots(root: Path) -> list[Path]:
    """Returns kubelet's directories that may exist, the usual ones first."""
    named = [root / path.lstrip("/") for name, path in _flags(root) if name == "root-dir"]
    return list(dict.fromkeys([*(root / path for path in _ROOTS), *named]))


def kubelet_texts(root: Path) -> list[str]:
    """Returns the texts of the files with settings or flags, and of running kubelets' arguments."""
    files = dict.fromkeys([*kubelet_settings(root), *_found(root, _FLAGS)])
    return [*map(_text, files), *_command_lines(root / "proc")]


def _flags(root: Path) -> Iterator[tuple[str, str]]:
    """Yields (flag, path) of each flag that names a place."""
    for text in (*map(_text, _found(root, _FLAGS)), *_command_lines(root / "proc")):
        for variable, value in _SNAP.items():
            text = text.replace(variable, value)  # noqa: PLW2901 - as the shell does
        for match in _FLAG.finditer(text):
            yield match[1], match[2]


def _command_lines(proc: Path) -> Iterator[str]:
    for process in _listed(proc, "[0-9]*"):
        words = _text(process / "cmdline").split("\0")
        if words[0].rpartition("/")[2] == "kubelet":
            yield " ".join(words)


def _found(root: Path, patterns: Iterable[str]) -> Iterator[Path]:
    """Yields the path of a plain name, be it absent, and the files of a pattern."""
    for pattern in patterns:
        if "*" in pattern:
            yield from _listed(root, pattern)
        else:
            yield root / pattern


def _listed(directory: Path, pattern: str) -> list[Path]:
    with suppress(OSError):
        return sorted(directory.glob(pattern))
    return []


def _text(path: Path) -> str:
    with suppress(OSError), path.open("rb") as file:
        return file.read(_MOST_BYTES).decode(errors="replace")
    return ""
