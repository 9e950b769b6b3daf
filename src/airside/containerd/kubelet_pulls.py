"""Whether kubelet runs an image that is present without asking a registry for it. Blocking.

kubelet 1.35 and later (1.33 and 1.34 with the feature gate `KubeletEnsureSecretPulledImages`) keeps
`image_manager/pulled` and `image_manager/pulling` in its directory: a record for each image ID that
it pulled, with who may use it, and an intent for each name while it pulls (KEP 2535). By these and
by `imagePullCredentialsVerificationPolicy` it decides, as `doubt_of` does. What Airside publishes
has no record, unless kubelet had pulled the same image. Always holds:

- A record counts for every name of its image; who may use it is recorded for each repository.
- An intent that a broken pull left makes kubelet ask, and becomes a record without credentials when
  kubelet starts: then the image is refused for good where no registry answers.
- An image that kubelet asks for is pulled by containerd: from Airside, if it is the mirror.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

from airside.containerd.kubelet_files import kubelet_roots, kubelet_settings
from airside.containerd.pull_records import PullRecord, parse_record, read_record
from airside.core.errors import AirsideError
from airside.oci.digest import Digest
from airside.oci.reference import Reference, Repository, parse_reference, parse_repository

DEFAULT_POLICY = "NeverVerifyPreloadedImages"
_ALLOWLISTED = ("NeverVerifyAllowlistedImages", "NeverVerifyAllowListedImages")
_DIRECTORY = "image_manager"
_POLICY = re.compile(r"imagePullCredentialsVerificationPolicy[\"']?\s*[:=]\s*[\"']?(\w+)")
_GATE = re.compile(r"KubeletEnsureSecretPulledImages[\"']?\s*[:=]\s*[\"']?(true|false)\b")
_LIST = re.compile(
    r"preloadedImagesVerificationAllowlist[\"']?\s*:[ \t]*(?:\[([^\]]*)\]|((?:\n[ \t]*-[^\n]*)+))"
)
_COMMENT = re.compile(r"\s#[^\n]*")
_MOST_RECORDS = 20_000

Kind = Literal["policy", "record", "secret", "intent", "damaged"]


@dataclass(frozen=True, slots=True)
class PullPolicy:
    """kubelet's policy. `file`: where it is set, None for the default."""

    name: str = DEFAULT_POLICY
    allowlist: tuple[str, ...] = ()
    file: Path | None = None

    def asks(self, repository: Repository, *, pulled: bool) -> bool:
        """Returns True if it verifies credentials for a present image.

        `pulled`: kubelet has a record or an intent of it.
        """
        if self.name == DEFAULT_POLICY:
            return pulled
        if self.name in _ALLOWLISTED:
            return not any(_matches(pattern, str(repository)) for pattern in self.allowlist)
        return self.name != "NeverVerify"

    @property
    def asks_of_unknown(self) -> bool:
        """Returns True if it may verify images that kubelet never pulled."""
        return self.name not in (DEFAULT_POLICY, "NeverVerify")


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why kubelet asks a registry for a present image. `files`: the records that make it ask.

    `policy`: the policy alone. `record`: kubelet pulled the image, and no credentials are recorded
    for this repository. `secret`: pods with the recorded secret run it, others ask. `intent`:
    kubelet's pull of this name runs, or was broken off. `damaged`: kubelet cannot read its record.
    """

    kind: Kind
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class KubeletPulls:
    """The policy and the records. `is_kept`: False if no kubelet of this host keeps any.

    `unread`: a file that this user may not read, so that all of this is uncertain.
    """

    policy: PullPolicy = field(default_factory=PullPolicy)
    is_kept: bool = False
    records: Mapping[Digest, tuple[tuple[Path, PullRecord], ...]] = field(default_factory=dict)
    intents: Mapping[Reference, Path] = field(default_factory=dict)
    damaged: frozenset[Path] = frozenset()
    unread: Path | None = None

    def doubt_of(self, name: Reference, image_id: Digest | None) -> Doubt | None:
        """Returns why kubelet asks a registry for this image; None if it runs it at once."""
        records = self.records.get(image_id, ()) if image_id is not None else ()
        intent = self.intents.get(name)
        damaged = tuple(path for path in self.damaged if path.name == _file_name(image_id))
        if damaged:
            return Doubt("damaged", damaged)
        if not self.policy.asks(name.repository, pulled=bool(records) or intent is not None):
            return None
        if not records:
            return Doubt("policy") if intent is None else Doubt("intent", (intent,))
        files = tuple(path for path, _ in records)
        if any(name.repository in record.opened for _, record in records):
            return None
        with_secret = any(name.repository in record.secret for _, record in records)
        return Doubt("secret" if with_secret else "record", files)


def read_kubelet_pulls(root: Path) -> KubeletPulls:
    """Reads the settings and records of the kubelets below a root; never raises OSError."""
    found: dict[Digest, tuple[tuple[Path, PullRecord], ...]] = {}
    intents: dict[Reference, Path] = {}
    damaged: list[Path] = []
    is_kept, unread = False, None
    for directory in (each / _DIRECTORY for each in kubelet_roots(root)):
        try:
            pulled, pulling = (_names(directory / each) for each in ("pulled", "pulling"))
        except FileNotFoundError:
            continue
        except OSError:
            is_kept, unread = True, directory
            continue
        is_kept = True
        for path in pulled:
            record = parse_record(read_record(path) or b"")
            if record is None:
                damaged.append(path)
            else:
                found[record.digest] = (*found.get(record.digest, ()), (path, record))
        intents |= {name: path for path in pulling for name in _intent(read_record(path) or b"")}
    policy, closed = _policy(kubelet_settings(root))
    return KubeletPulls(policy, is_kept, found, intents, frozenset(damaged), unread or closed)


def _file_name(image_id: Digest | None) -> str:
    return f"sha256-{sha256(str(image_id).encode()).hexdigest()}"


def _names(directory: Path) -> list[Path]:
    """Returns the files of a directory. Raises OSError."""
    return sorted(p for p in directory.iterdir() if not p.name.endswith(".tmp"))[:_MOST_RECORDS]


def _intent(raw: bytes) -> Iterator[Reference]:
    """Yields the name of an ImagePullIntent; nothing if it is malformed."""
    try:
        value = json.loads(raw)
        if value.get("kind", "ImagePullIntent") == "ImagePullIntent":
            yield parse_reference(value["image"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, AirsideError):
        return


def _policy(files: Iterable[Path]) -> tuple[PullPolicy, Path | None]:
    """Returns the policy of these files, and one that this user may not read.

    Where the feature is off, by the last file that names its gate, kubelet verifies nothing.
    """
    policy, unread = PullPolicy(), None
    off: Path | None = None
    for path in files:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except PermissionError:
            unread = path
            continue
        except OSError:
            continue
        bare = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        if gate := _GATE.search(bare):
            off = path if gate[1] == "false" else None
        policy = _with(policy, bare, path)
    return (PullPolicy("NeverVerify", (), off) if off is not None else policy), unread


def _with(policy: PullPolicy, text: str, path: Path) -> PullPolicy:
    named, listed = _POLICY.search(text), _LIST.search(text)
    name, allowlist, file = policy.name, policy.allowlist, policy.file
    if listed:
        items = (listed[1] or "").split(",") if listed[1] is not None else listed[2].splitlines()
        bare = (_COMMENT.sub("", item).strip(" \t\r\n-\"'") for item in items)
        allowlist = tuple(filter(None, bare))
    if named:
        name, file = named[1], path
    return PullPolicy(name, allowlist, file)


def _matches(pattern: str, repository: str) -> bool:
    """Follows kubelet: an exact repository, or all below a prefix that ends in `/*`."""
    if pattern.endswith("/*"):
        return repository.startswith(pattern[:-1])
    try:
        return str(parse_repository(pattern)) == repository
    except AirsideError:
        return False
