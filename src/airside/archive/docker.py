"""What a docker-archive means (`docker save`, `skopeo copy docker-archive:`). Pure.

`manifest.json` names a config, layers and tags for each image; a manifest is built from them as
containerd's importer builds it in an empty namespace, so that digests are the same everywhere
(design 4.10, compared with a recorded table of its results). What vouches for the bytes: the
config's member name is its digest, and the config's diff IDs are the digests of the layers' tars.
Left to others: hashing, decompressing, completeness.
"""

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airside.archive.plan import (
    DOCKER_ARCHIVE,
    Facts,
    Plan,
    PlannedImage,
    Problem,
    ReadMember,
    Unpacked,
    drop_ambiguous,
    is_compressed,
)
from airside.errors import ManifestInvalidError, ReferenceInvalidError
from airside.oci.digest import Digest
from airside.oci.model import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    Document,
    ImageConfig,
    load_json,
    parse_config,
    parse_document,
)
from airside.oci.platform import Platform
from airside.oci.reference import Reference, parse_reference

MANIFEST_JSON = "manifest.json"
REPOSITORIES = "repositories"
_CONFIG_NAME = re.compile(r"(?:blobs/sha256/|sha256:)?([0-9a-f]{64})(?:\.json)?\Z")
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class SavedImage:
    """One entry of `manifest.json`."""

    config: str
    layers: tuple[str, ...]
    names: tuple[str, ...]


def parse_manifest_json(raw: bytes) -> tuple[SavedImage, ...]:
    """Parse `manifest.json`. Raises ManifestInvalidError."""
    value = load_json(raw, MANIFEST_JSON)
    if not isinstance(value, list) or not value:
        raise ManifestInvalidError(f"{MANIFEST_JSON} is not a list of images")
    return tuple(_saved_image(item, f"{MANIFEST_JSON}[{n}]") for n, item in enumerate(value))


def _saved_image(item: Any, what: str) -> SavedImage:
    if not isinstance(item, dict):
        raise ManifestInvalidError(f"{what} is not an object")
    config, layers, names = item.get("Config"), item.get("Layers"), item.get("RepoTags") or []
    if not isinstance(config, str) or not config:
        raise ManifestInvalidError(f"{what} names no Config")
    if not isinstance(layers, list) or not _texts(layers):
        raise ManifestInvalidError(f"{what}: Layers is not a list of names")
    if not isinstance(names, list) or not _texts(names):
        raise ManifestInvalidError(f"{what}: RepoTags is not a list of names")
    return SavedImage(_member(config), tuple(map(_member, layers)), tuple(names))


def _texts(value: list[Any]) -> bool:
    return all(isinstance(v, str) and v for v in value)


def _member(name: str) -> str:
    """The member name that the tar reader gives for this path."""
    return "/".join(part for part in name.split("/") if part not in {"", "."})


def parse_repositories(raw: bytes) -> frozenset[str] | None:
    """The full names that the `repositories` member lists; None if it is not understood."""
    try:
        value = load_json(raw, REPOSITORIES)
        return frozenset(
            str(parse_reference(f"{name}:{tag}")) for name, tags in value.items() for tag in tags
        )
    except (ManifestInvalidError, ReferenceInvalidError, AttributeError, TypeError):
        return None


def normalised(names: Iterable[str]) -> Iterator[str]:
    """The full names, as Docker reads them; bad ones are left out."""
    for name in names:
        with contextlib.suppress(ReferenceInvalidError):
            yield str(parse_reference(name))


@dataclass(frozen=True, slots=True)
class DockerDraft:
    """The images of `manifest.json`, before their members are hashed."""

    images: tuple[SavedImage, ...]
    links: Mapping[str, str]
    absent: frozenset[str]
    listed_names: frozenset[str] | None = None

    @property
    def members(self) -> tuple[str, ...]:
        wanted = (name for image in self.images for name in (image.config, *image.layers))
        found = (self.resolve(name) for name in wanted)
        return tuple(dict.fromkeys(name for name in found if name not in self.absent))

    def resolve(self, name: str) -> str:
        return self.links.get(name, name)

    def expected(self, read: ReadMember) -> dict[str, Digest]:
        """What uncompressed members should hash to: the config's diff IDs, the config's name.

        Only to find out what the store may hold already; nothing is trusted.
        """
        found: dict[str, Digest] = {}
        diff_ids: dict[str, tuple[Digest, ...]] = {}  # many images may name one large config
        for image in self.images:
            member = self.resolve(image.config)
            named = _CONFIG_NAME.match(image.config)
            if named:
                found[member] = Digest("sha256", named[1])
            if member in self.absent:
                continue
            if member not in diff_ids:
                diff_ids[member] = ()
                with contextlib.suppress(ManifestInvalidError):
                    diff_ids[member] = parse_config(read(member), image.config).diff_ids
            layers = map(self.resolve, image.layers)
            found |= dict(zip(layers, diff_ids[member], strict=False))
        return found

    def assemble(self, facts: Mapping[str, Facts], read: ReadMember) -> Plan:
        building = _Building(facts=facts, read=read, draft=self)
        for image in self.images:
            building.add(image)
        building.check_listed()
        return building.plan()


