"""Archives as their makers write them, imported into a node."""

from airside.report import images_report
from support.images import random_image
from support.makers import (
    COSIGN_SIGNATURE,
    HELM_CONFIG,
    SPDX,
    attached_sbom,
    cosign_signature,
    helm_chart,
    layout_members,
    named,
    write_members,
)
from support.nodes import import_now, node_at, visible

REPOSITORY = "registry.example.com/shop/app"


def listed(node):
    return {
        item["reference"]: item["artifact_type"] for item in images_report(node.catalog)["items"]
    }


def test_artifacts_are_kept_served_and_told_from_images(tmp_path):
    image = random_image("signed", layer_bytes=300)
    chart, chart_blobs = helm_chart("shop")
    signature, signature_blobs = cosign_signature(image.manifest)
    sbom, sbom_blobs = attached_sbom(image.manifest)
    tag = str(image.digest).replace(":", "-") + ".sig"
    entries = [
        named(image.manifest, f"{REPOSITORY}:1"),
        named(chart, f"{REPOSITORY}-chart:1.0.0"),
        named(signature, f"{REPOSITORY}:{tag}"),
        named(sbom),
    ]
    blobs = (*image.blobs, *chart_blobs, *signature_blobs, *sbom_blobs)
    write_members(tmp_path / "a.tar", layout_members(entries, blobs))
    with node_at(tmp_path / "data") as node:
        outcome = import_now(node, tmp_path / "a.tar")
        assert (outcome.state, outcome.problems) == ("imported", ())
        assert visible(node) == {
            f"{REPOSITORY}:1": image.digest,
            f"{REPOSITORY}-chart:1.0.0": chart.digest,
            f"{REPOSITORY}:{tag}": signature.digest,
        }
        assert all(node.store.stat(blob.digest) == blob.size_bytes for blob in blobs)
        assert listed(node) == {
            f"{REPOSITORY}:1": "",
            f"{REPOSITORY}-chart:1.0.0": HELM_CONFIG,
            f"{REPOSITORY}:{tag}": COSIGN_SIGNATURE,
            f"unnamed/a@{sbom.digest}": SPDX,
        }
