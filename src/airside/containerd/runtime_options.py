"""The options of publishing to one containerd."""

from dataclasses import dataclass, field
from pathlib import Path

from airside.containerd.agent_process import AgentProcess
from airside.containerd.cri import PULL_SECONDS
from airside.containerd.layer_writer.worker_unit import SOCKET
from airside.core.disk_space import DiskSpace
from airside.core.priority import NORMAL, Priority
from airside.core.settings import Limits
from airside.oci.platform import Platform


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """The options of publishing to one containerd.

    `identity` is the prefix of our leases, ingests and snapshots. `node` is the platform whose
    images run here. `threads` is how many layers are unpacked at once.
    """

    identity: str
    node: Platform
    snapshotter: str = ""
    """Empty: the one that CRI uses."""
    threads: int = 2
    priority: Priority = NORMAL
    """That of the threads and processes that unpack."""
    data: str = ""
    """The data directory, for other agents to tell about."""
    process: AgentProcess = field(default_factory=AgentProcess)
    limits: Limits = field(default_factory=Limits)
    space: DiskSpace = field(default_factory=lambda: DiskSpace(0))
    pull_seconds: float = PULL_SECONDS
    early: bool = True
    """True if layers may be unpacked while their archive is read."""
    temporary: Path | None = None
    """A directory for decompressed layers that we write; None: containerd writes all layers."""
    layers_socket: Path = SOCKET
    """Where a unit that writes layers listens, for an agent without the powers to."""
