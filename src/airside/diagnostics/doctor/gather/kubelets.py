"""Settings of kubelet and of the API server in files on this host. Blocking; asks no server.

Files are searched for two words, not parsed: they are YAML, JSON, or arguments of a command line,
and differ between distributions.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from airside.containerd.kubelet_files import has_kubelet, kubelet_settings
from airside.containerd.kubelet_pulls import read_kubelet_pulls
from airside.containerd.kubelet_space import kubelet_space
from airside.diagnostics.doctor.facts import Kubelet
from airside.diagnostics.doctor.gather.processes import command_line, iter_processes
from airside.diagnostics.doctor.gather.volumes import nearest

_API_SERVER_FILES = (
    "etc/kubernetes/manifests/kube-apiserver.yaml",
    "var/lib/rancher/*/agent/pod-manifests/kube-apiserver.yaml",
    "var/snap/microk8s/current/args/kube-apiserver",
)
_BOTH = (
    "etc/rancher/*/config.yaml",
    "etc/rancher/*/config.yaml.d/*.yaml",
    "etc/systemd/system/k3s.service",
    "etc/systemd/system/k3s-agent.service",
    "etc/systemd/system/k3s.service.env",
    "etc/k0s/k0s.yaml",
)
_MOST_BYTES = 1_000_000
_ALWAYS = re.compile(r"\bAlwaysPullImages\b")
_DISABLED = re.compile(r"disable-admission-plugins[^\s]*")


@dataclass(slots=True)
class _KubeletFiles:
    """Reads files and process arguments, and collects the settings in them."""

    read: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    always_pull: list[str] = field(default_factory=list)
    has_api_server: bool = False

    def look(self, file: Path, *, api_server: bool) -> None:
        if str(file) in self.read:
            return
        try:
            with file.open(encoding="utf-8", errors="replace") as stream:
                text = stream.read(_MOST_BYTES)
        except PermissionError:
            self.unread.append(str(file))
            return
        except OSError:
            return
        self.read.append(str(file))
        self.search(str(file), text, api_server=api_server)

    def search(self, source: str, text: str, *, api_server: bool) -> None:
        bare = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        if _ALWAYS.search(_DISABLED.sub("", bare)):
            self.always_pull.append(source)
        self.has_api_server = self.has_api_server or api_server


def look_at_kubelet(system: Path, data: Path) -> Kubelet:
    """Returns the kubelet's facts. `system`: the host's root directory; `data`: the agent's."""
    files = _KubeletFiles()
    for file in kubelet_settings(system):
        files.look(file, api_server=False)
    for pattern in _API_SERVER_FILES:
        for file in _matching(system, pattern):
            files.look(file, api_server=True)
    for pattern in _BOTH:
        for file in _matching(system, pattern):
            files.look(file, api_server=_is_server(file))
    running = _look_at_processes(files, system / "proc")
    return Kubelet(
        present=running or has_kubelet(system),
        read=tuple(files.read),
        unread=tuple(files.unread),
        pulls=read_kubelet_pulls(system),
        always_pull=tuple(files.always_pull),
        has_api_server=files.has_api_server,
        space=kubelet_space(system, nearest(data)),
    )


def _matching(system: Path, pattern: str) -> Iterator[Path]:
    """Yields the path of a plain name, even if absent; or the visible paths of a pattern."""
    if "*" not in pattern:
        yield system / pattern
    else:
        yield from sorted(system.glob(pattern))


def _is_server(file: Path) -> bool:
    """K3s's and RKE2's servers have a file of this name without `-agent`; k0s's file has both."""
    return file.name in {"k3s.service", "k0s.yaml"}


def _look_at_processes(files: _KubeletFiles, proc: Path) -> bool:
    """Reads the arguments of kubelet and the API server. Returns True if a kubelet runs."""
    running = False
    for process in iter_processes(proc):
        words = command_line(process)
        name = words[0].rpartition("/")[2] if words else ""
        if name == "kubelet":
            running = True
        if name == "kube-apiserver":
            files.search(f"process {process.name}", " ".join(words), api_server=True)
    return running
