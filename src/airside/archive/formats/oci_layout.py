"""Plans an OCI image layout (image-layout.md). Pure.

`layout_walk` collects the documents from `index.json` down in a `LayoutDraft`, which makes the plan
once the blobs are hashed. A child document that is absent is an absent platform.
`airside.archive.completeness` judges which images are complete.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from airside.archive.formats.allowance import Allowance
from airside.archive.formats.docker_manifest import SavedImage
from airside.archive.formats.entry_names import name_roots, note_tags
from airside.archive.formats.listed_names import unknown_names
from airside.archive.formats.plan import (
    OCI_LAYOUT,
    Facts,
    Plan,
    PlannedImage,
    ReadMember,
    is_compressed,
    layer_compression,
    not_runnable_note,
)
from airside.archive.formats.saved_names import SavedNames, places_by_config
from airside.core.errors import InputError, ManifestInvalidError
from airside.core.problem import Problem
from airside.oci.chain import file_system_layers, unpack_obstacle
from airside.oci.digest import Digest
from airside.oci.model import (
    OCI_LAYER,
    Descriptor,
    Document,
    ImageConfig,
    Index,
    Manifest,
    parse_config,
)
from airside.oci.platform import Platform

LAYOUT_FILE = "oci-layout"


def blob_member(digest: Digest) -> str:
    """Returns the member name of a blob."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


@dataclass(slots=True)
class LayoutDraft:
    """The documents below `index.json`, before the blobs are hashed."""

    roots: tuple[Descriptor, ...]
    documents: dict[Digest, Document] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    present: frozenset[str] = frozenset()
    bad: set[Digest] = field(default_factory=set)
    saved: tuple[SavedImage, ...] = ()
    listed: tuple[str, ...] = ()
    """The names in a `repositories` beside the index."""
    allowance: Allowance = field(default_factory=Allowance)

    @property
    def members(self) -> tuple[str, ...]:
        wanted = dict.fromkeys(
            blob_member(child.digest)
            for document in self.documents.values()
            for child in document.children
        )
        wanted |= dict.fromkeys(blob_member(digest) for digest in self.documents)
        return tuple(name for name in wanted if name in self.present)

    def expected(self, read: ReadMember) -> dict[str, Digest]:
        """Returns nothing: the members' names have their digests."""
        del read
        return {}

    def assemble(self, facts: Mapping[str, Facts], read: ReadMember) -> Plan:
        blobs: dict[Digest, str] = {}
        for name in self.members:
            found = facts[name].digest
            if blob_member(found) == name:
                blobs[found] = name
            else:
                expected = name.removeprefix("blobs/").replace("/", ":")
                reason = f"member {name} hashes to {found}: its bytes are damaged"
                self.problems.append(Problem(reason, blob=expected, code="digest_mismatch"))
        platforms, rejected = self._read_configs(blobs, facts, read)
        images = self._named_images()
        return Plan(
            format=OCI_LAYOUT,
            images=images,
            documents=self.documents,
            blobs=blobs,
            problems=tuple(self.problems),
            notes=tuple(self.notes),
            platforms=platforms,
            rejected=frozenset(rejected),
        )

    def _named_images(self) -> tuple[PlannedImage, ...]:
        """Returns the roots with their names. Raises ArchiveLimitError."""
        named, problems = name_roots(self.roots, self.notes)
        places = places_by_config(named, self.documents, self.allowance.limits)
        is_sound = not self.problems and not problems and self.documents.keys() >= named.keys()
        names = SavedNames(named, places, self.notes, is_sound)
        names.compare(self.saved)
        note_tags(named.values(), self.notes)
        self.problems += [*problems, *names.problems]
        if self.listed and not self.problems:
            self.problems += unknown_names(self.listed, names.known(self.saved))
        return tuple(root.planned() for root in named.values())

    def _read_configs(
        self, blobs: Mapping[Digest, str], facts: Mapping[str, Facts], read: ReadMember
    ) -> tuple[dict[Digest, Platform], set[Digest]]:
        """Returns the platform of each image whose config is present, and manifests to reject."""
        platforms: dict[Digest, Platform] = {}
        rejected: set[Digest] = set()
        configs: dict[str, ImageConfig | InputError] = {}  # many manifests may share a large one
        declared = self._declared_platforms()
        for digest, document in self.documents.items():
            manifest = document.content
            if digest in declared:
                platforms[digest] = declared[digest]
            if not isinstance(manifest, Manifest) or not (document.is_image or document.is_wasm):
                continue
            member = blobs.get(manifest.config.digest)
            if member is None:
                continue
            if member not in configs:
                configs[member] = self._config(read, member, manifest.config.digest)
            try:
                config = _checked(configs[member], document, manifest, facts)
            except InputError as exc:
                blob = exc.context.get("blob", str(manifest.config.digest))
                self.problems.append(Problem(exc.message, blob=blob, code=exc.code))
                rejected.add(digest)
                continue
            self.notes += _not_runnable(document, manifest, config, facts)
            if config.platform is not None:
                known = platforms.setdefault(digest, config.platform)
                self.notes += _contradiction(digest, known, config.platform)
        return platforms, rejected

    def _declared_platforms(self) -> dict[Digest, Platform]:
        """Returns the platforms that `index.json` and the indexes below it list."""
        indexes = (d.content for d in self.documents.values() if isinstance(d.content, Index))
        entries = (*self.roots, *(entry for index in indexes for entry in index.manifests))
        found: dict[Digest, Platform] = {}
        for entry in entries:
            document = self.documents.get(entry.digest)
            if entry.platform is not None and document and not isinstance(document.content, Index):
                found.setdefault(entry.digest, entry.platform)
        return found

    def _config(self, read: ReadMember, member: str, digest: Digest) -> ImageConfig | InputError:
        """Returns a config, which stays in memory, or why it is bad. Raises ArchiveLimitError."""
        config = _config(read, member, digest)
        if isinstance(config, ImageConfig):
            self.allowance.take_descriptors(len(config.diff_ids), "")
        return config


