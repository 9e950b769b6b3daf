"""Archives as each maker writes them: names of members, order, links and documents are its own.

Written after reading the makers' sources; what each builder says of a maker is what that maker
does. Digests that must come out are computed here, apart from the code under test.
"""

import hashlib
import io
import json
import posixpath
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airside.archive.formats.index_json import IMAGE_NAME, REF_NAME
from airside.archive.formats.oci_layout import blob_member
from airside.archive.writer.docker_archive import docker_members
from airside.archive.writer.image_spec import OCI_LAYER_ZSTD
from airside.archive.writer.member import Member, blob_of
from airside.archive.writer.tar_stream import write_archive
from airside.oci.digest import Digest
from airside.oci.model import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
)
from airside.oci.reference import parse_reference
from support.images import (
    TestBlob,
    TestImage,
    TestLayer,
    compact,
    containerd_manifest,
    open_output,
    random_layer,
    sha256,
)

HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
HELM_CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
COSIGN_SIGNATURE = "application/vnd.dev.cosign.simplesigning.v1+json"
SPDX = "application/spdx+json"
EMPTY = TestBlob(b"{}", OCI_EMPTY)


def file(name: str, data: bytes) -> Member:
    return Member(name, blob_of(data))


def write_members(path: Path, members: Iterable[Member], *, compression: str = "none") -> None:
    with open_output(path, compression) as out:
        write_archive(out, members)


def write_tar(
    path: Path,
    members: Iterable[Member],
    *,
    form: int = tarfile.PAX_FORMAT,
    prefix: str = "",
    hard_links: bool = False,
) -> None:
    """The same by `tarfile`: in another form of tar, as `tar -C DIR .`, or with hard links."""
    with tarfile.open(path, "w", format=form) as tar:
        for member in members:
            info = tarfile.TarInfo(prefix + member.name)
            data = b""
            if member.blob is not None:
                with member.blob.open() as stream:
                    data = stream.read()
                info.size = len(data)
            elif member.target and hard_links:
                folder = posixpath.dirname(member.name)
                info.type = tarfile.LNKTYPE
                info.linkname = prefix + posixpath.normpath(f"{folder}/{member.target}")
            elif member.target:
                info.type, info.linkname = tarfile.SYMTYPE, member.target
            else:
                info.type = tarfile.DIRTYPE
            tar.addfile(info, io.BytesIO(data))


# docker-archives


Named = Mapping[tuple[str, ...], TestImage]
"""Images by their names."""


def built(images: Named) -> dict[str, Digest]:
    """Reference → digest of the manifest that containerd builds for each image."""
    return {
        str(parse_reference(name)): sha256(containerd_manifest(image))
        for names, image in images.items()
        for name in names
    }


def kept(images: Named) -> dict[str, Digest]:
    """Reference → digest of the image's own manifest, as layouts have it."""
    return {
        str(parse_reference(name)): image.digest
        for names, image in images.items()
        for name in names
    }


def _saved(config: str, names: Sequence[str], layers: Sequence[str], **more: Any) -> dict[str, Any]:
    return {"Config": config, "RepoTags": list(names) or None, "Layers": list(layers), **more}


def _once(members: Iterable[Member]) -> list[Member]:
    return list({member.name: member for member in members}.values())


def ggcr_members(images: Named) -> list[Member]:
    """go-containerregistry's `tarball`, and so kaniko, ko and crane: layers as they are stored.

    The config is named by its whole digest; `manifest.json` comes last, and nothing else.
    """
    members, entries = [], []
    for names, image in images.items():
        layers = [layer.digest.hex + _ending(layer) for layer in image.layers]
        config = str(image.config.digest)
        members += [file(config, image.config.raw), *map(file, layers, _raws(image))]
        entries.append(_saved(config, names, layers))
    entries.sort(key=lambda entry: ",".join(entry["RepoTags"] or ()))
    return [*_once(members), file("manifest.json", compact(entries))]


def _ending(layer: TestLayer) -> str:
    """Only OCI's zstd and plain layers are named so; all else counts as gzip."""
    return {OCI_LAYER_ZSTD: ".tar.zst", OCI_LAYER: ".tar", DOCKER_LAYER: ".tar"}.get(
        layer.media_type, ".tar.gz"
    )


def _raws(image: TestImage) -> list[bytes]:
    return [layer.raw for layer in image.layers]


