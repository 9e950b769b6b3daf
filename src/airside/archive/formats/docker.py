"""Plans a docker-archive (`docker save`, `skopeo copy docker-archive:`). Pure.

`manifest.json` names a config, layers and tags for each image. A manifest is built from them as
containerd's importer builds it in an empty namespace, so that digests are the same everywhere
(compared with a recorded table of its results). The bytes are verified by two digests: the config's
member name is its digest, and the config's diff IDs are the digests of the layers' tars. Left to
others: hashing, decompressing, completeness.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from airside.archive.formats.allowance import Allowance
from airside.archive.formats.docker_manifest import (
    CONFIG_NAME,
    MANIFEST_JSON,
    SavedImage,
)
from airside.archive.formats.listed_names import ListedNames, compare_listed
from airside.archive.formats.manifest import ForeignLayer, build_manifest
from airside.archive.formats.plan import (
    DOCKER_ARCHIVE,
    Facts,
    PackedLayer,
    Plan,
    PlannedImage,
    ReadMember,
    drop_ambiguous,
    is_compressed,
)
from airside.core.errors import ManifestInvalidError, ReferenceInvalidError
from airside.core.problem import Problem
from airside.oci.digest import Digest
from airside.oci.model import Document, ImageConfig, parse_config
from airside.oci.platform import Platform
from airside.oci.reference import Reference, parse_reference

_SHOWN_MISSING = 3


@dataclass(frozen=True, slots=True)
class DockerDraft:
    """The images of `manifest.json`, before their members are hashed."""

    images: tuple[SavedImage, ...]
    links: Mapping[str, str]
    absent: frozenset[str]
    listed: tuple[str, ...] = ()
    """The names in `repositories`; none if there is none that can be read."""
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    allowance: Allowance = field(default_factory=Allowance)

    @property
    def members(self) -> tuple[str, ...]:
        wanted = (name for image in self.images for name in (image.config, *image.layers))
        found = (self.resolve(name) for name in wanted)
        return tuple(dict.fromkeys(name for name in found if name not in self.absent))

    def resolve(self, name: str) -> str:
        """Returns the member that has the content of a name, which may be a link."""
        return self.links.get(name, name)

    def expected(self, read: ReadMember) -> dict[str, Digest]:
        """Returns the digests of configs by their names, and of plain layers by their diff IDs.

        Only used to look up blobs that the store may hold already; the bytes are hashed anyway.
        """
        found: dict[str, Digest] = {}
        diff_ids: dict[str, tuple[Digest, ...]] = {}  # many images may share one large config
        room = self.allowance.limits.descriptors
        for image in self.images:
            member = self.resolve(image.config)
            named = CONFIG_NAME.match(image.config)
            if named:
                found[member] = Digest("sha256", named[1])
            if member in self.absent:
                continue
            if member not in diff_ids:
                diff_ids[member] = ()
                with contextlib.suppress(ManifestInvalidError):
                    diff_ids[member] = parse_config(read(member), image.config).diff_ids
            room -= len(diff_ids[member])
            if room < 0:
                break  # `assemble` refuses the archive
            layers = map(self.resolve, image.layers)
            found |= dict(zip(layers, diff_ids[member], strict=False))
        return found

    def assemble(self, facts: Mapping[str, Facts], read: ReadMember) -> Plan:
        builder = _PlanBuilder(facts=facts, read=read, draft=self)
        for image in self.images:
            builder.add(image)
        return builder.plan()


@dataclass(slots=True)
class _Named:
    """The names of one document, which several entries of `manifest.json` may give it."""

    references: dict[Reference, None] = field(default_factory=dict)
    shown: str = ""
    aliases: tuple[str, ...] = ()

    def planned(self, root: Digest) -> PlannedImage:
        return PlannedImage(root, tuple(self.references), self.shown, self.aliases)


class _PlanBuilder:
    """Collects a plan, image after image."""

    def __init__(self, *, facts: Mapping[str, Facts], read: ReadMember, draft: DockerDraft) -> None:
        self._facts, self._read, self._draft = facts, read, draft
        self._images: dict[Digest, _Named] = {}
        self._documents: dict[Digest, Document] = {}
        self._blobs: dict[Digest, str] = {}
        self._platforms: dict[Digest, Platform] = {}
        self._problems = list(draft.problems)
        self._packed_layers: dict[tuple[Digest, Digest], PackedLayer] = {}
        self._lacks_members = False
        self._configs: dict[str, ImageConfig | ManifestInvalidError] = {}
        self._notes: dict[str, None] = {}
        self._listed = compare_listed(draft.images, draft.listed) if draft.listed else ListedNames()

    def plan(self) -> Plan:
        images = tuple(named.planned(root) for root, named in self._images.items())
        self._problems += self._listed.problems
        if self._listed.is_lossy:
            images, problems = drop_ambiguous(images)
            self._problems += problems
        return Plan(
            format=DOCKER_ARCHIVE,
            images=images,
            documents=self._documents,
            blobs=self._blobs,
            problems=tuple(self._problems),
            notes=(*self._draft.notes, *self._listed.notes, *self._notes),
            platforms=self._platforms,
            packed_layers=tuple(self._packed_layers.values()),
            lacks_members=self._lacks_members,
        )

    def add(self, image: SavedImage) -> None:
        """Add one image of `manifest.json`, or a problem if it is invalid or lacks members."""
        shown = image.names[0] if image.names else image.config
        try:
            config = self._config(image.config, shown)
            layers = self._layers(image, config, shown)
            if config is None or layers is None:
                return
            self._check_layers(config, image.layers, layers)
        except ManifestInvalidError as exc:
            blob = exc.context.get("blob", "")
            self._problems.append(Problem(exc.message, shown, blob, exc.code))
            return
        if not CONFIG_NAME.match(image.config):
            self._notes[
                f"the config {image.config} is not named by its digest: damage to it cannot be seen"
            ] = None
        config_facts = self._facts[self._draft.resolve(image.config)]
        document = build_manifest(config_facts, layers, shown)
        for member in map(self._draft.resolve, (image.config, *image.layers)):
            if member in self._facts:
                self._blobs.setdefault(self._facts[member].digest, member)
        self._draft.allowance.take_bytes(document.size_bytes, shown)
        self._documents[document.digest] = document
        if config.platform is not None:
            self._platforms[document.digest] = config.platform
        self._name(document.digest, image, shown)

    def _layers(
        self, image: SavedImage, config: ImageConfig | None, shown: str
    ) -> list[Facts | ForeignLayer] | None:
        """Returns the facts of each layer; None if members are missing, which is a problem."""
        found: list[Facts | ForeignLayer] = []
        missing = [image.config] if config is None else []
        for position, name in enumerate(image.layers):
            diff_ids = config.diff_ids[position : position + 1] if config else ()
            foreign = image.foreign.get(diff_ids[0]) if diff_ids else None
            layer = self._facts.get(self._draft.resolve(name)) or foreign
            if layer is None:
                missing.append(name)
            else:
                found.append(layer)
        for name in missing[:_SHOWN_MISSING]:
            reason = f"the archive has no member {name!r}, which {MANIFEST_JSON} names"
            self._problems.append(Problem(reason, shown, name, "missing_blob"))
        self._lacks_members = self._lacks_members or bool(missing)
        return None if missing else found

    def _config(self, name: str, shown: str) -> ImageConfig | None:
        """Returns an image's config; None if the archive lacks it. Raises ManifestInvalidError."""
        member = self._draft.resolve(name)
        facts = self._facts.get(member)
        if facts is None:
            return None
        named = CONFIG_NAME.match(name)
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
                self._draft.allowance.take_descriptors(len(config.diff_ids), shown)
                self._configs[member] = config
        found = self._configs[member]
        if isinstance(found, ManifestInvalidError):
            raise found
        return found

    def _check_layers(
        self, config: ImageConfig, names: tuple[str, ...], layers: list[Facts | ForeignLayer]
    ) -> None:
        if len(config.diff_ids) != len(layers):
            raise ManifestInvalidError(
                f"the config has {len(config.diff_ids)} diff IDs for {len(layers)} layers"
            )
        for diff_id, name, layer in zip(config.diff_ids, names, layers, strict=True):
            if isinstance(layer, Facts) and layer.digest != diff_id:
                self._check_packed(diff_id, name, layer)

    def _check_packed(self, diff_id: Digest, name: str, layer: Facts) -> None:
        """Record a layer whose digest is not its diff ID as compressed, to be checked later.

        Raises ManifestInvalidError if it is a plain tar, hence damaged, or empty.
        """
        member = self._draft.resolve(name)
        if not layer.size_bytes:
            raise ManifestInvalidError(
                f"layer {name} is empty: it was left out for a daemon that has it already; "
                "save the image with all its layers",
                blob=member,
            )
        if not is_compressed(layer.head):
            raise ManifestInvalidError(
                f"layer {member} hashes to {layer.digest}; the config says {diff_id}: "
                "its bytes are damaged",
                blob=member,
            )
        self._packed_layers[layer.digest, diff_id] = PackedLayer(layer.digest, diff_id, member)

    def _name(self, root: Digest, image: SavedImage, shown: str) -> None:
        named = self._images.setdefault(root, _Named())
        for name in image.names:
            try:
                reference = parse_reference(name)
            except ReferenceInvalidError as exc:
                self._problems.append(Problem(exc.message, image=name, code=exc.code))
                continue
            if reference.digest is not None and not reference.tag:
                reference = replace(reference, digest=root)
            reference = reference.without_digest
            if reference not in self._listed.damaged:
                named.references[reference] = None
        named.shown, named.aliases = shown, image.names
