"""The settings of an agent: defaults, units and help in one line each. `core.config` loads them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from airside.core.upstream_config import Upstream

KIB, MIB, GIB = 1024, 1024**2, 1024**3
FORMAT = 1
"""Version of the layout of `DATA`, in the file `format`."""
CHUNK_BYTES = MIB
"""What byte loops move at a time; between two chunks they look whether to stop."""


def _setting(default: Any, unit: str, text: str) -> Any:
    return field(default=default, metadata={"unit": unit, "help": text})


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may ask of us. Passing one raises ArchiveLimitError that names it."""

    members: int = _setting(100_000, "members", "members of one archive")
    document_bytes: int = _setting(4 * MIB, "bytes", "one manifest, index, config or manifest.json")
    documents_bytes: int = _setting(32 * MIB, "bytes", "all manifests and indexes of one archive")
    total_bytes: int = _setting(512 * GIB, "bytes", "one archive, decompressed")
    blob_bytes: int = _setting(128 * GIB, "bytes", "one blob")
    ratio: int = _setting(1_000, "times", "decompressed to compressed size, past the first GiB")
    nesting: int = _setting(4, "levels", "indexes within indexes")
    name_bytes: int = _setting(4_096, "bytes", "a member's name or link target")
    window_bytes: int = _setting(128 * MIB, "bytes", "the window that a compressed file asks for")
    list_bytes: int = _setting(MIB, "bytes", "one list of images (.txt)")
    uploads: int = _setting(256, "uploads", "pushed blobs that are under way at once")
    upload_bytes: int = _setting(64 * GIB, "bytes", "one pushed blob")
    fetches: int = _setting(32, "blobs", "fetched from upstream registries at once")
    list_lines: int = _setting(10_000, "lines", "of one list, without blank ones and comments")