def rules_docker_members(images: Named) -> list[Member]:
    """rules_docker, by go-containerregistry's `legacy/tarball`: plain layers by v1 IDs, each once.

    A name without a tag stays so, and makes an empty one in `repositories`.
    """
    members, entries = [], []
    repositories: dict[str, dict[str, str]] = {}
    for names, image in images.items():
        config = f"{image.config.digest.hex}.json"
        members.append(file(config, image.config.raw))
        parent, layers = "", []
        for number, layer in enumerate(image.layers, start=1):
            top = image.config.raw if number == len(image.layers) else b""
            v1_id = sha256(f"{layer.digest.hex} {parent}".encode() + top).hex
            v1 = {"id": v1_id, "parent": parent, "throwaway": False, "container_config": {}}
            layers.append(f"{v1_id}/layer.tar")
            members.append(file(layers[-1], layer.tar))
            members.append(file(f"{v1_id}/json", compact(v1)))
            members.append(file(f"{v1_id}/VERSION", b"1.0"))
            parent = v1_id
        entries.append(_saved(config, sorted(names), layers))
        for name in names:
            base, colon, tag = name.rpartition(":")
            repositories.setdefault(base if colon else name, {})[tag if colon else ""] = parent
    members += [file("manifest.json", compact(entries))]
    return [*_once(members), file("repositories", compact(repositories))]


def jib_members(names: Sequence[str], image: TestImage) -> list[Member]:
    """Jib's tar: gzip layers (twice if the image has one twice), then `config.json`."""
    layers = [f"{layer.digest.hex}.tar.gz" for layer in image.layers]
    entry = _saved("config.json", names, layers)
    return [
        *map(file, layers, _raws(image)),
        file("config.json", image.config.raw),
        file("manifest.json", compact([entry])),
    ]


def rules_oci_members(names: Sequence[str], image: TestImage) -> list[Member]:
    """rules_oci's `oci_load`: a layout's paths, `.tar.gz` behind those of layers, and no index."""
    config = blob_member(image.config.digest)
    layers = [f"{blob_member(layer.digest)}.tar.gz" for layer in image.layers]
    return [
        file(config, image.config.raw),
        *_once(map(file, layers, _raws(image))),
        file("manifest.json", compact([_saved(config, names, layers)])),
    ]


def imgutil_members(names: Sequence[str], image: TestImage) -> list[Member]:
    """Buildpacks' imgutil: plain layers, named by their diff IDs from the root."""
    config = f"{image.config.digest.hex}.json"
    layers = [f"/{layer.diff_id}.tar" for layer in image.layers]
    return [
        file(config, image.config.raw),
        *map(file, layers, [layer.tar for layer in image.layers]),
        file("manifest.json", compact([_saved(config, names, layers)])),
    ]


def docker_1_10_members(images: Named) -> list[Member]:
    """`docker save` of 1.10 to 1.12: a layer is written again for each image that has it."""
    specs = [image.spec(names) for names, image in images.items()]
    found = list(docker_members(specs, style="docker"))
    whole = {member.name: member for member in found}
    copied = []
    for member in found:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.target))
        copied.append(Member(member.name, whole[target].blob) if member.target else member)
    return copied


def nix_members(names: Sequence[str], image: TestImage) -> list[Member]:
    """nixpkgs' `dockerTools.streamLayeredImage`: plain layers by their digests, indented JSON."""
    layers = [f"{layer.diff_id.hex}/layer.tar" for layer in image.layers]
    config = f"{image.config.digest.hex}.json"
    entry = {"Config": config, "RepoTags": list(names), "Layers": layers}
    return [
        *_once(map(file, layers, [layer.tar for layer in image.layers])),
        file(config, image.config.raw),
        file("manifest.json", json.dumps([entry], indent=4).encode()),
    ]


def docker_25_members(images: Named, *, layers: str = "right") -> list[Member]:
    """`docker save` of 25 and later with the classic store: an OCI layout and `manifest.json`.

    Members are sorted by name. `layers`: `none` as the first candidate of 25.0.0 listed them in
    the OCI manifest, `shuffled` as 25.0.0 did, in the order of a map. Images without a name are
    in the index only where no other is. Configs of v1 images are beside the blobs.
    """
    files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}
    entries, saved = [], []
    repositories: dict[str, dict[str, str]] = {}
    for names, image in images.items():
        blobs = [TestBlob(layer.tar, OCI_LAYER) for layer in image.layers]
        config = TestBlob(image.config.raw, OCI_CONFIG)
        manifest = _docker_25_manifest(config, blobs, layers)
        files |= {blob_member(blob.digest): blob.raw for blob in (manifest, config, *blobs)}
        files[blob_member(sha256(b"{}" + config.raw))] = b"{}" + config.raw
        sources = {str(blob.digest): blob.descriptor for blob in blobs}
        paths = [blob_member(blob.digest) for blob in blobs]
        saved.append(_saved(blob_member(config.digest), names, paths, LayerSources=sources))
        for name in names:
            full, (base, _, tag) = str(parse_reference(name)), name.rpartition(":")
            annotations = {IMAGE_NAME: full, REF_NAME: tag}
            entries.append({**manifest.descriptor, "annotations": annotations})
            repositories.setdefault(base, {})[tag] = blobs[-1].digest.hex
        entries = entries or [manifest.descriptor]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    files |= {"index.json": compact(index), "manifest.json": compact(saved) + b"\n"}
    if repositories:
        files["repositories"] = compact(repositories) + b"\n"
    folders = [Member("blobs/"), Member("blobs/sha256/")]
    return [*folders, *(file(name, files[name]) for name in sorted(files))]


