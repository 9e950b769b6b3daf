"""skopeo, podman and buildah push to the registry, pull from it, list and delete.

docs/clients.md has the table of all clients.
"""

import json
from pathlib import Path

import pytest

from airside.oci.model import DOCKER_LIST, DOCKER_MANIFEST, OCI_MANIFEST
from support.agent import Agent
from support.images import (
    TestImage,
    TestIndex,
    docker_archive,
    oci_archive,
    random_image,
    random_index,
)
from support.skopeo import digests_of
from support.tools import Tools, digests_in

pytestmark = pytest.mark.system

PLAIN = "--tls-verify=false"
TO, FROM = "--dest-tls-verify=false", "--src-tls-verify=false"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "set.tar"


def push(tools: Tools, image: TestImage | TestIndex, target: str, *flags: str) -> None:
    """With skopeo, from an OCI archive."""
    source = tools.directory / "pushed.tar"
    oci_archive(source, {"docker.io/library/pushed:1": image})
    flags = ("--quiet", "--preserve-digests", TO, *flags)
    tools.skopeo("copy", *flags, f"oci-archive:{source}", f"docker://{target}")
    source.unlink()


def tags(agent: Agent, repository: str) -> list[str]:
    status, body = agent.get(f"/v2/{repository}/tags/list")
    return [] if status == 404 else list(json.loads(body)["tags"])


@pytest.mark.needs("skopeo")
def test_skopeo_copies_lists_inspects_and_deletes(shared_agent: Agent, tools: Tools) -> None:
    image, registry = random_image("skopeo"), shared_agent.registry
    app = f"docker://{registry}/skopeo/app"
    push(tools, image, f"{registry}/skopeo/app:1")
    push(tools, random_image("other"), f"{registry}/skopeo/app:2")
    assert json.loads(tools.skopeo("list-tags", PLAIN, app))["Tags"] == ["1", "2"]
    told = json.loads(tools.skopeo("inspect", PLAIN, f"{app}:1"))
    assert told["Digest"] == str(image.digest)
    assert told["Layers"] == [str(layer.digest) for layer in image.layers]
    back = tools.directory / "back"
    tools.skopeo("copy", "--preserve-digests", FROM, f"{app}:1", f"dir:{back}")
    assert set(digests_of(back)) == {blob.digest for blob in image.blobs}
    tools.skopeo("copy", FROM, TO, f"{app}:1", f"{app}:s2", "--format", "v2s2")
    assert json.loads(tools.skopeo("inspect", "--raw", PLAIN, f"{app}:s2"))["mediaType"] == (
        DOCKER_MANIFEST
    )
    tools.skopeo("delete", PLAIN, f"{app}:2")
    assert tags(shared_agent, "skopeo/app") == ["1", "s2"]


@pytest.mark.needs("skopeo")
def test_skopeo_copies_all_platforms_and_syncs(shared_agent: Agent, tools: Tools) -> None:
    index, registry = random_index("multi"), shared_agent.registry
    push(tools, index, f"{registry}/skopeo/multi:1", "--all")
    raw = tools.skopeo("inspect", "--raw", PLAIN, f"docker://{registry}/skopeo/multi:1")
    assert raw.encode() == index.index.raw
    both = ("--all", FROM, TO)
    tools.skopeo(  # mounted: the blobs are known to be in the other repository
        "copy", *both, f"docker://{registry}/skopeo/multi:1", f"docker://{registry}/else/multi:1"
    )
    mirrored = tools.directory / "mirrored"
    mirrored.mkdir()
    sync = ("sync", "--all", "--src")
    tools.skopeo(*sync, "docker", "--dest", "dir", FROM, f"{registry}/else/multi", mirrored)
    tools.skopeo(*sync, "dir", "--dest", "docker", TO, mirrored, f"{registry}/synced")
    assert shared_agent.images()["synced/multi:1"]["digest"] == str(index.digest)


@pytest.mark.needs("skopeo", "podman")
def test_podman_pushes_and_pulls_images_and_manifest_lists(
    shared_agent: Agent, tools: Tools, archive: Path
) -> None:
    registry, image = shared_agent.registry, random_image("podman", media="docker")
    docker_archive(archive, {"docker.io/library/podman:1": image})
    tools.podman("load", "-q", "-i", archive)
    name = f"{registry}/podman/app"
    tools.podman("tag", "docker.io/library/podman:1", f"{name}:1")
    for tag, *flags in (
        ("1",),
        ("oci", "--format=oci"),
        ("zstd", "--format=oci", "--compression-format=zstd"),
    ):
        tools.podman("push", "-q", PLAIN, *flags, f"{name}:1", f"docker://{name}:{tag}")
    assert tags(shared_agent, "podman/app") == ["1", "oci", "zstd"]
    tools.podman("manifest", "create", "both")
    for arch, tag in (("amd64", "1"), ("arm64", "oci")):
        tools.podman("manifest", "add", PLAIN, "--arch", arch, "both", f"docker://{name}:{tag}")
    tools.podman("manifest", "push", "-q", "--all", PLAIN, "both", f"docker://{name}:list")
    _status, raw = shared_agent.get("/v2/podman/app/manifests/list")
    kept = [shared_agent.images()[f"podman/app:{tag}"]["digest"] for tag in ("1", "oci")]
    assert len(digests_in(raw.decode())) == len(set(kept)) == 2
    rows = tools.podman("search", PLAIN, "--list-tags", name).splitlines()[1:]
    assert {row.split()[1] for row in rows} == {"1", "oci", "zstd", "list"}
    assert name in tools.podman("search", PLAIN, f"{registry}/podman")
    tools.podman("rmi", "-f", "both", f"{name}:1", "docker.io/library/podman:1")
    for tag in ("1", "zstd", "list"):
        tools.podman("pull", "-q", PLAIN, f"{name}:{tag}")


@pytest.mark.needs("buildah")
def test_buildah_builds_on_what_is_there_and_pushes(shared_agent: Agent, tools: Tools) -> None:
    name = f"{shared_agent.registry}/buildah/built"
    context = tools.directory / "context"
    context.mkdir()
    (context / "file").write_text("text")
    for tag, base in (("1", "scratch"), ("2", f"{name}:1")):
        (context / "Dockerfile").write_text(f"FROM {base}\nCOPY file /file{tag}\n")
        build = ("build", "-q", "--isolation=chroot", "--pull-always", PLAIN)
        tools.buildah(*build, "-t", f"{name}:{tag}", context)
        tools.buildah("push", "-q", PLAIN, f"{name}:{tag}")
    tools.buildah("manifest", "create", "both", f"{name}:1", f"{name}:2")
    lists = ("manifest", "push", "--all", PLAIN)
    tools.buildah(*lists, "both", f"docker://{name}:list")
    tools.buildah(*lists, "--format=v2s2", "both", f"docker://{name}:docker")
    assert tags(shared_agent, "buildah/built") == ["1", "2", "docker", "list"]
    for tag, media_type in (("list", OCI_MANIFEST), ("docker", DOCKER_LIST)):
        found = json.loads(shared_agent.get(f"/v2/buildah/built/manifests/{tag}")[1])
        assert media_type in {found["mediaType"], found["manifests"][0]["mediaType"]}
        tools.buildah("pull", "-q", PLAIN, f"{name}:{tag}")