def _config(read: ReadMember, member: str, digest: Digest) -> ImageConfig | InputError:
    try:
        return parse_config(read(member), f"config {digest}")
    except InputError as exc:
        return exc


def _checked(
    config: ImageConfig | InputError,
    document: Document,
    manifest: Manifest,
    facts: Mapping[str, Facts],
) -> ImageConfig:
    """Returns a config that fits its manifest. Raises InputError.

    Only an image's config must: one of WebAssembly is read for its platform.
    """
    if not document.is_image:
        return config if isinstance(config, ImageConfig) else ImageConfig(None, ())
    if isinstance(config, InputError):
        raise config
    _check_diff_ids(config, manifest, facts)
    return config


def _check_diff_ids(config: ImageConfig, manifest: Manifest, facts: Mapping[str, Facts]) -> None:
    """Raise ManifestInvalidError if an uncompressed layer's digest is not its diff ID.

    This check costs no hashing (config.md, rootfs).
    """
    if len(config.diff_ids) != len(manifest.layers):
        return
    for diff_id, layer in zip(config.diff_ids, manifest.layers, strict=True):
        known = facts.get(blob_member(layer.digest))
        plain = known is not None and not is_compressed(known.head)
        comparable = plain and layer.digest.algorithm == diff_id.algorithm
        if comparable and layer.media_type.endswith(".tar") and layer.digest != diff_id:
            raise ManifestInvalidError(
                f"layer {layer.digest} is not compressed, but the config's diff ID is {diff_id}",
                blob=layer.digest,
            )


def _contradiction(digest: Digest, listed: Platform, said: Platform) -> Iterator[str]:
    """Yields a note if an index and a config name different machines, variants aside."""
    if (listed.os, listed.architecture) != (said.os, said.architecture):
        yield f"{digest} is listed for {listed}, but its config says {said}: the list counts"


def _not_runnable(
    document: Document, manifest: Manifest, config: ImageConfig, facts: Mapping[str, Facts]
) -> Iterator[str]:
    """Yields the reasons why an image cannot be run, although it is stored and served."""
    layers = file_system_layers(manifest, len(config.diff_ids))
    mismatched = config.diff_ids and len(config.diff_ids) != len(layers)
    if mismatched and document.is_image and not unpack_obstacle(document):
        yield (
            f"{document.digest} lists {len(manifest.layers)} layers, its config "
            f"{len(config.diff_ids)} diff IDs: the image is stored and served, but containerd and "
            "Docker cannot run it"
        )
    for layer in manifest.layers:
        known = facts.get(blob_member(layer.digest))
        note = not_runnable_note(str(layer.digest), layer_compression(known.head)) if known else ""
        if note:
            yield note


def has_disordered_layers(draft: LayoutDraft, read: ReadMember) -> bool:
    """Returns True if an image lists its layers in another order than its config, or lacks some.

    Checks images of plain layers only, whose digests are the config's diff IDs.
    """
    known: dict[str, list[Digest]] = {}  # many manifests may share a large config
    allowance = Allowance(draft.allowance.limits)
    for document in draft.documents.values():
        manifest = document.content
        if not isinstance(manifest, Manifest) or not document.is_image:
            continue
        member = blob_member(manifest.config.digest)
        layers = [layer.digest for layer in manifest.layers if layer.media_type == OCI_LAYER]
        if member not in draft.present or len(layers) != len(manifest.layers):
            continue
        if member not in known:
            config = _config(read, member, manifest.config.digest)
            known[member] = [] if isinstance(config, InputError) else list(config.diff_ids)
            allowance.take_descriptors(len(known[member]), "")
        wanted = known[member]
        if layers != wanted and not Counter(layers) - Counter(wanted):
            return True
    return False
