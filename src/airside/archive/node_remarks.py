"""Tells what this node will do with the images of an archive, where that is unusual. Pure.

An image may be for other nodes, be published although its config names another platform, or be
published without being unpacked. The choice is the publisher's own (`ports.node_manifest`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from airside.archive.completeness import Judgement
from airside.archive.formats.plan import Plan
from airside.archive.layer_check import Refused
from airside.oci.chain import unpack_obstacle
from airside.oci.digest import Digest
from airside.oci.model import Document, Manifest
from airside.oci.platform import Platform
from airside.ports.node_manifest import Selector
from airside.ports.publication import NodeContent, Unwanted

_SHOWN = 3


def node_remarks(
    plan: Plan,
    judgement: Judgement,
    node: Platform,
    others: str,
    refused: Mapping[Digest, Sequence[Refused]],
) -> tuple[str, ...]:
    """Returns remarks on the named images that are imported: others are not published.

    `others`: the setting `other_platforms`. `refused`: what containerd refuses of layers.
    """
    found = dict.fromkeys(_remarks(plan, judgement, node, others, refused))
    return tuple(_few(list(found)))


def _remarks(
    plan: Plan,
    judgement: Judgement,
    node: Platform,
    others: str,
    refused: Mapping[Digest, Sequence[Refused]],
) -> Iterator[str]:
    documents = {document.digest: document for document in judgement.documents}
    selector = Selector(
        node,
        lambda entry: documents.get(entry.digest),
        lambda manifest: plan.platforms.get(manifest.digest),
        lambda _manifest: True,
        others,
    )
    named = [image for image in judgement.images if image.references or image.tags]
    chosen = [(image, selector.choose(documents[image.root])) for image in named]
    usual = {
        name
        for image, found in chosen
        if isinstance(found, NodeContent) and not found.note
        for name in image.references
    }
    for image, found in chosen:
        is_merged = bool(image.references) and usual.issuperset(image.references)
        if isinstance(found, Unwanted):
            if found.state == "not-for-node" and not is_merged:
                yield f"{image.title} is {found.reason}"
            continue
        if found.note and is_merged:
            continue  # another image of the archive has its name and is for this node
        if found.note:
            yield f"{image.title}: {found.note}"
        obstacle = unpack_obstacle(found.manifest)
        if obstacle:
            yield f"{image.title} is published to containerd, but not unpacked: {obstacle}"
        elif refused:
            yield from _refusals(image.title, found.manifest, refused)


def _refusals(
    title: str, manifest: Document, refused: Mapping[Digest, Sequence[Refused]]
) -> Iterator[str]:
    assert isinstance(manifest.content, Manifest)
    for number, layer in enumerate(manifest.content.layers, start=1):
        first, *more = refused.get(layer.digest, (None,))
        if first is not None:
            others = f" ({len(more)} more such members)" if more else ""
            yield f"{title}: layer {number} ({layer.digest.short}): {first}{others}"


def _few(remarks: list[str]) -> Iterable[str]:
    if len(remarks) <= _SHOWN:
        return remarks
    return [*remarks[:_SHOWN], f"{len(remarks) - _SHOWN} more such notes"]
