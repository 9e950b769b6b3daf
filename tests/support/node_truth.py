"""Compares what the agent says of its images with what containerd and CRI say, and with a model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airside.containerd.cri import CriImage
from airside.oci.platform import node_platform

if TYPE_CHECKING:
    from support.containerd import Containerd
    from support.node_life import NodeLife

_PINNED, _OURS = "io.cri-containerd.pinned=pinned", "io.airside.archives="

_LACKING = ("failed", "waiting", "conflict", "incomplete")


@dataclass(frozen=True)
class Row:
    """A line of `ctr images ls`."""

    digest: str
    pinned: bool
    ours: bool


def rows_of(containerd: Containerd) -> dict[str, Row]:
    """By name."""
    lines = containerd.did("images", "ls").splitlines()[1:]
    return {line.split()[0]: Row(line.split()[2], _PINNED in line, _OURS in line) for line in lines}


def disagreements(life: NodeLife) -> list[str]:
    """What is untrue or missing now, a line each."""
    rows = rows_of(life.containerd)
    cri = {
        name: image for image in life.kubelet.cri.images() for name in (*image.tags, *image.digests)
    }
    status, items = life.agent.status(), life.agent.images()
    [runtime] = status["runtimes"]
    if not runtime["connected"]:
        return [f"the runtime is not connected: {runtime['reason']}"]
    found: list[str] = []
    told: dict[str, dict[str, Any]] = {}
    for reference, item in items.items():
        for each in item["runtimes"]:
            told[reference] = each
            found += [
                f"{reference}: {line}"
                for line in _untrue(reference, each, rows, cri, knows_pins=runtime["knows_pins"])
            ]
    found += _missing(life, told, cri)
    if life.archives.digests:
        absent = {name for each in told.values() if not each["present"] for name in each["names"]}
        found += _digests(life, absent | waiting(status), rows, cri)
    found += _unpublished(life, status, told)
    if life.looks_closely:
        found += _unpacked(life, told)
    return found


def _untrue(
    reference: str,
    told: dict[str, Any],
    rows: dict[str, Row],
    cri: dict[str, CriImage],
    *,
    knows_pins: bool,
) -> list[str]:
    """What an image's state says and containerd does not."""
    there, state = rows.get(reference), f"{told['state']} ({told['reason']})"
    if not told["present"]:
        found = [] if told["reason"] else [f"told {state} without a reason"]
        if there is not None and there.ours and there.digest == told["digest"]:
            found.append(f"told {state} and not present, but it is there")
        return found
    absent = [name for name in told["names"] if name not in rows]
    if absent or there is None:
        return [f"told {state} and present, but absent: {absent}"]
    found = []
    if there.digest != told["digest"]:
        found.append(f"told at {told['digest']}, but is at {there.digest}")
    unpinned = [name for name in told["names"] if told["pinned"] and not rows[name].pinned]
    if unpinned or (there.pinned and knows_pins and not told["pinned"]):
        found.append(f"told pinned={told['pinned']}, but is not: {unpinned}")
    image = cri.get(reference)
    if image is None:
        found.append("told present, but CRI does not know it")
    elif image.id != told["image_id"]:
        found.append(f"told {told['image_id']}, but CRI has {image.id}")
    elif knows_pins and told["pinned"] and not image.pinned:
        found.append("told pinned, but CRI does not pin it")
    return found


def _nodes_manifests(life: NodeLife, names: set[str]) -> set[str]:
    """The names of the node's manifests of indexes that are named by digest."""
    pairs = [name.split("@") for name in names if "@" in name]
    return {f"{path}@{part}" for path, digest in pairs for part in _parts(life, path, digest)}


def _parts(life: NodeLife, repository: str, digest: str) -> list[str]:
    """The node's manifest of an index, as the registry serves it; of a manifest nothing."""
    path = repository.partition("/")[2]
    status, body = life.agent.get(f"/v2/{path}/manifests/{digest}?ns=docker.io")
    assert status == 200, (repository, digest, status)
    return [
        each["digest"]
        for each in json.loads(body).get("manifests", ())
        if each["platform"]["architecture"] == node_platform().architecture
    ]


def _unpublished(
    life: NodeLife, status: dict[str, Any], told: dict[str, dict[str, Any]]
) -> list[str]:
    """How `status` and `archives` differ from what `images` says."""
    lacking = {name for name, each in told.items() if each["state"] in _LACKING}
    listed = {name for name in waiting(status) if "@" not in name}
    found = [f"status lists {listed} as unpublished, images {lacking}"] if listed != lacking else []
    for path, archive in life.agent.archives().items():
        own = lacking.intersection(archive["images"])
        if {each["reference"] for each in archive["unpublished"]} != own:
            found.append(f"{path.name} lists {archive['unpublished']} as unpublished, images {own}")
    return found


def _unpacked(life: NodeLife, told: dict[str, dict[str, Any]]) -> list[str]:
    """Of which images `images` says something else than containerd of their layers."""
    lines = life.containerd.did("images", "check").splitlines()[1:]
    checked = {line.split()[0]: line.split()[-1] == "true" for line in lines}
    return [
        f"{name}: told unpacked={each['unpacked']}, containerd says {checked[name]}"
        for name, each in told.items()
        if each["present"] and name in checked and each["unpacked"] != checked[name]
    ]


def waiting(status: dict[str, Any]) -> set[str]:
    """The references that the agent says containerd lacks: tags, and digests alone."""
    return {each["reference"] for each in status["unpublished"]["items"]}


def _missing(
    life: NodeLife, told: dict[str, dict[str, Any]], cri: dict[str, CriImage]
) -> list[str]:
    """What an archive has for this node, and neither is there nor told absent."""
    found = []
    for name, image in life.archives.tags().items():
        has = cri.get(name)
        if name not in told:
            found.append(f"{name}: an archive has it, and no state is told")
        elif has is None and (told[name]["present"] or name == life.pause.name):
            found.append(f"{name}: not there: {told[name]['state']}, {told[name]['reason']}")
        elif has is not None and has.id != image.id:
            found.append(f"{name}: {has.id} instead of {image.id}")
    return found


def _digests(
    life: NodeLife, absent: set[str], rows: dict[str, Row], cri: dict[str, CriImage]
) -> list[str]:
    """Which `name@digest` of an archive, a kept version or a container is missing; which is left.

    What nothing holds is to be withdrawn. `absent`: what the agent says containerd lacks.
    """
    held = {each.by_digest for each in life.archives.present.values() if not each.foreign}
    may = set(held)
    for item in life.agent.ask("/v1/images?history=1")["items"]:
        repository = item["reference"].rpartition(":")[0]
        kept = {
            f"{repository}@{digest}"
            for each in item["history"]
            if str(node_platform()) in each["platforms"]
            for digest in (each["digest"], *_parts(life, repository, each["digest"]))
        }
        may |= kept | {f"{repository}@{part['digest']}" for part in item["parts"]}
        held |= kept if item["unbacked_since"] is None else set()
    absent = absent | _nodes_manifests(life, absent)
    used = {container.image_id for container in life.kubelet.cri.containers()}
    held |= {pod.reference for pod in life.pods if "@" in pod.reference and pod.pod is not None}
    found = [f"{name}: held, and not there" for name in held - absent if name not in cri]
    return found + [
        f"{name}: nothing holds it, and it is there"
        for name, image in life.archives.known.items()
        if name in rows and name not in held | may and image.id not in used
    ]
