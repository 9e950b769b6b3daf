"""What kubelet does with CRI, as far as images matter: pull policies, pods, their containers.

Airside's own `Cri` asks for images. A pod is one sandbox with one container. Needs the sandbox
image in the containerd: `import_pause`.
"""

import json
import os
import signal
import tempfile
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import grpc

from airside.containerd.channel import Channel
from airside.containerd.cri import RUNTIME_SERVICE, Cri, CriImage
from airside.core.errors import ContainerdError
from support.containerd import Containerd
from support.pause import write_pause
from support.waiting import LIMIT_SECONDS, wait_until

pods: Any = grpc.protos("support/pods.proto")

Policy = Literal["Never", "IfNotPresent", "Always"]

LOG = "main.log"
_NODE, _POD = 2, 0
_RUNNING, _EXITED = 1, 2


class ImageNeverPullError(Exception):
    """kubelet's ErrImageNeverPull: not present, and the policy is Never."""


@dataclass(frozen=True)
class Sandbox:
    """A pod without containers: the ID, and what was asked for."""

    id: str
    config: Any


@dataclass(frozen=True)
class Pod:
    """One that was started: its sandbox, the ID of its container, the container's image and log."""

    sandbox: Sandbox
    container: str
    image_id: str
    log_path: Path

    @property
    def output(self) -> str:
        """What it wrote so far. A line of CRI's log: time, stream, F(ull) or P(artial), text."""
        lines = self.log_path.read_text().splitlines()
        return "".join(line.split(" ", 3)[3] + "\n" for line in lines)


