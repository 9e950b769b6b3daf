"""The configuration of a containerd that keeps to one directory, for versions 1.6 to 2.1.

CRI is on, and nothing of the host is used: neither its state, its sockets, its CNI networks nor its
plug-ins. Only a shim's own socket is where containerd has it compiled in, `/run/containerd/s/`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Snapshotter = Literal["overlayfs", "native", "erofs"]
Table = Mapping[str, object]

OFF = (
    "io.containerd.differ.v1.erofs",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.monitor.container.v1.restart",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
)
"""They touch the host, or speak of what is not there."""

CRI = ("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime")

GC_OFTEN: Table = {
    "startup_delay": "1ms",
    "schedule_delay": "0s",
    "mutation_threshold": 1,
    "deletion_threshold": 1,
    "pause_threshold": 0.5,
}
"""A collection after every change, for half of the time."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What tests vary. `gc`: keys of `io.containerd.gc.v1.scheduler`, for instance `GC_OFTEN`.

    `snapshotter`: without one, overlayfs where overlays can be mounted, else native.
    """

    snapshotter: Snapshotter | None = None
    sharing: Literal["shared", "isolated"] = "shared"
    discard_unpacked_layers: bool = False
    gc: Table = field(default_factory=dict)
    sandbox_image: str = "docker.io/airside/pause:1"
    cri: bool = True
    hosts: Sequence[str] = ("certs.d",)
    """The directories of `config_path`."""


def written(version: str, home: Path, socket: Path, options: Options) -> str:
    """The text of config.toml for a version such as `1.7`."""
    modern = int(version.partition(".")[0]) >= 2
    off = OFF if options.cri else (*OFF, *CRI)
    if options.snapshotter == "erofs":
        off = tuple(plugin for plugin in off if not plugin.endswith(".erofs"))
    top = {
        "version": 3 if modern else 2,
        "root": str(home / "root"),
        "state": str(home / "state"),
        "temp": str(home / "temp"),
        "disabled_plugins": off,
    }
    tables: dict[Sequence[str], Table] = {
        ("grpc",): {"address": str(socket)},
        ("plugins", "io.containerd.gc.v1.scheduler"): options.gc,
        ("plugins", "io.containerd.metadata.v1.bolt"): {"content_sharing_policy": options.sharing},
        ("plugins", "io.containerd.nri.v1.nri"): {
            "disable": True,
            "socket_path": str(home / "nri.sock"),
            "plugin_path": str(home / "nri"),
            "plugin_config_path": str(home / "nri"),
        },
        **(_modern if modern else _classic)(home, options),
    }
    lines = _pairs(top)
    for name, table in tables.items():
        lines += ["", f"[{'.'.join(map(json.dumps, name))}]", *_pairs(table)]
    return "\n".join(lines) + "\n"


def _classic(home: Path, options: Options) -> dict[Sequence[str], Table]:
    cri = ("plugins", "io.containerd.grpc.v1.cri")
    return {
        cri: {"sandbox_image": options.sandbox_image, **_streaming(), **_pods(home)},
        (*cri, "cni"): {"bin_dir": str(home / "cni"), "conf_dir": str(home / "cni")},
        (*cri, "containerd"): _images(options),
        **_runc((*cri, "containerd"), home),
        (*cri, "registry"): _hosts(home, options),
    }


def _modern(home: Path, options: Options) -> dict[Sequence[str], Table]:
    images = ("plugins", "io.containerd.cri.v1.images")
    runtime = ("plugins", "io.containerd.cri.v1.runtime")
    hosts = _hosts(home, options)
    unpack: dict[str, object] = {"platform": "linux", "snapshotter": options.snapshotter}
    differs: dict[Sequence[str], Table] = {}
    if options.snapshotter == "erofs":
        unpack["differ"] = "erofs"
        service = ("plugins", "io.containerd.service.v1.diff-service")
        differs[service] = {"default": ["erofs", "walking"]}
    return {
        **differs,
        images: _images(options),
        (*images, "pinned_images"): {"sandbox": options.sandbox_image},
        (*images, "registry"): hosts,
        runtime: _pods(home),
        (*runtime, "cni"): {"bin_dirs": [str(home / "cni")], "conf_dir": str(home / "cni")},
        **_runc((*runtime, "containerd"), home),
        ("plugins", "io.containerd.grpc.v1.cri"): _streaming(),
        # CRI pulls through it, and unpacks with nothing that is not listed here
        ("plugins", "io.containerd.transfer.v1.local"): {
            **hosts,
            "unpack_config": [unpack],
        },
        ("plugins", "io.containerd.image-verifier.v1.bindir"): {"bin_dir": str(home / "verifiers")},
    }


def _hosts(home: Path, options: Options) -> Table:
    return {"config_path": ":".join(str(home / name) for name in options.hosts)}


def _images(options: Options) -> Table:
    return {
        "snapshotter": options.snapshotter,
        "discard_unpacked_layers": options.discard_unpacked_layers,
    }


def _pods(home: Path) -> Table:
    return {
        "netns_mounts_under_state_dir": True,
        "cdi_spec_dirs": [str(home / "cdi")],
        # scores below our own need CAP_SYS_RESOURCE, which root in a container may lack
        "restrict_oom_score_adj": True,
    }


def _streaming() -> Table:
    return {"stream_server_address": "127.0.0.1", "stream_server_port": "0"}


def _runc(parent: Sequence[str], home: Path) -> dict[Sequence[str], Table]:
    runc = (*parent, "runtimes", "runc")
    return {
        runc: {"runtime_type": "io.containerd.runc.v2"},
        (*runc, "options"): {"Root": str(home / "runc")},
    }


def _pairs(table: Table) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in table.items()]


def _value(value: object) -> str:
    """JSON's strings, numbers and booleans are TOML's too."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(_pairs(value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)