@dataclass(frozen=True, slots=True)
class WatchedDirectory:
    """One `[[images]]` table, or one `--images`."""

    path: Path
    on_removal: Literal["unpin", "delete", "keep"] = "unpin"
    strict: bool = False
    repository: str = ""
    """Of names that are only a tag, for instance `registry.example/team/app`; empty: no tag."""
    platforms: tuple[str, ...] = ("all",)
    """What is taken of each image: `all`, `node` (that of the setting `platform`), or a list."""
    recursive: bool = True
    """Whether sub-directories are watched too."""
    copy: bool = False
    """Whether an archive is taken into the data directory before it is read (USB sticks)."""


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """One `[[retention_rules]]` table: what goes of the repositories that its patterns name."""

    repositories: tuple[str, ...]
    """Patterns over `host/path`: `*` within a segment, `**` over segments (`oci/patterns.py`)."""
    keep_last: int | None = None
    """The newest tags of each repository that stay."""
    keep_tags: tuple[str, ...] = ()
    """Patterns of tags that stay, and are not counted."""
    older_than_seconds: float | None = None
    """Only tags that moved longer ago go."""
    generations: int | None = None
    """Earlier versions kept of each tag; None: the setting `retention`."""
    untagged_seconds: float | None = None
    """For so long stay manifests that no tag leads to; None: those pushed by digest for ever."""
    sources: tuple[str, ...] = ("push",)
    """Whose tags may go besides unbacked ones: `push`, `import`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. Times in seconds, sizes in bytes."""

    data: Path = _setting(Path("/var/lib/airside/data"), "path", "store and catalog")
    listen: str = _setting("127.0.0.1:5050", "host:port", "address of the registry; empty: none")
    tls_cert: str = _setting("", "path", "certificate of the registry, with its chain (PEM)")
    tls_key: str = _setting("", "path", "its key; empty: in tls_cert")
    insecure: bool = _setting(False, "true|false", "without TLS on other than loopback addresses")
    client_ca: str = _setting("", "path", "clients may show certificates of these authorities")
    htpasswd: str = _setting("", "path", "users and their passwords (bcrypt)")
    access: str = _setting("", "path", "tokens, and who may do what in which repositories (TOML)")
    anonymous: str = _setting("auto", "auto|pull|none", "what clients may do that do not log in")
    read_only: bool = _setting(
        False, "true|false", "whether the registry refuses pushes, deletions"
    )
    public_url: str = _setting("", "URL", "of the registry, as clients write it")
    max_connections: int = _setting(1_000, "connections", "to the registry; 0: any number")
    max_client_connections: int = _setting(250, "connections", "of one client; 0: any number")
    bandwidth_bytes: int = _setting(0, "bytes/s", "of all blobs out, and of all in; 0: no cap")
    client_bandwidth_bytes: int = _setting(0, "bytes/s", "the same of each client; 0: no cap")
    runtime: tuple[str, ...] = _setting(
        ("auto",), "", "auto, none, or the sockets of containerd that images are published to"
    )
    namespace: str = _setting("k8s.io", "", "namespace of containerd")
    unpack: str = _setting(
        "node-platform", "node-platform|never", "whether images are unpacked when published"
    )
    snapshotter: str = _setting("", "", "unpacks images; empty: the one that CRI uses")
    extra_registries: tuple[str, ...] = _setting(
        (), "hosts", "each image gets its name in these registries too"
    )
    rewrite: tuple[str, ...] = _setting(
        (), "FROM=TO", "names in containerd: a prefix and what stands in its place"
    )
    conflict: str = _setting(
        "ours", "ours|theirs", "whose a name is that somebody else points at another image"
    )
    respect_rmi: bool = _setting(
        False, "true|false", "what was removed from containerd stays removed"
    )
    read_through: str = _setting(
        "true", "true|digests|self|false", "whether what only containerd holds is served too"
    )
    push: str = _setting(
        "own", "own|all|none", "what may be pushed: names without a registry, all, nothing"
    )
    delete: str = _setting(
        "own", "own|all|none", "what may be deleted: names without a registry, all, nothing"
    )
    push_sparse: bool = _setting(
        False, "true|false", "whether what a manifest or index lists may be absent"
    )
    registry_names: tuple[str, ...] = _setting(
        (),
        "hosts",
        "what clients call this registry, port included; empty: by `public_url`, `listen`",
    )
    upload_seconds: float = _setting(3600.0, "seconds", "an upload without a byte is given up")
    answer_seconds: float = _setting(
        5.0, "seconds", "a mirror request that can't be answered in this time is a 404; 0: it waits"
    )
    offline: bool = _setting(False, "true|false", "upstream registries are not asked")
    upstream_seconds: float = _setting(
        5.0, "seconds", "an upstream registry that takes longer to answer has nothing"
    )
    tag_seconds: float = _setting(
        60.0, "seconds", "before an upstream registry is asked again where a tag points"
    )
    upstream_keep_seconds: float = _setting(
        30 * 86400.0, "seconds", "what came from an upstream is kept for so long after its last use"
    )
    log_format: str = _setting("auto", "auto|text|json", "form of the logs")
    log_level: str = _setting("info", "debug|info|warning|error", "what is logged")
    verify: str = _setting("full", "full|names", "hash held blobs again, or trust members' names")
    verify_diff_ids: str = _setting(
        "auto",
        "auto|always|never",
        "decompress layers to check diff IDs; auto: where no digest vouches",
    )
    default_registry: str = _setting("docker.io", "host", "the registry of short repository paths")
    settle_seconds: float = _setting(0.3, "seconds", "unchanged for so long after close-write")
    quiet_seconds: float = _setting(5.0, "seconds", "unchanged for so long where no close is seen")
    rescan_seconds: float = _setting(60.0, "seconds", "between two scans for lost events")
    poll_seconds: float = _setting(
        2.0, "seconds", "between two scans where inotify is not to be had"
    )
    removal_seconds: float = _setting(2.0, "seconds", "absent for so long is removed")
    reconcile_seconds: float = _setting(300.0, "seconds", "between two passes of self-repair")
    incomplete_seconds: float = _setting(
        3600.0, "seconds", "an incomplete archive fails after this"
    )
    retry_seconds: float = _setting(
        60.0, "seconds", "longest wait before a failed archive is tried again"
    )
    pull_seconds: float = _setting(3600.0, "seconds", "longest pull of one image of a list")
    refused_seconds: float = _setting(
        300.0, "seconds", "before an image of a list that its registry refused is asked for again"
    )
    platform: str = _setting("", "os/arch", "this node's platform; empty: the machine's own")
    parallel_imports: int = _setting(4, "archives", "imported side by side")
    window_budget_bytes: int = _setting(64 * MIB, "bytes", "windows of all running decompressions")
    min_free_bytes: int = _setting(256 * MIB, "bytes", "left free on the store's file system")
    retention: int = _setting(1, "generations", "earlier versions kept of each tag")
    unbacked_after_seconds: float = _setting(
        30 * 86400.0, "seconds", "images without an archive are kept for so long"
    )
    grace_seconds: float = _setting(
        3600.0, "seconds", "what was pushed and has no manifest yet is kept for so long"
    )
    low_space_bytes: int = _setting(
        256 * MIB, "bytes", "less than this above min_free_bytes: more is collected than usual"
    )
    scrub_seconds: float = _setting(
        30 * 86400.0, "seconds", "between two passes that re-hash the whole store; 0: none"
    )
    scrub_bytes_per_second: int = _setting(
        8 * MIB, "bytes/s", "how fast such a pass reads; 0: as fast as it can"
    )
    stop_seconds: float = _setting(4.0, "seconds", "a stop that takes longer is forced")
    images: tuple[WatchedDirectory, ...] = ()
    retention_rules: tuple[RetentionRule, ...] = ()
    upstream: tuple[Upstream, ...] = ()
    limits: Limits = field(default_factory=Limits)
