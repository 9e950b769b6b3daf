"""The settings of an agent: defaults, units and help in one line each. `core.config` loads them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from airside.core.upstream_config import Upstream
from airside.core.webhook_config import Webhook

KIB, MIB, GIB = 1024, 1024**2, 1024**3
FORMAT = 1
"""Version of the layout of `DATA`, in the file `format`."""
CHUNK_BYTES = MIB
"""The size of a byte loop's chunk; the loop checks for a stop after each."""


def _setting(default: Any, unit: str, text: str) -> Any:
    return field(default=default, metadata={"unit": unit, "help": text})


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of an archive. Exceeding one raises ArchiveLimitError, which names it."""

    members: int = _setting(100_000, "members", "members of one archive")
    document_bytes: int = _setting(4 * MIB, "bytes", "one manifest, index, config or manifest.json")
    documents_bytes: int = _setting(32 * MIB, "bytes", "all manifests and indexes of one archive")
    total_bytes: int = _setting(512 * GIB, "bytes", "one archive, decompressed")
    blob_bytes: int = _setting(128 * GIB, "bytes", "one blob")
    ratio: int = _setting(1_000, "times", "decompressed to compressed size, past the first GiB")
    nesting: int = _setting(4, "levels", "indexes within indexes")
    names: int = _setting(10_000, "names", "image names of one archive")
    descriptors: int = _setting(
        100_000, "descriptors", "layers, manifests and diff IDs that all documents list"
    )
    records: int = _setting(
        250_000, "rows", "catalog rows for the names of one archive, their platforms and blobs"
    )
    name_bytes: int = _setting(4_096, "bytes", "a member's name or link target")
    headers_bytes: int = _setting(
        32 * MIB, "bytes", "names, link targets and extended headers of all members"
    )
    window_bytes: int = _setting(128 * MIB, "bytes", "decompression window of one file")
    list_bytes: int = _setting(MIB, "bytes", "one list of images (.txt)")
    archives: int = _setting(
        10_000, "archives", "archives of one watched directory; more are not looked at"
    )
    watches: int = _setting(
        2_048, "directories", "inotify watches of one watched directory; more are only scanned"
    )
    uploads: int = _setting(256, "uploads", "concurrent uploads of pushed blobs")
    client_uploads: int = _setting(
        64, "uploads", "concurrent uploads of one account or address, loopback aside"
    )
    upload_bytes: int = _setting(64 * GIB, "bytes", "one pushed blob")
    archive_uploads: int = _setting(32, "uploads", "unfinished uploads of archives to the page")
    archive_upload_bytes: int = _setting(128 * GIB, "bytes", "one archive uploaded to the page")
    fetches: int = _setting(32, "blobs", "concurrent fetches from upstream registries")
    list_lines: int = _setting(
        10_000, "lines", "lines of one list, without blank ones and comments"
    )


@dataclass(frozen=True, slots=True)
class WatchedDirectory:
    """One `[[images]]` table, or one `--images`."""

    path: Path
    """The directory."""
    on_removal: Literal["unpin", "delete", "keep"] = "unpin"
    """Images whose archive is removed: keep them for a while, delete them, or keep them."""
    strict: bool = False
    """True if an archive that lacks anything is rejected as a whole."""
    repository: str = ""
    """The repository of names that are only a tag, for instance `registry.example/team/app`."""
    platforms: tuple[str, ...] = ("all",)
    """The platforms to import: `all`, `node` (that of the setting `platform`), or a list."""
    recursive: bool = True
    """True if sub-directories are watched too."""
    copy: bool = False
    """True if an archive is copied into the data directory before it is read (USB sticks)."""
    links: Literal["inside", "owner", "any"] = "owner"
    """Where links may lead; `owner`: out of the directory, to what their owner may read."""
    priority: int = 0
    """Archives of the directory with the highest are imported and published first."""


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """One `[[retention_rules]]` table: what is deleted in the repositories of its patterns."""

    repositories: tuple[str, ...]
    """Patterns over `host/path`: `*` within a segment, `**` over segments."""
    keep_last: int | None = None
    """The number of newest tags of each repository that are not deleted."""
    keep_tags: tuple[str, ...] = ()
    """Patterns of tags that are neither deleted nor counted."""
    older_than_seconds: float | None = None
    """Only tags that moved before this time are deleted."""
    generations: int | None = None
    """Earlier versions kept of each tag; None: the setting `retention`."""
    untagged_seconds: float | None = None
    """The age at which untagged manifests are deleted; None: those pushed by digest stay."""
    sources: tuple[str, ...] = ("push",)
    """The origin of tags that may be deleted besides unbacked ones: `push`, `import`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Times in seconds, sizes in bytes."""

    data: Path = _setting(Path("/var/lib/airside/data"), "path", "store and catalog")
    data_group: str = _setting(
        "", "group", "may use the control socket; empty: only the agent's user"
    )
    listen: str = _setting("127.0.0.1:5050", "host:port", "address of the registry; empty: none")
    tls_cert: str = _setting("", "path", "certificate of the registry, with its chain (PEM)")
    tls_key: str = _setting("", "path", "key of the certificate; empty: in tls_cert")
    insecure: bool = _setting(
        False, "true|false", "allow other than loopback addresses without TLS"
    )
    client_ca: str = _setting("", "path", "authorities of client certificates (PEM)")
    htpasswd: str = _setting("", "path", "users and their passwords (bcrypt)")
    access: str = _setting("", "path", "tokens, and access rules by repository (TOML)")
    anonymous: str = _setting("auto", "auto|pull|none", "access of clients without a login")
    read_only: bool = _setting(False, "true|false", "refuse pushes and deletions")
    page: bool = _setting(
        True, "true|false", "serve the web page under /ui/ to clients that may pull everything"
    )
    public_url: str = _setting("", "URL", "address of the registry for clients")
    allowed_hosts: tuple[str, ...] = _setting(
        (), "hosts", "further names of the registry in requests without TLS; `*`: every name"
    )
    metrics: str = _setting(
        "auto",
        "auto|all|none",
        "who may read /metrics: clients that may pull everything, all, none",
    )
    metrics_listen: str = _setting(
        "", "host:port", "further address for /metrics, /healthz and /readyz only; empty: none"
    )
    otlp_endpoint: str = _setting(
        "",
        "URL",
        "OpenTelemetry collector for traces (OTLP over HTTP); empty: none",
    )
    max_connections: int = _setting(
        1_000, "connections", "connections to the registry; 0: any number"
    )
    max_client_connections: int = _setting(
        250, "connections", "connections of one client; 0: any number"
    )
    bandwidth_bytes: int = _setting(
        0, "bytes/s", "bandwidth of all blobs sent, and of all received; 0: no cap"
    )
    client_bandwidth_bytes: int = _setting(0, "bytes/s", "bandwidth of each client; 0: no cap")
    runtime: tuple[str, ...] = _setting(
        ("auto",), "", "auto, none, or the sockets of containerd that images are published to"
    )
    namespace: str = _setting("k8s.io", "", "namespace of containerd")
    unpack: str = _setting(
        "node-platform", "node-platform|never", "unpack images when they are published"
    )
    unpack_by: str = _setting(
        "auto",
        "auto|containerd",
        "who writes layers into snapshots; auto: Airside, where it is proved that it can",
    )
    other_platforms: str = _setting(
        "sole",
        "none|sole|all",
        "publish images that are not for this node: none, a tag's only manifest, all",
    )
    snapshotter: str = _setting("", "", "snapshotter for unpacking; empty: the one that CRI uses")
    extra_registries: tuple[str, ...] = _setting(
        (), "hosts", "each image gets its name in these registries too"
    )
    rewrite: tuple[str, ...] = _setting(
        (), "FROM=TO", "names in containerd: replace the prefix FROM by TO"
    )
    conflict: str = _setting(
        "ours", "ours|theirs", "whose image wins a name that somebody else set in containerd"
    )
    respect_rmi: bool = _setting(
        False, "true|false", "do not publish images again that were removed in containerd"
    )
    foreign_names: str = _setting(
        "keep", "keep|release", "what becomes of names in containerd that another catalog published"
    )
    read_through: str = _setting(
        "open",
        "open|true|digests|self|false",
        "serve images that only containerd has; open: those that came without a secret",
    )
    push: str = _setting(
        "own", "own|all|none", "repositories that accept pushes: without a registry, all, none"
    )
    delete: str = _setting(
        "own", "own|all|none", "repositories that allow deletion: without a registry, all, none"
    )
    push_sparse: bool = _setting(
        False, "true|false", "accept manifests and indexes whose blobs are missing"
    )
    registry_names: tuple[str, ...] = _setting(
        (),
        "hosts",
        "hosts of this registry, with port; empty: from `public_url`, `listen`",
    )
    upload_seconds: float = _setting(1800.0, "seconds", "an idle upload is cancelled after this")
    upload_directory: str = _setting(
        "",
        "path|none",
        "watched directory for archives uploaded to the page; empty: the first; none: refuse them",
    )
    archive_upload_seconds: float = _setting(
        86400.0, "seconds", "an unfinished upload of an archive is deleted after this"
    )
    answer_seconds: float = _setting(
        5.0, "seconds", "a mirror request that takes longer is answered with 404; 0: no limit"
    )
    offline: bool = _setting(False, "true|false", "never contact upstream registries")
    upstream_seconds: float = _setting(
        5.0, "seconds", "longest wait for the answer of an upstream registry"
    )
    tag_seconds: float = _setting(
        60.0, "seconds", "a tag of an upstream registry is cached for this time"
    )
    upstream_keep_seconds: float = _setting(
        30 * 86400.0, "seconds", "content from upstream expires this long after its last use"
    )
    log_format: str = _setting("auto", "auto|text|json", "form of the logs")
    log_level: str = _setting("info", "debug|info|warning|error", "least level that is logged")
    verify: str = _setting("full", "full|names", "hash stored blobs again, or trust members' names")
    verify_diff_ids: str = _setting(
        "auto",
        "auto|always|never",
        "decompress layers to check diff IDs; auto: where no digest proves them",
    )
    default_registry: str = _setting("docker.io", "host", "the registry of short repository paths")
    settle_seconds: float = _setting(
        0.3, "seconds", "a closed file is settled when unchanged for this time"
    )
    quiet_seconds: float = _setting(5.0, "seconds", "the same where no close was seen")
    rescan_seconds: float = _setting(60.0, "seconds", "between two scans for lost events")
    poll_seconds: float = _setting(
        2.0, "seconds", "between two scans where inotify is not available"
    )
    removal_seconds: float = _setting(
        2.0, "seconds", "a file absent for this time counts as removed"
    )
    reconcile_seconds: float = _setting(300.0, "seconds", "between two passes of self-repair")
    incomplete_seconds: float = _setting(
        3600.0, "seconds", "an incomplete archive fails after this"
    )
    retry_seconds: float = _setting(
        60.0, "seconds", "longest delay before a failed archive is retried"
    )
    pull_seconds: float = _setting(3600.0, "seconds", "longest pull of one image of a list")
    refused_seconds: float = _setting(
        300.0, "seconds", "delay before a refused image of a list is requested again"
    )
    platform: str = _setting("", "os/arch", "this node's platform; empty: the machine's own")
    parallel_imports: int = _setting(4, "archives", "concurrent imports")
    import_priority: str = _setting(
        "low", "normal|low|idle", "priority of imports and unpacking for processor and disk"
    )
    import_bytes_per_second: int = _setting(
        0, "bytes/s", "read rate of archives, of all imports together; 0: no cap"
    )
    window_budget_bytes: int = _setting(64 * MIB, "bytes", "windows of all running decompressions")
    documents_budget_bytes: int = _setting(
        48 * MIB, "bytes", "memory of all documents that are received, parsed and recorded at once"
    )
    min_free_bytes: int = _setting(
        256 * MIB, "bytes", "left free on the file systems of the store and of containerd"
    )
    retention: int = _setting(1, "generations", "earlier versions kept of each tag")
    unbacked_after_seconds: float = _setting(
        30 * 86400.0, "seconds", "images without an archive expire after this"
    )
    grace_seconds: float = _setting(
        3600.0, "seconds", "pushed blobs without a manifest expire after this"
    )
    low_space_bytes: int = _setting(
        256 * MIB, "bytes", "with less than this above min_free_bytes, collect more garbage"
    )
    low_space_percent: str = _setting(
        "auto",
        "auto|percent",
        "the same with less than this percentage free; auto: just above kubelet's thresholds",
    )
    scrub_seconds: float = _setting(
        30 * 86400.0, "seconds", "between two passes that re-hash the whole store; 0: none"
    )
    scrub_bytes_per_second: int = _setting(
        8 * MIB, "bytes/s", "read rate of such a pass; 0: no cap"
    )
    verify_reads_after_seconds: float = _setting(
        86400.0, "seconds", "a blob not hashed for this time is hashed as it is sent; 0: never"
    )
    backup_seconds: float = _setting(
        3600.0, "seconds", "between two copies of the catalog in DATA/backup; 0: none"
    )
    stop_seconds: float = _setting(4.0, "seconds", "a stop that takes longer is forced")
    images: tuple[WatchedDirectory, ...] = ()
    retention_rules: tuple[RetentionRule, ...] = ()
    upstream: tuple[Upstream, ...] = ()
    webhooks: tuple[Webhook, ...] = ()
    limits: Limits = field(default_factory=Limits)
