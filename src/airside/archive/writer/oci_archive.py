"""Members of an OCI layout in a tar (image-layout.md)."""

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from airside.archive.writer.image_spec import (
    ImageSpec,
    IndexSpec,
    document_of,
    root_descriptor,
    split_tag,
)
from airside.archive.writer.member import Blob, Member, blob_of, file_member, json_bytes
from airside.archive.writer.tar_stream import write_archive
from airside.oci.digest import Digest, digest_of
from airside.oci.model import OCI_INDEX
from airside.oci.reference import fits_ref_name

NAME_ANNOTATION = "io.containerd.image.name"
REF_NAME_ANNOTATION = "org.opencontainers.image.ref.name"


def write_oci_archive(
    out: BinaryIO, roots: Sequence[ImageSpec | IndexSpec], *, hybrid: bool = False
) -> None:
    """Write an OCI layout as a tar; `hybrid` adds `manifest.json`, as Docker 25 does.

    `out` needs no `seek`, and stays open. Raises VerificationError for a blob of another digest or
    size than it says; the output is then invalid.
    """
    write_archive(out, oci_members(roots, hybrid=hybrid))


def oci_members(
    roots: Sequence[ImageSpec | IndexSpec], *, hybrid: bool = False
) -> Iterator[Member]:
    """Yields the members of an OCI layout: `oci-layout`, blobs by digest, `index.json` last."""
    yield file_member("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    yield Member("blobs/")
    yield Member("blobs/sha256/")
    blobs = {blob.digest: blob for root in roots for blob in _blobs(root)}
    for digest in sorted(blobs):
        yield Member(_blob_path(digest), blobs[digest])
    if hybrid:
        yield file_member("manifest.json", json_bytes([_hybrid_entry(root) for root in roots]))
    entries = [entry for root in roots for entry in _index_entries(root, tag_only=hybrid)]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    yield file_member("index.json", json_bytes(index))


def _blobs(root: ImageSpec | IndexSpec) -> Iterator[Blob]:
    yield blob_of(document_of(root))
    if isinstance(root, IndexSpec):
        for image in root.images:
            yield from _blobs(image)
    else:
        yield blob_of(root.config)
        yield from (layer.blob for layer in root.layers)


def _index_entries(root: ImageSpec | IndexSpec, *, tag_only: bool) -> list[dict[str, Any]]:
    """Returns an entry of `index.json` for each name, or one without annotations."""
    descriptor = root_descriptor(root)
    return [
        {**descriptor, "annotations": _annotations(name, tag_only=tag_only)} for name in root.names
    ] or [descriptor]


def _annotations(name: str, *, tag_only: bool) -> dict[str, str]:
    annotations = {NAME_ANNOTATION: name}
    ref_name = split_tag(name)[1] if tag_only else name
    if ref_name and fits_ref_name(ref_name):
        annotations[REF_NAME_ANNOTATION] = ref_name
    return annotations


def _hybrid_entry(root: ImageSpec | IndexSpec) -> dict[str, Any]:
    """Returns the entry of `manifest.json`, which can have one platform only: the first."""
    image = root.images[0] if isinstance(root, IndexSpec) else root
    return {
        "Config": _blob_path(digest_of(image.config)),
        "RepoTags": list(root.names) or None,
        "Layers": [_blob_path(layer.blob.digest) for layer in image.layers],
    }


def _blob_path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"
