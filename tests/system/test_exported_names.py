"""What `ctr images export` writes of a Kubernetes node: all the names that kubelet has."""

import os
from pathlib import Path

import pytest

from airside.oci.digest import Digest
from support.agent import Agent
from support.containerd import Containerd
from support.images import oci_archive, random_index

pytestmark = [
    pytest.mark.system,
    pytest.mark.needs("containerd", "ctr"),
    pytest.mark.skipif(os.geteuid() != 0, reason="containerd needs root"),
]

NAMESPACE = "names"
"""One that CRI does not look after: all names are ours to give."""
APP = "registry.example:5000/team/app"


def _names(digest: Digest, image_id: Digest) -> list[str]:
    """As CRI keeps them: by tag, by digest, by both (a pod may ask so), and by the image's ID."""
    return [f"{APP}:1", f"{APP}@{digest}", f"{APP}:1@{digest}", str(image_id)]


@pytest.mark.parametrize("which", [None, 1, 2, 3], ids=["all", "digest", "tag and digest", "ID"])
def test_an_image_is_read_by_each_name_that_kubelet_has(tmp_path: Path, which: int | None) -> None:
    images = tmp_path / "images"
    images.mkdir()
    index = random_index("kept", layers=1, layer_bytes=3000)
    digest, image_id = index.index.digest, index.images[0].config.digest
    names = _names(digest, image_id)
    oci_archive(tmp_path / "made.tar", {names[0]: index})
    with Containerd() as made:
        flags = ["--all-platforms", "--no-unpack", *made.local]
        made.did("images", "import", *flags, tmp_path / "made.tar", namespace=NAMESPACE)
        for name in names[1:]:
            made.did("images", "tag", names[0], name, namespace=NAMESPACE)
        wanted = names if which is None else [names[which]]
        exported = ["--all-platforms", tmp_path / "exported.tar", *wanted]
        made.did("images", "export", *exported, namespace=NAMESPACE)
    with Agent(images, tmp_path / "data") as agent:
        path = (tmp_path / "exported.tar").rename(images / "exported.tar")
        agent.wait_imported(path)
        assert agent.archives()[path]["notes"] == []
        by_digest = f"unnamed/exported@{digest}" if which == 3 else f"{APP}@{digest}"
        shown = {None: {names[0], names[1]}, 2: {names[0]}}.get(which, {by_digest})
        assert set(agent.images()) == shown
        repository, _, reference = by_digest.partition("@")
        assert agent.get(f"/v2/{repository.replace(':', '_')}/manifests/{reference}") == (
            200,
            index.index.raw,
        )