class _Building:
    """Collects a plan, image after image."""

    def __init__(self, *, facts: Mapping[str, Facts], read: ReadMember, draft: DockerDraft) -> None:
        self._facts, self._read, self._draft = facts, read, draft
        self._images: dict[Digest, PlannedImage] = {}
        self._documents: dict[Digest, Document] = {}
        self._blobs: dict[Digest, str] = {}
        self._platforms: dict[Digest, Platform] = {}
        self._problems: list[Problem] = []
        self._unvouched: dict[tuple[Digest, Digest], Unpacked] = {}
        self._lacks_members = False
        self._configs: dict[str, ImageConfig | ManifestInvalidError] = {}

    def plan(self) -> Plan:
        return Plan(
            format=DOCKER_ARCHIVE,
            images=tuple(self._images.values()),
            documents=self._documents,
            blobs=self._blobs,
            problems=tuple(self._problems),
            platforms=self._platforms,
            unvouched=tuple(self._unvouched.values()),
            lacks_members=self._lacks_members,
        )

    def add(self, image: SavedImage) -> None:
        shown = image.names[0] if image.names else image.config
        found = self._members_of(image, shown)
        if found is None:
            return
        config_member, layer_members = found
        try:
            config = self._config(config_member, image.config, shown)
            self._check_layers(config, layer_members)
        except ManifestInvalidError as exc:
            blob = exc.context.get("blob", "")
            self._problems.append(Problem(exc.message, image=shown, blob=blob))
            return
        document = build_manifest(
            self._facts[config_member], [self._facts[m] for m in layer_members], shown
        )
        for member in (config_member, *layer_members):
            self._blobs.setdefault(self._facts[member].digest, member)
        self._documents[document.digest] = document
        if config.platform is not None:
            self._platforms[document.digest] = config.platform
        self._name(document.digest, image, shown)

    def check_listed(self) -> None:
        """A name that only `repositories` has was lost from `manifest.json`."""
        given = {name for image in self._draft.images for name in normalised(image.names)}
        lost = (self._draft.listed_names or frozenset()) - given
        for name in sorted(lost):
            reason = (
                f"the member {REPOSITORIES!r} names {name!r}, {MANIFEST_JSON} does not: "
                "one of them is damaged or was edited"
            )
            self._problems.append(Problem(reason, image=name))
        if lost:
            images, problems = drop_ambiguous(self._images.values())
            self._images = {image.root: image for image in images}
            self._problems += problems

    def _members_of(self, image: SavedImage, shown: str) -> tuple[str, list[str]] | None:
        wanted = (image.config, *image.layers)
        missing = [n for n in wanted if self._draft.resolve(n) not in self._facts]
        for name in missing[:3]:
            reason = f"the archive has no member {name!r}, which {MANIFEST_JSON} names"
            self._problems.append(Problem(reason, image=shown, blob=name))
        if missing:
            self._lacks_members = True
            return None
        resolved = [self._draft.resolve(name) for name in wanted]
        return resolved[0], resolved[1:]

    def _config(self, member: str, name: str, shown: str) -> ImageConfig:
        facts = self._facts[member]
        named = _CONFIG_NAME.match(name)
        if named and named[1] != facts.digest.hex:
            raise ManifestInvalidError(
                f"config {name} hashes to {facts.digest}: its bytes are damaged", blob=name
            )
        if member not in self._configs:
            try:
                config = parse_config(self._read(member), f"config {name} of {shown}")
            except ManifestInvalidError as exc:
                self._configs[member] = exc
            else:
                self._configs[member] = config
        found = self._configs[member]
        if isinstance(found, ManifestInvalidError):
            raise found
        return found

    def _check_layers(self, config: ImageConfig, members: list[str]) -> None:
        if len(config.diff_ids) != len(members):
            raise ManifestInvalidError(
                f"the config has {len(config.diff_ids)} diff IDs for {len(members)} layers"
            )
        for diff_id, member in zip(config.diff_ids, members, strict=True):
            facts = self._facts[member]
            if facts.digest == diff_id:
                continue
            if not is_compressed(facts.head):
                raise ManifestInvalidError(
                    f"layer {member} hashes to {facts.digest}, the config says {diff_id}: "
                    "its bytes are damaged",
                    blob=member,
                )
            self._unvouched[facts.digest, diff_id] = Unpacked(facts.digest, diff_id, member)

    def _name(self, root: Digest, image: SavedImage, shown: str) -> None:
        before = self._images.get(root)
        references = dict.fromkeys(before.references if before else ())
        for name in image.names:
            try:
                reference = self._reference(name)
            except ReferenceInvalidError as exc:
                self._problems.append(Problem(exc.message, image=name))
                continue
            references[reference] = None
        self._images[root] = PlannedImage(root, tuple(references), shown, image.names)

    def _reference(self, name: str) -> Reference:
        reference = parse_reference(name)
        if reference.digest is not None:
            raise ReferenceInvalidError(f"{name!r} has a digest: RepoTags hold tags only")
        listed = self._draft.listed_names
        if listed is not None and str(reference) not in listed:
            raise ReferenceInvalidError(
                f"{MANIFEST_JSON} names {name!r}, the member {REPOSITORIES!r} does not: "
                "one of them is damaged or was edited"
            )
        return reference


def build_manifest(config: Facts, layers: list[Facts], shown: str) -> Document:
    """Build the manifest that containerd's importer builds: same fields, order and spacing."""
    value = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": _descriptor(DOCKER_CONFIG, config),
        "layers": [_descriptor(_layer_type(layer.head), layer) for layer in layers],
    }
    raw = json.dumps(value, separators=(",", ":")).encode()
    return parse_document(raw, DOCKER_MANIFEST, f"the manifest built for {shown}")


def _layer_type(head: bytes) -> str:
    return DOCKER_LAYER_GZIP if head.startswith((_GZIP, _ZSTD)) else DOCKER_LAYER


def _descriptor(media_type: str, facts: Facts) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(facts.digest), "size": facts.size_bytes}
