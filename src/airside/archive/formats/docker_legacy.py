"""Plans an archive of Docker before 1.10: `repositories`, `json` and `layer.tar` per layer. Pure.

Every layer is an image of its own and names its parent. Config and manifest are made from the chain
of parents (ADR 0012), as Docker does when it loads such an archive; the same archive always gives
the same digests. containerd does not read this form, so there are no digests to agree with.

The bytes cannot be verified: the IDs are random or were computed from other data. The plan has a
note about that. Left to others: hashing, completeness.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from airside.archive.formats.allowance import Allowance
from airside.archive.formats.docker_manifest import REPOSITORIES
from airside.archive.formats.docker_v1 import Chains, V1Image, make_config
from airside.archive.formats.manifest import build_manifest
from airside.archive.formats.plan import (
    DOCKER_ARCHIVE,
    Facts,
    Plan,
    PlannedImage,
    ReadMember,
    layer_compression,
)
from airside.core.errors import ManifestInvalidError, ReferenceInvalidError
from airside.core.problem import Problem
from airside.oci.digest import Digest, digest_of
from airside.oci.model import Document, parse_config
from airside.oci.platform import Platform
from airside.oci.reference import Reference, parse_reference
from airside.oci.strict_json import load_json, parsed_bytes

NOTE = (
    "the archive is of the form of Docker before 1.10, which has no checksums: "
    "damage to its layers cannot be seen"
)
_JSON = re.compile(r"([0-9a-f]{64})/json\Z")
_CONFIG = re.compile(r"[0-9a-f]{64}\.json\Z")


@dataclass(frozen=True, slots=True)
class Top:
    """An image that a tag points to, or that is no other image's parent."""

    id: str
    references: tuple[Reference, ...]
    names: tuple[str, ...]

    @property
    def shown(self) -> str:
        """The name of the image in messages."""
        return self.names[0] if self.names else self.id


def is_legacy(files: frozenset[str]) -> bool:
    """Returns True if there are images of this form: a `json` in a directory named by an ID.

    Beside a config they are no images: Docker 1.10 to 24 writes them beside its `manifest.json`.
    """
    return any(map(_JSON.match, files)) and not any(map(_CONFIG.match, files))


@dataclass(slots=True)
class LegacyDraft:
    """Chains of v1 images, before their layers are hashed. Those of `tops` are complete."""

    tops: tuple[Top, ...]
    chains: Chains
    present: frozenset[str]
    links: Mapping[str, str]
    problems: tuple[Problem, ...]
    lacks_members: bool
    allowance: Allowance

    @property
    def members(self) -> tuple[str, ...]:
        wanted: dict[str, None] = {}
        for top in self.tops:
            v1_id = top.id
            while v1_id and v1_id not in wanted:
                wanted[v1_id] = None
                v1_id = self.chains.images[v1_id].parent
        layers = dict.fromkeys(self.resolve(self.chains.images[v1_id].layer) for v1_id in wanted)
        return tuple(name for name in layers if name in self.present)

    def resolve(self, name: str) -> str:
        """Returns the member that has the content of a name, which may be a link."""
        return self.links.get(name, name)

    def expected(self, read: ReadMember) -> dict[str, Digest]:
        """Returns nothing: the IDs are no digests."""
        del read
        return {}

    def assemble(self, facts: Mapping[str, Facts], read: ReadMember) -> Plan:
        del read
        builder = _PlanBuilder(self, facts)
        for top in self.tops:
            builder.add(top, self.chains.chain(top.id))
        return builder.plan()


def draft_legacy(
    *,
    files: frozenset[str],
    links: Mapping[str, str],
    read: ReadMember,
    allowance: Allowance,
) -> LegacyDraft:
    """Follow the parents of each tag, and of each image that has neither a tag nor a child.

    `links` are resolved. Both the documents that are read and those that are made from them have an
    `Allowance`. Raises ManifestInvalidError for a bad `repositories`, ArchiveLimitError.
    """
    problems: list[Problem] = []
    listed = _repositories(read(REPOSITORIES), problems) if REPOSITORIES in files else {}
    chains = Chains()
    allowance.take_names(sum(map(len, listed.values())), "")
    for v1_id in sorted(match[1] for match in map(_JSON.match, files) if match):
        raw = read(f"{v1_id}/json")
        allowance.take_bytes(len(raw), v1_id)
        allowance.take_parsed(parsed_bytes(raw), v1_id)
        chains.add(v1_id, raw)
    tops = [Top(v1_id, tuple(refs), tuple(map(str, refs))) for v1_id, refs in listed.items()]
    tops += [Top(v1_id, (), ()) for v1_id in chains.leaves() if v1_id not in listed]
    faults = [(top, chains.fault(top.id)) for top in tops]
    problems += [Problem(fault.reason, top.shown, fault.blob) for top, fault in faults if fault]
    return LegacyDraft(
        tops=tuple(top for top, fault in faults if fault is None),
        chains=chains,
        present=files,
        links=links,
        problems=tuple(problems),
        lacks_members=any(fault.missing for _, fault in faults if fault),
        allowance=allowance.again(),
    )


