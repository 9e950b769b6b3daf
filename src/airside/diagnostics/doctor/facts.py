"""Facts about a host, as values: `gather` collects them, `judge` reads them. Pure.

None or an empty text means unknown; a `reason` beside it or `Facts.unseen` says why. Sizes are in
bytes, times in seconds since 1970.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from airside.containerd.kubelet_pulls import KubeletPulls
from airside.containerd.kubelet_space import KubeletSpace
from airside.core.settings import Settings
from airside.diagnostics.verdict import Concern

AgentState = Literal["running", "absent", "silent", "forbidden"]
REACH_SECONDS = 4.0
"""What is waited for a registry that containerd asks after us; containerd waits longer."""
SocketState = Literal[
    "answers", "absent", "forbidden", "refused", "silent", "no-socket", "not-containerd"
]
Sight = Literal["visible", "absent", "forbidden"]


@dataclass(frozen=True, slots=True)
class Unseen:
    """A check that failed, and its error."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Volume:
    """The file system of a path. `inodes` are 0 if it does not count them."""

    kind: str
    point: str
    is_remote: bool = False
    is_read_only: bool = False
    total_bytes: int = 0
    free_bytes: int = 0
    inodes: int = 0
    free_inodes: int = 0


@dataclass(frozen=True, slots=True)
class Published:
    """One containerd in the agent's status.

    `streams_because`: why blobs are streamed, if so; `applies_because`: why containerd unpacks.
    """

    socket: str
    connected: bool
    reason: str = ""
    streams_because: str = ""
    applies_because: str = ""
    other_agent: bool = False
    """True if another agent publishes to it instead."""
    foreign_names: int = 0
    layers_written_by: str = ""
    """`agent`, or `unit` for airside-layers@.service; empty if containerd unpacks."""


@dataclass(frozen=True, slots=True)
class Unpublished:
    """An image that a containerd lacks, though the agent has it for this node."""

    reference: str
    socket: str
    state: str
    reason: str
    next_try_at: str = ""
    """RFC 3339; empty if no try is planned."""


@dataclass(frozen=True, slots=True)
class Agent:
    """The agent of the data directory. `answer`: HTTP status of its registry's `/v2/`, or None."""

    state: AgentState
    reason: str = ""
    pid: int | None = None
    uid: int | None = None
    listen: str = ""
    has_tls: bool = False
    is_open: bool = True
    """True if everybody may pull everything."""
    fallback: str = ""
    """State of the fallback server: `starting`, `running`, `failed`; empty if there is none."""
    fallback_reason: str = ""
    answer: int | None = None
    answer_reason: str = ""
    miss_seconds: float | None = None
    """How long its registry takes to say that it lacks an image; None if it does not say so."""
    archives: Mapping[str, int] = field(default_factory=dict)
    modes: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """For each watched directory, how changes are noticed, and the reason."""
    published: tuple[Published, ...] = ()
    unpublished: tuple[Unpublished, ...] = ()
    """The first of the images that a containerd lacks; `unpublished_count` is their number."""
    unpublished_count: int = 0
    concerns: tuple[Concern, ...] = ()
    """What `airside status` says is wrong; of an agent that does not run, by the catalog."""


@dataclass(frozen=True, slots=True)
class Store:
    """The data directory. `newest_at`: its last change, by its files and catalog."""

    path: Path
    exists: bool
    writable: bool
    """True if this user can write it or, if it does not exist, create it."""
    reason: str = ""
    mode: int = 0
    format: int | None = None
    newest_format: int = 0
    holder: int | None = None
    """The PID of the process that holds the lock."""
    volume: Volume | None = None
    newest_at: float | None = None
    label: str = ""
    quarantined: int = 0
    lost: int = 0
    """`quarantined` and `lost`: the numbers of damaged and of missing blobs, not repaired yet."""


@dataclass(frozen=True, slots=True)
class Directory:
    """A watched directory."""

    path: Path
    sight: Sight
    is_directory: bool = False
    readable: bool = False
    writable: bool = False
    volume: Volume | None = None
    is_default: bool = False
    importer: str = ""
    """The distribution that also imports from it: `K3s`, `RKE2`, `k0s`."""
    takes_from_others: bool = False
    """True if others than root may write into it."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of linking a small file of the data directory into containerd.

    `way`: `link`, or `copy` if linking fails for the reason `no_link`. `collected`: True if
    containerd deleted the file, None if unknown. `error`: the error of the operating system that
    prevented the trial.
    """

    way: Literal["link", "copy", ""] = ""
    no_link: str = ""
    adopted: bool = False
    reason: str = ""
    collected: bool | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Cri:
    """CRI of a containerd. `discard`, `sandbox`: from its configuration; None, '' if unknown.

    `unread`: the configuration file that this user may not read.
    """

    not_ready: str = ""
    discard: bool | None = None
    sandbox: str = ""
    sandbox_present: bool | None = None
    sandbox_pinned: bool = False
    sandbox_held: bool | None = None
    """True if Airside has the sandbox image."""
    unread: str = ""
    hosts: tuple[Path, ...] = ()
    """The directories of `hosts.toml` files, in use now or after `hosts_warning` is resolved."""
    hosts_warning: str = ""
    images: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """The images by ID, each with its names."""


