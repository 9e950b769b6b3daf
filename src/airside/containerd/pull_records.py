"""The images that came to this node without a secret, by the records that kubelet keeps. Blocking.

kubelet 1.35 and later records each pull in `image_manager/pulled/` of its directory (1.33 and 1.34
with the feature gate `KubeletEnsureSecretPulledImages`): the image as the runtime calls it, and for
each repository the secrets, or that every pod of the node may use it (KEP 2535). The latter also
stands for credentials of the node. Always holds:

- An image is open in a repository only if a record says so, no record names a secret for it, and
  nothing on this host gives the node credentials for the repository's registry: files of Docker's
  kind that kubelet reads, its credential provider plugins, settings and client certificates of
  containerd and K3s.
- What cannot be read or is malformed opens nothing.

Files are searched for words, not parsed, where they differ between distributions.
"""

import json
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airside.containerd.kubelet_files import kubelet_roots
from airside.core.errors import AirsideError
from airside.core.host_root import host_root
from airside.core.settings import MIB
from airside.oci.digest import Digest, parse_digest
from airside.oci.reference import Repository, parse_repository

_PULLED = "image_manager/pulled"
REMEMBERED_SECONDS = 5.0

_DOCKER_CONFIGS = (
    *("var/lib/kubelet/config.json", "var/lib/kubelet/.docker/config.json"),
    *("var/lib/kubelet/.dockercfg", "root/.docker/config.json", "root/.dockercfg"),
    *(".docker/config.json", ".dockercfg", "config.json"),
    *("var/lib/k0s/kubelet/config.json", "var/snap/microk8s/common/var/lib/kubelet/config.json"),
)
_PROVIDERS = (
    *("var/lib/rancher/credentialprovider/config.yaml", "etc/eks/image-credential-provider/*"),
    *("etc/kubernetes/*credential-provider*", "var/lib/kubelet/*credential-provider*"),
    "etc/srv/kubernetes/cri_auth_config.yaml",
)
_PROVIDER_FLAG = "image-credential-provider-config"
_UNREADABLE = f"password {_PROVIDER_FLAG}"
"""Stands for the text of a file that cannot be read: it may have any secret."""
_FLAGS = (
    *("etc/rancher/*/config.yaml", "etc/rancher/*/config.yaml.d/*.yaml"),
    "var/snap/microk8s/current/args/kubelet",
)
"""Flags of a kubelet that is no process of its own."""
_SETTINGS = (
    *("etc/containerd/config.toml", "etc/containerd/conf.d/*.toml"),
    *("var/lib/rancher/*/agent/etc/containerd/config.toml", "etc/rancher/*/registries.yaml"),
    *("etc/k0s/containerd.toml", "etc/k0s/containerd.d/*.toml"),
    "var/snap/microk8s/current/args/containerd*.toml",
)
_HOSTS = (
    *("etc/containerd/certs.d/*/hosts.toml", "etc/k0s/containerd/certs.d/*/hosts.toml"),
    *("var/lib/rancher/*/agent/etc/containerd/certs.d/*/hosts.toml",),
    "var/snap/microk8s/current/args/certs.d/*/hosts.toml",
)
_KEYS = tuple(hosts.replace("hosts.toml", "*.key") for hosts in _HOSTS)
"""Keys of client certificates, which containerd uses without a mention in hosts.toml."""
_SECRET = re.compile(
    r"^[^#\n]*(\.auth\b|\bauth\b|\bpassword\b|token\b|\bauthorization\b"
    r"|\bclient[ \t]*=|\bkey_file\b)",
    re.IGNORECASE | re.MULTILINE,
)
_PORT_OF_DIRECTORY = re.compile(r"_([0-9]+)_\Z")
"""containerd reads `host_5000_` for `host:5000`, before a directory of the latter name."""
_SECRETS = ("kubernetesSecrets", "kubernetesSecretCoordinates", "kubernetesServiceAccounts")
_MOST_RECORDS = 20_000
_MOST_BYTES = MIB

Opened = Mapping[Repository, frozenset[Digest]]


@dataclass(frozen=True, slots=True)
class PullRecord:
    """An image, as the runtime calls it (mostly its config's digest), and who may use it where."""

    digest: Digest
    opened: frozenset[Repository]
    secret: frozenset[Repository]