def _docker_25_manifest(config: TestBlob, blobs: Sequence[TestBlob], layers: str) -> TestBlob:
    listed = {"right": [*blobs], "none": [], "shuffled": [*blobs[1:], blobs[0]]}[layers]
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.descriptor,
        "layers": [blob.descriptor for blob in listed],
    }
    return TestBlob(compact(document), OCI_MANIFEST)


FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def windows_members(names: Sequence[str], image: TestImage) -> tuple[list[Member], bytes]:
    """A docker-archive without its first layer, which Windows' licence keeps in one place.

    Gives the manifest too: for that layer, what `LayerSources` says of it.
    """
    base, *others = image.layers
    source = {
        "mediaType": FOREIGN,
        "size": 101_145_811,
        "digest": str(sha256(b"compressed " + base.tar)),
        "urls": ["https://mcr.example.com/v2/windows/blobs/sha256:ab"],
    }
    layers = [f"{layer.diff_id.hex}\\layer.tar" for layer in image.layers]
    config = f"{image.config.digest.hex}.json"
    entry = _saved(config, names, layers, LayerSources={str(base.diff_id): source})
    members = [file(f"{layer.diff_id.hex}/layer.tar", layer.tar) for layer in others]
    members += [file(config, image.config.raw), file("manifest.json", compact([entry]))]
    foreign = {key: source[key] for key in ("mediaType", "digest", "size", "urls")}
    plain = [TestBlob(layer.tar, DOCKER_LAYER).descriptor for layer in others]
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": TestBlob(image.config.raw, DOCKER_CONFIG).descriptor,
        "layers": [foreign, *plain],
    }
    return members, compact(manifest)


# Docker before 1.10


@dataclass(frozen=True)
class V1Step:
    """One image of the old form: its layer, and the fields that its `json` adds."""

    tar: bytes
    fields: Mapping[str, Any] = field(default_factory=dict)

    def id(self, parent: str) -> str:
        """Random once; here of the bytes, so that archives are the same every time."""
        return hashlib.sha256(parent.encode() + self.tar + compact(self.fields)).hexdigest()


V1_FIELDS = {
    "created": "2015-10-06T13:40:21.123456789Z",
    "container": "ab" * 32,
    "container_config": {"Hostname": "ab", "Cmd": ["/bin/sh", "-c", "#(nop) ADD <file> in / &&"]},
    "docker_version": "1.9.1",
    "author": "Zoë <zoe@example.com>",
    "config": {"Hostname": "", "Cmd": ["/bin/true"], "Env": ["PATH=/bin"], "Labels": None},
    "architecture": "amd64",
    "os": "linux",
}


def v1_steps(seed: object, *, layers: int = 2, layer_bytes: int = 2_000) -> tuple[V1Step, ...]:
    tars = [
        random_layer(f"{seed}/{n}", layer_bytes=layer_bytes, number=n).tar for n in range(layers)
    ]
    return tuple(V1Step(tar, {**V1_FIELDS, "Size": len(tar)}) for tar in tars)


def v1_members(
    images: Mapping[tuple[str, ...], Sequence[V1Step]], *, repositories: bool = True
) -> list[Member]:
    """As `docker save` of 0.6 to 1.9: a directory for each image, `repositories` at the end.

    `json` names the image and its parent; nothing names a digest of anything.
    """
    members: dict[str, Member] = {}
    tags: dict[str, dict[str, str]] = {}
    for names, steps in images.items():
        parent = ""
        for step in steps:
            v1_id = step.id(parent)
            fields = {"id": v1_id, **({"parent": parent} if parent else {}), **step.fields}
            members[f"{v1_id}/"] = Member(f"{v1_id}/")
            for name, data in [
                ("VERSION", b"1.0"),
                ("json", compact_utf8(fields)),
                ("layer.tar", step.tar),
            ]:
                members[f"{v1_id}/{name}"] = file(f"{v1_id}/{name}", data)
            parent = v1_id
        for name in names:
            repository, _, tag = name.rpartition(":")
            tags.setdefault(repository, {})[tag] = parent
    last = [file("repositories", compact(tags) + b"\n")] if repositories and tags else []
    return [*(members[name] for name in sorted(members)), *last]