@dataclass(frozen=True, slots=True)
class Gunzip:
    """The program that containerd decompresses gzip with; '' if it has none or all are disabled."""

    program: str
    wanted: tuple[str, ...]
    """The programs that this version uses, the fastest first."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """The mirror settings of one runtime, by its socket or `registries.yaml`.

    `url`: the registry it should ask first. `asked`: the registries for which it does; `lacking`:
    those for which it does not. `_default` and `*` are all registries without own settings.
    """

    subject: str
    url: str
    command: str
    """The command that writes the settings."""
    asked: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    warning: str = ""
    """The reason containerd does not read the settings."""
    ignored: str = ""
    """The files that containerd ignores, and why."""
    reason: str = ""
    """The reason the doctor could not read the settings."""
    proxies: Mapping[str, str] = field(default_factory=dict)
    """As of the runtime."""
    then: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """For registries that ask us first, what is asked next if we lack an image, in order."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How a registry is reached. `seconds`: None if longer than was waited; `reason`: why not."""

    seconds: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Erofs:
    """Why containerd's snapshotter and differ `erofs` cannot be used; empty: they can."""

    snapshotter_error: str = ""
    differ_error: str = ""
    why_no_index: str = ""
    """Why layers are left to containerd's differ; empty: we write them."""
    mkfs: str = ""
    """Path and version of our mkfs.erofs."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """One containerd. `named`: True if the settings name its socket, else it was found."""

    socket: str
    name: str
    named: bool
    state: SocketState
    reason: str = ""
    version: str = ""
    numbers: tuple[int, ...] = ()
    policy: str = ""
    content_root: str = ""
    root_sight: Sight = "visible"
    other_mounts: bool = False
    """True if it has its own mount namespace."""
    trial: Trial | None = None
    foreign_names: tuple[str, ...] = ()
    """Names in its blob directories that are not digests."""
    snapshotter: str = ""
    snapshotter_error: str = ""
    unpacks_here: bool = True
    has_cri: bool = False
    cri: Cri | None = None
    gunzip: Gunzip | None = None
    erofs: Erofs | None = None
    """None: it does not have this snapshotter."""
    proxies: Mapping[str, str] = field(default_factory=dict)
    """The variables of its environment about proxies."""
    volume: Volume | None = None
    label: str = ""

    def is_since(self, of_1_6: int, of_1_7: int) -> bool:
        """Returns True for these patch releases of 1.6 and 1.7, and all later ones."""
        return self.numbers >= (1, 7, of_1_7) or (1, 6, of_1_6) <= self.numbers < (1, 7)


@dataclass(frozen=True, slots=True)
class Kubelet:
    """A kubelet's settings in files. `always_pull`: the files with it; `pulls`: policy and records.

    `has_api_server`: True if the files include the API server's arguments.
    """

    present: bool = False
    read: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    pulls: KubeletPulls = field(default_factory=KubeletPulls)
    always_pull: tuple[str, ...] = ()
    has_api_server: bool = False
    space: KubeletSpace | None = None
    """When it acts for lack of space on the file system of the data directory; None: never."""


@dataclass(frozen=True, slots=True)
class Inotify:
    """The inotify limits of the user `uid`, and the visible use by that user's processes."""

    uid: int
    max_watches: int
    max_instances: int
    watches: int
    instances: int


@dataclass(frozen=True, slots=True)
class Host:
    """The host. `synchronized`: True if the kernel reports a synchronised clock."""

    uid: int
    now: float
    synchronized: bool | None = None
    inotify: Inotify | None = None
    open_files: int | None = None
    open_files_of: str = ""
    selinux: Literal["off", "permissive", "enforcing"] = "off"
    has_overlay: bool | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All facts. A part that is None was not read; `unseen` has the error."""

    settings: Settings
    agent: Agent | None
    store: Store | None
    host: Host | None
    kubelet: Kubelet | None
    directories: tuple[Directory, ...] = ()
    runtimes: tuple[Runtime, ...] = ()
    mirrors: tuple[Mirror, ...] = ()
    reached: Mapping[str, Reach] = field(default_factory=dict)
    """How what `Mirror.then` names is reached, by address."""
    names: frozenset[str] | None = None
    """The names of Airside's images; None if unknown."""
    unseen: tuple[Unseen, ...] = ()