def parse_record(raw: bytes) -> PullRecord | None:
    """Parses an ImagePulledRecord (kubelet.config.k8s.io); None if it is malformed."""
    try:
        value = json.loads(raw)
        digest = parse_digest(value["imageRef"].rpartition("@")[2])
        mapping = dict(value.get("credentialMapping") or {})
        if value.get("kind", "ImagePulledRecord") != "ImagePulledRecord":
            return None
        parsed = {parse_repository(name): _is_open(each) for name, each in mapping.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, AirsideError):
        return None
    opened = frozenset(repository for repository, is_open in parsed.items() if is_open)
    return PullRecord(digest, opened, frozenset(parsed) - opened)


def _is_open(credentials: Any) -> bool:
    found = credentials.get("nodePodsAccessible")
    return found is True and not any(credentials.get(key) for key in _SECRETS)


class PullRecords:
    """The open images of this node. Thread-safe; reads the files again after a few seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until = float("-inf")
        self._opened: Opened = {}

    def opened(self, repository: Repository) -> frozenset[Digest]:
        """Returns the images of a repository that came without a secret, by digest."""
        with self._lock:
            if self._clock() >= self._until:
                self._opened = read_opened(host_root())
                self._until = self._clock() + REMEMBERED_SECONDS
            return self._opened.get(repository, frozenset())


def read_opened(root: Path) -> Opened:
    """Reads the records of every kubelet below a root; never raises OSError."""
    opened: dict[Repository, set[Digest]] = {}
    secret: dict[Repository, set[Digest]] = {}
    for record in _records(root):
        for found, repositories in ((opened, record.opened), (secret, record.secret)):
            for repository in repositories:
                found.setdefault(repository, set()).add(record.digest)
    hosts = credential_hosts(root) if opened else frozenset()
    return {
        repository: frozenset(digests - secret.get(repository, set()))
        for repository, digests in opened.items()
        if hosts is not None and repository.host not in hosts
    }


def _records(root: Path) -> Iterator[PullRecord]:
    for directory in kubelet_roots(root):
        with suppress(OSError):
            for path in sorted((directory / _PULLED).iterdir())[:_MOST_RECORDS]:
                raw = read_record(path) if not path.name.endswith(".tmp") else None
                record = parse_record(raw) if raw else None
                if record is not None:
                    yield record


def credential_hosts(root: Path) -> frozenset[str] | None:
    """Returns the registries that the node has credentials for; None if that may be any."""
    if any(_paths(root, _PROVIDERS)) or _has_provider_flag(root):
        return None
    if any(_SECRET.search(_text(path)) for path in _paths(root, _SETTINGS)):
        return None
    directories = {path.parent for path in _paths(root, _HOSTS) if _SECRET.search(_text(path))}
    directories |= {path.parent for path in _paths(root, _KEYS)}
    hosts = {_PORT_OF_DIRECTORY.sub(r":\1", directory.name) for directory in directories}
    for path in _paths(root, _DOCKER_CONFIGS):
        found = _docker_hosts(_text(path))
        if found is None:
            return None
        hosts |= found
    return None if "_default" in hosts else frozenset(hosts)


def _docker_hosts(text: str) -> set[str] | None:
    """Returns the hosts of a file of Docker's; None if it names a helper, or is malformed."""
    try:
        value = json.loads(text)
        if value.get("credsStore") or value.get("credHelpers"):
            return None
        names = list(value.get("auths", value))
    except (ValueError, AttributeError, TypeError, RecursionError):
        return None
    hosts = {name.partition("://")[2] or name for name in names}
    hosts = {host.partition("/")[0] for host in hosts}
    if any("*" in host for host in hosts):
        return None
    return {"docker.io" if host.endswith("docker.io") else host for host in hosts}


def _has_provider_flag(root: Path) -> bool:
    if any(_PROVIDER_FLAG in _text(path) for path in _paths(root, _FLAGS)):
        return True
    with suppress(OSError):
        for process in (root / "proc").iterdir():
            if process.name.isdigit() and _PROVIDER_FLAG.encode() in _head(process / "cmdline"):
                return True
    return False


def _paths(root: Path, patterns: Iterable[str]) -> Iterator[Path]:
    for pattern in patterns:
        with suppress(OSError):
            yield from (path for path in root.glob(pattern) if path.is_file())


def _head(path: Path) -> bytes:
    with suppress(OSError), path.open("rb") as file:
        return file.read(_MOST_BYTES)
    return b""


def _text(path: Path) -> str:
    """The text of a file; one that cannot be read counts as one with a secret."""
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode(errors="replace")
    except OSError:
        return _UNREADABLE


def read_record(path: Path) -> bytes | None:
    """The bytes of a small regular file; None of anything else."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - of a descriptor
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and found.st_size <= _MOST_BYTES:
                return file.read(_MOST_BYTES)
    return None