def _repositories(raw: bytes, problems: list[Problem]) -> dict[str, list[Reference]]:
    """Returns ID → the names that point to it. A bad name is a problem of its own."""
    value = load_json(raw, REPOSITORIES)
    if not isinstance(value, dict) or not all(isinstance(tags, dict) for tags in value.values()):
        raise ManifestInvalidError(f"{REPOSITORIES} is not an object of objects")
    found: dict[str, list[Reference]] = {}
    for name, tag, v1_id in ((n, t, v) for n, tags in value.items() for t, v in tags.items()):
        try:
            reference = _reference(name, tag, v1_id)
        except ReferenceInvalidError as exc:
            problems.append(Problem(exc.message, f"{name}:{tag}", code=exc.code))
            continue
        if reference not in found.setdefault(v1_id, []):
            found[v1_id].append(reference)
    return found


def _reference(name: str, tag: str, v1_id: object) -> Reference:
    reference = parse_reference(f"{name}:{tag}")
    if reference.digest is not None or not isinstance(v1_id, str) or not v1_id:
        raise ReferenceInvalidError(f"{REPOSITORIES} has no image ID for a tag of {name!r:.200}")
    return reference


@dataclass(slots=True)
class _PlanBuilder:
    """Collects a plan, image after image."""

    draft: LegacyDraft
    facts: Mapping[str, Facts]
    images: dict[Digest, PlannedImage] = field(default_factory=dict)
    documents: dict[Digest, Document] = field(default_factory=dict)
    blobs: dict[Digest, str] = field(default_factory=dict)
    made: dict[Digest, bytes] = field(default_factory=dict)
    platforms: dict[Digest, Platform] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    lacks_members: bool = False

    def __post_init__(self) -> None:
        self.problems += self.draft.problems
        self.lacks_members = self.draft.lacks_members

    def plan(self) -> Plan:
        return Plan(
            format=DOCKER_ARCHIVE,
            images=tuple(self.images.values()),
            documents=self.documents,
            blobs=self.blobs,
            problems=tuple(self.problems),
            notes=(NOTE,),
            platforms=self.platforms,
            made=self.made,
            lacks_members=self.lacks_members,
        )

    def add(self, top: Top, chain: tuple[V1Image, ...]) -> None:
        """Add the image of one chain, or a problem. Raises ArchiveLimitError."""
        layers = self._layers(top, chain)
        if layers is None:
            return
        raw = make_config(chain, {v1_id: layer.digest for v1_id, layer in layers.items()})
        config = Facts(digest_of(raw), len(raw), raw[:16])
        document = build_manifest(config, list(layers.values()), top.shown)
        self.draft.allowance.take_bytes(len(raw), top.shown)
        self.draft.allowance.take_document(document, top.shown)
        self.made[config.digest] = raw
        self.documents[document.digest] = document
        for v1_id, layer in layers.items():
            self.blobs.setdefault(layer.digest, self.draft.resolve(f"{v1_id}/layer.tar"))
        platform = parse_config(raw, f"the config made for {top.shown}").platform
        if platform is not None:
            self.platforms[document.digest] = platform
        before = self.images.get(document.digest, PlannedImage(document.digest, shown=top.shown))
        self.images[document.digest] = PlannedImage(
            document.digest,
            (*before.references, *top.references),
            before.shown,
            (*before.aliases, *top.names),
        )

    def _layers(self, top: Top, chain: tuple[V1Image, ...]) -> dict[str, Facts] | None:
        """Returns the layers by ID, lowest first; None with a problem if one is bad or missing."""
        layers: dict[str, Facts] = {}
        for v1 in chain:
            facts = self.facts.get(self.draft.resolve(v1.layer))
            if facts is None and v1.is_empty:
                continue
            if facts is None:
                reason = f"the archive has no member {v1.layer!r}, which the image needs"
                self.lacks_members = True
            elif layer_compression(facts.head):
                reason = (
                    f"layer {v1.layer} is compressed, which this form of archive does not allow"
                )
            else:
                layers[v1.id] = facts
                continue
            self.problems.append(Problem(reason, image=top.shown, blob=v1.layer))
            return None
        return layers
