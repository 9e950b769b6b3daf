"""The planners: any documents result in a plan that is true, or in one of our errors."""

import json
from collections.abc import Callable, Iterator

from airside.archive.completeness import Judgement, judge
from airside.archive.formats.plan import Plan
from airside.archive.formats.platforms import restrict
from airside.archive.writer.docker_archive import docker_members
from airside.archive.writer.oci_archive import oci_members
from airside.core.errors import ArchiveFormatError, ArchiveLimitError, ManifestInvalidError
from airside.oci.digest import Digest, digest_of
from airside.oci.merge import parts_of
from airside.oci.model import Index
from airside.oci.platform import Platform, parse_platform, select_all, select_for, select_listed
from fuzz.symbolic import mutate, resolve, symbolic
from fuzz.target import Target, require
from support.images import TestBlob, TestImage, compact, image_of, index_of, layer_of
from support.members import Members

NODE = Platform("linux", "arm64")


def check(data: bytes) -> None:
    members = resolve(data)
    if members is None:
        return
    try:
        expected = members.draft().expected(members.read)
        plan = members.plan()
    except (ManifestInvalidError, ArchiveFormatError, ArchiveLimitError):
        return
    require(all(isinstance(digest, Digest) for digest in expected.values()), "not a digest")
    check_plan(members, plan)


def check_plan(members: Members, plan: Plan) -> None:
    facts = members.facts()
    sizes = {each.digest: each.size_bytes for each in facts.values()}
    sizes |= {digest: len(raw) for digest, raw in plan.made.items()}
    for digest, name in plan.blobs.items():
        require(facts[name].digest == digest, f"the plan has {name} as {digest}")
    for digest, raw in plan.made.items():
        require(digest_of(raw) == digest, f"the made blob {digest} has another digest")
    for digest, document in plan.documents.items():
        raw_digest = digest_of(document.raw, digest.algorithm)
        require(document.digest == digest == raw_digest, f"document {digest} has another digest")
        require(isinstance(document.kind_of_artifact, str), "no kind of artifact")
    for platform in plan.platforms.values():
        require(parse_platform(platform.key) == platform, f"{platform.key!r} parses differently")
    _check_judgement(plan, judge(plan, sizes.get), sizes.get)
    for select in (select_all, select_for(NODE), select_listed(["linux/amd64", "linux/arm"])):
        part = restrict(plan, select, "test")
        require(set(part.documents) <= set(plan.documents), "the restricted plan adds documents")
        _check_judgement(part, judge(part, sizes.get), sizes.get)
    strict = judge(plan, sizes.get, strict=True)
    require(not (strict.images and strict.problems), "strict imports a part")


def _check_judgement(
    plan: Plan, judgement: Judgement, size_of: Callable[[Digest], int | None]
) -> None:
    held = {document.digest for document in judgement.documents}
    for image in judgement.images:
        require(image.root in held, f"{image.title} is imported without its document")
        parts_of(image.root, plan.documents, plan.platforms)
    for document in judgement.documents:
        require(document.digest not in plan.rejected, "a rejected manifest is imported")
        if isinstance(document.content, Index):
            sizes = {d.digest: d.size_bytes for d in judgement.documents}
            listed = {c.digest for c in document.children if sizes.get(c.digest) == c.size_bytes}
            require(listed & held, f"the index {document.digest} is imported without a manifest")
            continue
        for blob in document.children:
            size = size_of(blob.digest)
            whole = size == blob.size_bytes or (size is None and not blob.is_distributable)
            require(whole, f"{document.digest} is imported with {blob.digest} of {size} bytes")
    lost = len(plan.images) - len(judgement.images)
    require(not lost or judgement.problems, f"{lost} images are dropped without a problem")


# Inputs


def seeds() -> Iterator[bytes]:
    return map(symbolic, archives())


def archives() -> Iterator[Members]:
    """Yields small archives of every form."""
    plain, packed = layer_of(b"plain layer"), layer_of(b"another", compression="gzip")
    docker = image_of([layer_of(b"x" * 40, media="docker"), packed], media="docker")
    image = image_of([plain, packed], label="a")
    other = image_of([plain], platform="linux/arm64/v8", label="b")
    names = ("example.com/a:1", "b:2")
    for style in ("docker", "skopeo"):
        yield Members.of(docker_members([docker.spec(names), image.spec()], style=style))
    yield Members.of(oci_members([image.spec(names)], hybrid=True))
    yield Members.of(oci_members([index_of([image, other]).spec(names[:1])]))
    nested = _nested([image, other])
    yield nested
    yield nested.without(*[name for name in nested.files if image.layers[1].digest.hex in name])
    yield _legacy()
    yield _foreign(docker)


def _nested(images: list[TestImage]) -> Members:
    """Returns a layout with an index within an index, an attestation, and a referrer."""
    inner = index_of(images)
    said = image_of([layer_of(b"said")], platform="unknown/unknown")
    attested = {
        **said.manifest.descriptor,
        "annotations": {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": str(images[0].digest),
        },
    }
    entries = [inner.index.descriptor, attested]
    outer = TestBlob(
        compact({"schemaVersion": 2, "mediaType": inner.index.media_type, "manifests": entries}),
        inner.index.media_type,
    )
    about = image_of([layer_of(b"sbom")], config={"subject": inner.index.descriptor})
    blobs = [outer, *said.blobs, *inner.blobs, *about.blobs]
    root = {**outer.descriptor, "annotations": {"io.containerd.image.name": "example.com/n:1"}}
    index = {"schemaVersion": 2, "manifests": [root, about.manifest.descriptor]}
    files = {f"blobs/sha256/{blob.digest.hex}": blob.raw for blob in blobs}
    return Members({"index.json": compact(index), **files})


def _foreign(image: TestImage) -> Members:
    """Returns an archive of a Windows image, which lawfully lacks its lowest layer."""
    members = Members.of(docker_members([image.spec(("example.com/w:1",))]))
    entries = json.loads(members.files["manifest.json"])
    diff_id = str(image.layers[0].diff_id)
    source = {
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "size": 5,
        "digest": str(digest_of(b"there")),
        "urls": ["there"],
    }
    entries[0]["LayerSources"] = {diff_id: source}
    lacks = members.without(entries[0]["Layers"][0])
    return lacks.with_file("manifest.json", compact(entries)).without("repositories")


def _legacy() -> Members:
    low, top = "a" * 64, "b" * 64
    documents = {
        "repositories": {"example.com/old": {"1": top}},
        f"{low}/json": {"id": low, "os": "linux", "architecture": "amd64", "created": "2013"},
        f"{top}/json": {
            "id": top,
            "parent": low,
            "container_config": {"Cmd": ["/bin/sh", "-c", "#(nop) CMD"]},
            "config": {"Cmd": ["sh"]},
            "os": "linux",
            "architecture": "arm",
        },
    }
    files = {name: compact(value) for name, value in documents.items()}
    layers = {f"{each}/layer.tar": f"layer of {each}".encode() for each in (low, top)}
    return Members({**files, **layers})


TARGET = Target("planners", check, seeds, mutate, max_bytes=16384)