class Kubelet:
    """At one containerd; use it in `with`. Pods that are left are removed at its end."""

    def __init__(self, containerd: Containerd) -> None:
        self._containerd = containerd
        self._channel = Channel(str(containerd.socket))
        self.cri = Cri(self._channel)
        self._sandboxes: list[Sandbox] = []

    def __enter__(self) -> Self:
        self.wait_ready()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            for sandbox in list(self._sandboxes) if kind is None else ():
                self.remove_sandbox(sandbox)
        finally:
            self._channel.close()

    def wait_ready(self) -> None:
        """Wait until CRI answers, and knows the sandbox image if containerd has it.

        After a start CRI first recovers its state.
        """

        def answers() -> bool:
            with suppress(ContainerdError):
                self.cri.images()
                return True
            return False

        wait_until(answers, lambda: self._containerd.log[-3000:])
        sandbox = self._containerd.options.sandbox_image
        if sandbox in self._containerd.did("images", "ls", "-q").split():
            self.wait_image(sandbox)  # CRI learns of an import by an event, a moment later

    # images

    def wait_image(self, name: str, judge: Callable[[CriImage], bool] | None = None) -> CriImage:
        """The image as CRI knows it, once it is as judged: CRI follows containerd's events."""

        def found() -> CriImage | None:
            image = self.cri.image(name)
            return image if image and (judge is None or judge(image)) else None

        image = wait_until(found, lambda: self.cri.image(name))
        assert image is not None
        return image

    def image_id(self, image: str, policy: Policy) -> str:
        """Have the image as the policy says; gives its ID. Raises ImageNeverPullError."""
        found = self.cri.image(image)
        if found and policy != "Always":
            return found.id
        if policy == "Never":
            raise ImageNeverPullError(image)
        return self.cri.pull(image, seconds=LIMIT_SECONDS)

    # pods

    def start(self, image: str, *, policy: Policy = "Never", node_network: bool = False) -> Pod:
        """Start a pod of its container's own command.

        Without `node_network` its network namespace has no interface but `lo`.
        """
        image_id = self.image_id(image, policy)
        sandbox = self.sandbox(node_network=node_network)
        return self.container(sandbox, image_id)

    def sandbox(self, *, node_network: bool = False) -> Sandbox:
        """Start a pod's sandbox: kubelet does so before it looks for the images."""
        security = {"namespace_options": {"network": _NODE if node_network else _POD}}
        config = self._sandbox_config(security)
        answer = self._ask("RunPodSandbox", pods.RunPodSandboxRequest(config=config))
        sandbox = Sandbox(answer.pod_sandbox_id, config)
        self._sandboxes.append(sandbox)
        return sandbox

    def container(
        self,
        sandbox: Sandbox,
        image_id: str,
        *,
        attempt: int = 0,
        config: Mapping[str, Any] | None = None,
    ) -> Pod:
        """Start a pod's container, for the nth time. `config`: more fields of ContainerConfig."""
        pod_config = sandbox.config
        network = pod_config.linux.security_context.namespace_options.network
        more = dict(config or {})
        security = {"namespace_options": {"network": network}, **more.pop("security", {})}
        request = pods.CreateContainerRequest(
            pod_sandbox_id=sandbox.id,
            config={
                "metadata": {"name": "main", "attempt": attempt},
                "image": {"image": image_id},
                "log_path": LOG,
                "linux": {"security_context": security},
                **more,
            },
            sandbox_config=pod_config,
        )
        container = self._ask("CreateContainer", request)
        self._ask("StartContainer", pods.ContainerRequest(container_id=container.container_id))
        return Pod(sandbox, container.container_id, image_id, Path(pod_config.log_directory, LOG))

    def _sandbox_config(self, security: dict[str, Any]) -> Any:
        name = f"pod-{uuid.uuid4()}"
        logs = self._containerd.home / "pods" / name
        logs.mkdir(parents=True)
        return pods.PodSandboxConfig(
            metadata={"name": name, "uid": name, "namespace": "default"},
            log_directory=str(logs),
            linux={"security_context": security},
        )

    def run(self, image: str, *, policy: Policy = "Never", node_network: bool = False) -> str:
        """Start a pod, wait for its good end, remove it; gives what it wrote."""
        pod = self.start(image, policy=policy, node_network=node_network)
        code = self.wait(pod)
        output = pod.output
        assert code == 0, f"exit code {code}: {output}"
        self.remove(pod)
        return output

    def wait(self, pod: Pod) -> int:
        """Wait until its container ended; gives the exit code."""
        wait_until(lambda: self._status(pod).status.state == _EXITED, lambda: self._status(pod))
        return int(self._status(pod).status.exit_code)

    def is_running(self, pod: Pod) -> bool:
        return bool(self._status(pod).status.state == _RUNNING)

    def pid(self, pod: Pod) -> int:
        """Of its container's first process."""
        return int(json.loads(self._status(pod).info["info"])["pid"])

    def kill(self, pod: Pod) -> None:
        """Kill its container's process, and wait for its end."""
        os.kill(self.pid(pod), signal.SIGKILL)
        self.wait(pod)

    def execute(self, pod: Pod, *words: str) -> tuple[int, str]:
        """Run a program in its container; gives exit code and output."""
        request = pods.ExecSyncRequest(
            container_id=pod.container, cmd=words, timeout=int(LIMIT_SECONDS)
        )
        done = self._ask("ExecSync", request)
        return int(done.exit_code), (done.stdout + done.stderr).decode(errors="replace")

    def stop(self, pod: Pod, seconds: int) -> None:
        """SIGTERM to its container, and SIGKILL after some seconds."""
        request = pods.StopContainerRequest(container_id=pod.container, timeout=seconds)
        self._ask("StopContainer", request)

    def remove_container(self, pod: Pod) -> None:
        """Remove the container and its log; its sandbox stays."""
        self._ask("RemoveContainer", pods.ContainerRequest(container_id=pod.container))

    def remove(self, pod: Pod) -> None:
        """Stop and remove it, with its containers."""
        self.remove_sandbox(pod.sandbox)

    def remove_sandbox(self, sandbox: Sandbox) -> None:
        """Stop and remove it, with its containers."""
        self._sandboxes.remove(sandbox)
        request = pods.PodSandboxRequest(pod_sandbox_id=sandbox.id)
        self._ask("StopPodSandbox", request)
        self._ask("RemovePodSandbox", request)

    def _status(self, pod: Pod) -> Any:
        request = pods.ContainerStatusRequest(container_id=pod.container, verbose=True)
        return self._ask("ContainerStatus", request)

    def _ask(self, method: str, request: Any) -> Any:
        answer = getattr(pods, f"{method}Response", pods.Empty)
        return self._channel.call(f"{RUNTIME_SERVICE}/{method}", request, answer)


def import_pause(containerd: Containerd) -> None:
    """Have the sandbox image there, as a node has it before its first pod."""
    with tempfile.TemporaryDirectory(dir=containerd.home) as directory:
        archive = Path(directory, "pause.tar")
        write_pause(archive, containerd.options.sandbox_image)
        containerd.did("images", "import", *containerd.local, "--no-unpack", archive)
