"""Members of a docker-archive (Docker image-spec v1.2)."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Literal, TypeAlias

from airside.archive.writer.image_spec import ImageSpec, split_tag
from airside.archive.writer.member import Blob, Member, file_member, json_bytes
from airside.archive.writer.tar_stream import write_archive
from airside.oci.digest import Digest, digest_of

DockerStyle: TypeAlias = Literal["docker", "skopeo"]
_EPOCH = "1970-01-01T00:00:00Z"


def write_docker_archive(
    out: BinaryIO, images: Sequence[ImageSpec], *, style: DockerStyle = "docker"
) -> None:
    """Write a docker-archive as `docker save` before 25 or skopeo does.

    `out` needs no `seek`, and stays open. Raises VerificationError for a blob of another digest or
    size than it says; the output is then invalid.
    """
    write_archive(out, docker_members(images, style=style))


def docker_members(
    images: Sequence[ImageSpec], *, style: DockerStyle = "docker"
) -> Iterator[Member]:
    """Yields the members of a docker-archive, `manifest.json` last.

    - `docker`: `<id>/{VERSION,json,layer.tar}`, `<config>.json`, `repositories`; a layer of an
      earlier image is a symbolic link to it;
    - `skopeo`: `<diff ID>.tar`, `<id>/layer.tar` a link to it, the rest the same.
    """
    members: dict[str, Member] = {}
    places: dict[Digest, str] = {}
    entries: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    for image in images:
        histories = list(_v1_histories(image))
        paths = []
        for layer, diff_id, (v1_id, history) in zip(
            image.layers, image.parsed.diff_ids, histories, strict=True
        ):
            new = list(_layer_members(layer.blob, diff_id, v1_id, places, style))
            new += [file_member(f"{v1_id}/VERSION", b"1.0"), file_member(f"{v1_id}/json", history)]
            members.update({m.name: m for m in new if m.name not in members})
            paths.append(f"{diff_id.hex}.tar" if style == "skopeo" else f"{v1_id}/layer.tar")
        config = file_member(f"{digest_of(image.config).hex}.json", image.config)
        members[config.name] = config
        entries.append({"Config": config.name, "RepoTags": list(image.names), "Layers": paths})
        for repository, tag in map(split_tag, image.names if histories else ()):
            repositories.setdefault(repository, {})[tag] = histories[-1][0]
    yield from members.values()
    yield file_member("repositories", json_bytes(repositories))
    yield file_member("manifest.json", json_bytes(entries))


def _layer_members(
    blob: Blob, diff_id: Digest, v1_id: str, places: dict[Digest, str], style: DockerStyle
) -> Iterator[Member]:
    """Yields the directory of a v1 layer and the layer, or a link to its earlier member."""
    yield Member(f"{v1_id}/")
    path = f"{v1_id}/layer.tar"
    if style == "skopeo":
        yield Member(f"{diff_id.hex}.tar", blob)
        yield Member(path, target=f"../{diff_id.hex}.tar")
    elif places.setdefault(blob.digest, path) == path:
        yield Member(path, blob)
    else:
        yield Member(path, target=f"../{places[blob.digest]}")


def _v1_histories(image: ImageSpec) -> Iterator[tuple[str, bytes]]:
    """Yields the v1 ID and `json` of each layer.

    Only the last one has the image's config, so that images with the same base share its layers.
    """
    config: dict[str, Any] = json.loads(image.config)
    diff_ids = image.parsed.diff_ids
    parent = ""
    for number, diff_id in enumerate(diff_ids, start=1):
        history: dict[str, Any] = {"created": _EPOCH, "os": config.get("os", "linux")}
        if number == len(diff_ids):
            history = {k: v for k, v in config.items() if k not in {"rootfs", "history"}}
        if parent:
            history["parent"] = parent
        parent = digest_of(json_bytes([str(diff_id), history])).hex
        yield parent, json_bytes({"id": parent, **history})
