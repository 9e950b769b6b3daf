"""Archives as each maker writes them: names of members, order, links and documents are its own.

Written after reading the makers' sources; what each builder says of a maker is what that maker
does. Digests that must come out are computed here, apart from the code under test.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from airside.archive.layout import blob_member
from airside.archive.writer import Member, blob_of, write_archive
from airside.oci.model import OCI_CONFIG, OCI_EMPTY, OCI_INDEX, OCI_MANIFEST
from support.images import TestBlob, compact, open_output

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
