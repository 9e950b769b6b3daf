"""The kinds of host that Airside is installed on: whose containerd it is, and where. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

UNIT = "airside.service"
LAYERS_SOCKET = "airside-layers.socket"
LAYERS_SERVICE = "airside-layers@.service"
UNITS = "/etc/systemd/system"
PACKAGED_UNITS = ("/usr/lib/systemd/system", "/lib/systemd/system")


@dataclass(frozen=True, slots=True)
class Target:
    """A distribution. Paths are those of the host.

    `services`: its units, which start after Airside. `containerd_root`: where its containerd keeps
    everything. `containerd_config`: a file of containerd whose `root` says otherwise.
    """

    name: str
    title: str
    services: tuple[str, ...]
    containerd_root: str
    containerd_config: str = ""


_K3S = Target(
    "k3s",
    "K3s",
    ("k3s.service", "k3s-agent.service"),
    "/var/lib/rancher/k3s/agent/containerd",
)
_RKE2 = Target(
    "rke2",
    "RKE2",
    ("rke2-server.service", "rke2-agent.service"),
    "/var/lib/rancher/rke2/agent/containerd",
)
_K0S = Target(
    "k0s",
    "k0s",
    ("k0scontroller.service", "k0sworker.service"),
    "/var/lib/k0s/containerd",
)
_MICROK8S = Target(
    "microk8s",
    "MicroK8s",
    ("snap.microk8s.daemon-containerd.service", "snap.microk8s.daemon-kubelite.service"),
    "/var/snap/microk8s/common/var/lib/containerd",
)


def _all_services(*others: Target) -> tuple[str, ...]:
    found = [service for target in others for service in target.services]
    return ("containerd.service", *found, "kubelet.service")


_SYSTEMD = Target(
    "systemd",
    "systemd, with the containerd that is found",
    _all_services(_K3S, _RKE2, _K0S, _MICROK8S),
    "/var/lib/containerd",
    "/etc/containerd/config.toml",
)
TARGETS: Mapping[str, Target] = {t.name: t for t in (_SYSTEMD, _K3S, _RKE2, _K0S, _MICROK8S)}


def names(targets: Iterable[Target] = TARGETS.values()) -> tuple[str, ...]:
    """Returns the names of targets, in the order of the command line."""
    return tuple(target.name for target in targets)
