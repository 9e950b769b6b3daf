"""What was seen of a host, as values: what `gather` finds and `judge` reads. Pure.

None, or an empty text, is what could not be told; why it could not is in a `reason` beside it or in
`Facts.unseen`. Sizes are in bytes, times in seconds since 1970.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from airside.core.settings import Settings

AgentState = Literal["running", "absent", "silent", "forbidden"]
SocketState = Literal[
    "answers", "absent", "forbidden", "refused", "silent", "no-socket", "not-containerd"
]
Sight = Literal["visible", "absent", "forbidden"]


@dataclass(frozen=True, slots=True)
class Unseen:
    """Something that could not be looked at at all, and why."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Volume:
    """The file system that a path lies on. `inodes` are 0 where it does not count them."""

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
    """What the running agent says of one containerd. `streams_because`: why blobs are sent."""

    socket: str
    connected: bool
    reason: str = ""
    streams_because: str = ""


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
    """Whether everybody may pull everything."""
    answer: int | None = None
    answer_reason: str = ""
    archives: Mapping[str, int] = field(default_factory=dict)
    modes: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Per watched directory how changes are noticed, and why so."""
    published: tuple[Published, ...] = ()


@dataclass(frozen=True, slots=True)
class Store:
    """The data directory. `newest_at`: when it last changed, as its files and catalog tell."""

    path: Path
    exists: bool
    writable: bool
    """Or, where it does not exist, whether it can be made."""
    reason: str = ""
    mode: int = 0
    format: int | None = None
    newest_format: int = 0
    holder: int | None = None
    """The process that has the lock."""
    volume: Volume | None = None
    newest_at: float | None = None
    label: str = ""
    quarantined: int = 0
    lost: int = 0
    """Blobs whose bytes were found wrong, and that are not there, and that are not repaired yet."""


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
    """Of whom else it is the drop directory: `k3s`, `rke2`, `k0s`."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A small file of the data directory given to containerd, and taken out again.

    `way`: `link`, or `copy` where it can't be linked, for the reason `no_link`. `collected`: None
    if it was not told. `error`: what the operating system refused, so that nothing was tried.
    """

    way: Literal["link", "copy", ""] = ""
    no_link: str = ""
    adopted: bool = False
    reason: str = ""
    collected: bool | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Cri:
    """What is behind CRI. `discard`, `sandbox`: of its configuration; None, empty if unknown.

    `unread`: its configuration file that this user may not read.
    """

    not_ready: str = ""
    discard: bool | None = None
    sandbox: str = ""
    sandbox_present: bool | None = None
    sandbox_pinned: bool = False
    sandbox_held: bool | None = None
    """Whether Airside itself has it."""
    unread: str = ""
    hosts: tuple[Path, ...] = ()
    """Where it looks for `hosts.toml` files, or would if `hosts_warning` were done."""
    hosts_warning: str = ""


@dataclass(frozen=True, slots=True)
class Gunzip:
    """What containerd decompresses gzip with; a program that it was told not to use is none."""

    program: str
    wanted: tuple[str, ...]
    """The programs that this version would use, the best first."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """The mirror settings of one runtime, by its socket or `registries.yaml`.

    `url`: the registry that it is to ask first. `asked`: the registries for which it does so;
    `lacking`: those for which it does not. `_default` and `*` are all that have no own settings.
    """

    subject: str
    url: str
    command: str
    """What writes them."""
    asked: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    warning: str = ""
    """What keeps containerd from reading the settings."""
    reason: str = ""
    """Why they could not be read here."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """One containerd. `named`: the settings name its socket; else it was found."""

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
    """Whether it has a mount namespace of its own."""
    trial: Trial | None = None
    foreign_names: tuple[str, ...] = ()
    """In its blob directories what is no digest."""
    snapshotter: str = ""
    snapshotter_error: str = ""
    unpacks_here: bool = True
    has_cri: bool = False
    cri: Cri | None = None
    gunzip: Gunzip | None = None
    volume: Volume | None = None
    label: str = ""

    def is_since(self, of_1_6: int, of_1_7: int) -> bool:
        """Whether it has what came with these patch releases of 1.6 and 1.7."""
        return self.numbers >= (1, 7, of_1_7) or (1, 6, of_1_6) <= self.numbers < (1, 7)


@dataclass(frozen=True, slots=True)
class Kubelet:
    """What files say of a kubelet. `policies`, `always_pull`: by file.

    `has_api_server`: whether the API server's arguments were among them.
    """

    present: bool = False
    read: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    policies: Mapping[str, str] = field(default_factory=dict)
    always_pull: tuple[str, ...] = ()
    has_api_server: bool = False


@dataclass(frozen=True, slots=True)
class Inotify:
    """A limit of the user `uid`, and what that user's processes use of it, as far as seen."""

    uid: int
    max_watches: int
    max_instances: int
    watches: int
    instances: int


@dataclass(frozen=True, slots=True)
class Host:
    """`synchronized`: whether the kernel says that something keeps the clock right."""

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
    """All that was seen. A part that is None was not: `unseen` says why."""

    settings: Settings
    agent: Agent | None
    store: Store | None
    host: Host | None
    kubelet: Kubelet | None
    directories: tuple[Directory, ...] = ()
    runtimes: tuple[Runtime, ...] = ()
    mirrors: tuple[Mirror, ...] = ()
    unseen: tuple[Unseen, ...] = ()
