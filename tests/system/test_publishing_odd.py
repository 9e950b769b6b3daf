"""Images of other platforms and other layers are in containerd as `ctr images import` has them."""

from pathlib import Path

import pytest

from airside.containerd.client import Client
from support.agent import Agent
from support.containerd import Containerd
from support.kubelet import Kubelet
from support.odd_images import ODD, write_layout

pytestmark = [pytest.mark.system, pytest.mark.needs("runc", "unshare", "mount")]

IMAGES = {f"registry.example/{kind}:1": image for kind, image in ODD.items()}


def test_odd_images_are_published_as_ctr_imports_them(
    containerd: Containerd, tmp_path: Path
) -> None:
    watched = tmp_path / "images"
    watched.mkdir()
    archive = write_layout(watched / "odd.tar", IMAGES)
    flags = ["--runtime", str(containerd.socket)]
    environ = {"AIRSIDE_PLATFORM": "linux/amd64", "AIRSIDE_RECONCILE_SECONDS": "3600"}
    with Agent(watched, tmp_path / "data", environ=environ, flags=flags) as agent:
        agent.wait_for(
            lambda: (
                {
                    name
                    for name, image in agent.images().items()
                    if [each for each in image["runtimes"] if each["state"] == "published"]
                }
                == set(IMAGES)
            ),
            what="all are published",
        )
        found = {name: image["runtimes"][0] for name, image in agent.images().items()}
    assert {name: each["unpacked"] for name, each in found.items()} == {
        name: image.unpacked for name, image in IMAGES.items()
    }
    assert all(each["unpacked"] or each["not_unpacked"] for each in found.values())
    flags = ["--all-platforms", "--no-unpack"]
    containerd.did("images", "import", *containerd.local, *flags, archive, namespace="theirs")
    containerd.collect()
    with Client.open(str(containerd.socket)) as client:
        ours = {each.name: str(each.target.digest) for each in client.images.list()}
        held = {blob.digest for blob in client.content.list()}
    with Client.open(str(containerd.socket), "theirs") as client:
        theirs = {each.name: str(each.target.digest) for each in client.images.list()}
    for name, image in IMAGES.items():
        assert ours[name] == image.target(name), name
        assert image.targets == "manifest" or ours[name] == theirs[name], name
        blobs = {str(blob.digest) for blob in image.blobs(name)}
        assert blobs - held <= set() if image.targets == "root" else {theirs[name]}, name
    with Kubelet(containerd) as kubelet:
        for name in IMAGES:
            kubelet.wait_image(name)
