"""A client that pushes, without HTTP: straight to a node's `Pusher`.

`python -m support.pushing DATA` pushes the two versions of the crash tests, in a process that a
fault kills.
"""

import sys
from pathlib import Path

from airside.agent.node import Node
from airside.oci.digest import Digest
from airside.registry.push.uploads import PushedManifest
from airside.registry.rules.names import Name

from .images import TestBlob, TestImage, TestIndex, random_image, random_index, sha256
from .nodes import node_at

ORIGIN = "tester from 127.0.0.1"
PUSHED = Name("team/app")


def push_blob(node: Node, name: Name, raw: bytes) -> Digest:
    upload = node.pusher.begin(name)
    half = len(raw) // 2
    upload.write([raw[:half]])
    upload.write([raw[half:]])
    digest = sha256(raw)
    node.pusher.finish(upload, digest)
    return digest


def push_manifest(
    node: Node, name: Name, manifest: TestBlob, reference: Digest | str, *tags: str
) -> None:
    pushed = PushedManifest(manifest.raw, manifest.media_type, reference, tags)
    node.pusher.push(name, pushed, ORIGIN)


def push_image(node: Node, name: Name, image: TestImage | TestIndex, *tags: str) -> Digest:
    """Push all of it as a client does: blobs, then manifests by digest, then the tags."""
    for each in image.images if isinstance(image, TestIndex) else (image,):
        for blob in each.blobs[1:]:
            push_blob(node, name, blob.raw)
        push_manifest(node, name, each.manifest, each.digest)
    top = image.index if isinstance(image, TestIndex) else image.manifest
    for reference in tags or (image.digest,):
        push_manifest(node, name, top, reference)
    return image.digest


def versions() -> tuple[TestImage, TestIndex]:
    """What the crash tests push, one after the other, under one tag."""
    return random_image("v1", layers=1), random_index("v2", layers=1)


def push_versions(node: Node) -> None:
    for image in versions():
        push_image(node, PUSHED, image, "1")


if __name__ == "__main__":
    with node_at(Path(sys.argv[1])) as opened:
        push_versions(opened)