def v1_archive(
    path: Path, images: Mapping[tuple[str, ...], Sequence[V1Step]], *, compression: str = "none"
) -> dict[str, Digest]:
    """Write such an archive. Returns reference → digest of the manifest that is made for it."""
    write_members(path, v1_members(images), compression=compression)
    return {
        str(parse_reference(name)): sha256(v1_manifest(steps))
        for names, steps in images.items()
        for name in names
    }


def compact_utf8(value: object) -> bytes:
    """JSON as Go writes it: UTF-8, and `<`, `>`, `&` escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode()


def v1_config(steps: Sequence[V1Step]) -> bytes:
    """The config that Docker 1.10 and later makes of the chain when it loads it."""
    dropped = {"Size", "throwaway"}
    fields = {key: value for key, value in steps[-1].fields.items() if key not in dropped}
    fields["history"] = [
        {
            "created": step.fields["created"],
            "author": step.fields["author"],
            "created_by": " ".join(step.fields["container_config"]["Cmd"]),
        }
        for step in steps
    ]
    diff_ids = [str(sha256(step.tar)) for step in steps]
    fields["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    return compact_utf8(dict(sorted(fields.items())))


def v1_manifest(steps: Sequence[V1Step]) -> bytes:
    layers = [TestBlob(step.tar, DOCKER_LAYER).descriptor for step in steps]
    config = TestBlob(v1_config(steps), DOCKER_CONFIG).descriptor
    value = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config, "layers": layers}
    return compact(value)


# Layouts


def layout_members(entries: Sequence[Mapping[str, Any]], blobs: Iterable[TestBlob]) -> list[Member]:
    """A layout of these blobs whose `index.json` has these entries."""
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)}
    files = {blob_member(blob.digest): blob.raw for blob in blobs}
    return [
        file("oci-layout", compact({"imageLayoutVersion": "1.0.0"})),
        *(file(name, data) for name, data in files.items()),
        file("index.json", compact(index)),
    ]


def named(blob: TestBlob, name: str = "", **more: Any) -> dict[str, Any]:
    """The entry of `index.json` for a document that has this name."""
    annotations = {"org.opencontainers.image.ref.name": name} if name else {}
    return {**blob.descriptor, **({"annotations": annotations} if annotations else {}), **more}


# Artifacts


def artifact(
    config: TestBlob, layers: Sequence[TestBlob], **more: Any
) -> tuple[TestBlob, tuple[TestBlob, ...]]:
    """The manifest of an artifact, and all its blobs, the manifest first."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.descriptor,
        "layers": [layer.descriptor for layer in layers],
        **more,
    }
    manifest = TestBlob(compact(document), OCI_MANIFEST)
    return manifest, (manifest, config, *layers)


def helm_chart(name: str) -> tuple[TestBlob, tuple[TestBlob, ...]]:
    """As `helm push` makes it: the chart's metadata is the config."""
    config = TestBlob(compact({"name": name, "version": "1.0.0", "apiVersion": "v2"}), HELM_CONFIG)
    return artifact(config, [TestBlob(b"\x1f\x8b a chart", HELM_CHART)])


def cosign_signature(subject: TestBlob) -> tuple[TestBlob, tuple[TestBlob, ...]]:
    """As cosign before 3 makes it: with the config of an image, named by a tag of its subject."""
    payload = compact({"critical": {"image": {"docker-manifest-digest": str(subject.digest)}}})
    layer = TestBlob(payload, COSIGN_SIGNATURE)
    rootfs = {"type": "layers", "diff_ids": [str(layer.digest)]}
    document = {"architecture": "", "created": "0001-01-01T00:00:00Z", "os": "", "rootfs": rootfs}
    return artifact(TestBlob(compact(document), OCI_CONFIG), [layer])


def attached_sbom(subject: TestBlob) -> tuple[TestBlob, tuple[TestBlob, ...]]:
    """As `oras attach` makes it: an empty config, an artifact type, a subject."""
    sbom = TestBlob(compact({"spdxVersion": "SPDX-2.3"}), SPDX)
    return artifact(EMPTY, [sbom], artifactType=SPDX, subject=subject.descriptor)
