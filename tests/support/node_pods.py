"""A DaemonSet on one node: what kubelet makes of its manifests, given to a real CRI.

Host paths are below a directory of the test, the node's root; only the paths in `own` are the
machine's own. Volumes are made or demanded as their type says.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from support.kubelet import Kubelet, Pod, Sandbox

_PROPAGATION = {None: 0, "None": 0, "HostToContainer": 1, "Bidirectional": 2}
_MASKED = (
    *("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list"),
    *("/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"),
)
_READ_ONLY = (
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)
TERMINATION_LOG = "/dev/termination-log"


class NodePods:
    """The pod of one DaemonSet. `manifests`: the rendered objects."""

    def __init__(
        self,
        kubelet: Kubelet,
        manifests: Sequence[Mapping[str, Any]],
        root: Path,
        own: Collection[Path],
    ) -> None:
        self.kubelet, self.root, self._own = kubelet, root, own
        by_kind = {(m["kind"], m["metadata"]["name"]): m for m in manifests}
        self.spec = by_kind["DaemonSet", "airside"]["spec"]["template"]["spec"]
        self._maps = {name: m["data"] for (kind, name), m in by_kind.items() if kind == "ConfigMap"}
        self._sources = {v["name"]: self._source(v) for v in self.spec["volumes"]}
        self._attempts = 0

    def host(self, path: str) -> Path:
        """Where a path of the node's is on this machine."""
        found = Path(path)
        own = any(found == each or found.is_relative_to(each) for each in self._own)
        return found if own else self.root / path.lstrip("/")

    def _source(self, volume: Mapping[str, Any]) -> Path:
        if "configMap" in volume:
            directory = self.root / "configmaps" / volume["name"]
            directory.mkdir(parents=True)
            for name, text in self._maps[volume["configMap"]["name"]].items():
                (directory / name).write_text(text)
            return directory
        path = self.host(volume["hostPath"]["path"])
        if volume["hostPath"]["type"] == "DirectoryOrCreate":
            path.mkdir(parents=True, exist_ok=True)
        assert path.is_dir(), f"{path} is no directory: kubelet does not start the pod"
        return path

    def sandbox(self) -> Sandbox:
        assert "hostPID" not in self.spec
        return self.kubelet.sandbox(node_network=self.spec["hostNetwork"])

    def start(self, sandbox: Sandbox, container: Mapping[str, Any]) -> Pod:
        """Start one of the containers of the manifest, by the image that containerd has."""
        image = self.kubelet.wait_image(container["image"])
        self._attempts += 1
        return self.kubelet.container(
            sandbox, image.id, attempt=self._attempts, config=self._config(container)
        )

    def _config(self, container: Mapping[str, Any]) -> dict[str, Any]:
        security = container["securityContext"]
        capabilities = security["capabilities"]
        return {
            "command": container.get("command", []),
            "args": container.get("args", []),
            "envs": [{"key": e["name"], "value": e["value"]} for e in container.get("env", [])],
            "mounts": [*map(self._mount, container["volumeMounts"]), self._termination_log()],
            "security": {
                "capabilities": {
                    "add_capabilities": capabilities["add"],
                    "drop_capabilities": capabilities["drop"],
                },
                "privileged": security["privileged"],
                "run_as_user": {"value": security["runAsUser"]},
                "run_as_group": {"value": security["runAsGroup"]},
                "readonly_rootfs": security["readOnlyRootFilesystem"],
                "no_new_privs": not security["allowPrivilegeEscalation"],
                "masked_paths": _MASKED,
                "readonly_paths": _READ_ONLY,
                "seccomp": {
                    "profile_type": ["RuntimeDefault"].index(security["seccompProfile"]["type"])
                },
            },
        }

    def _mount(self, mount: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "container_path": mount["mountPath"],
            "host_path": str(self._sources[mount["name"]]),
            "readonly": mount.get("readOnly", False),
            "propagation": _PROPAGATION[mount.get("mountPropagation")],
        }

    def _termination_log(self) -> dict[str, Any]:
        file = self.root / "termination-log"
        file.write_text("")
        return {"container_path": TERMINATION_LOG, "host_path": str(file)}

    @property
    def termination_message(self) -> str:
        """Of the container that was started last."""
        return (self.root / "termination-log").read_text()
