"""A containerd that was wiped is filled again in the order in which pods need the images."""

import re
from pathlib import Path

import pytest

from airside.containerd.client import Client
from support.agent import Agent
from support.containerd import Containerd
from support.images import docker_archive, random_image

pytestmark = [pytest.mark.system, pytest.mark.needs("unshare", "mount")]

PAUSE, ETCD = "registry.k8s.io/pause:3.10", "registry.k8s.io/etcd:3.5"
OTHERS = tuple(f"docker.io/library/a{number}:1" for number in range(12))
CREATED = re.compile(r'ImageCreate event name:\\"([^\\@]+)\\"')


def test_the_sandbox_image_and_static_pods_come_first(
    newest_containerd: str, tmp_path: Path
) -> None:
    host, images = tmp_path / "host", tmp_path / "images"
    manifests = host / "etc/kubernetes/manifests"
    manifests.mkdir(parents=True)
    images.mkdir()
    (manifests / "etcd.yaml").write_text(f"spec:\n  containers:\n  - image: {ETCD}\n")
    for name in (*OTHERS, ETCD, PAUSE):
        docker_archive(images / f"{name.replace('/', '_')}.tar", {name: random_image(name)})
    with Containerd(newest_containerd, tmp_path / "c") as made:

        def names() -> set[str]:
            with Client.open(str(made.socket)) as client:
                return {image.name for image in client.images.list()}

        environ = {"AIRSIDE_HOST_ROOT": str(host)}
        flags = ["--runtime", str(made.socket)]
        with Agent(images, tmp_path / "data", environ=environ, flags=flags) as agent:
            everything = {*OTHERS, ETCD, PAUSE}
            agent.wait_for(lambda: everything <= names(), what="published")
            made.wipe()
            agent.wait_for(lambda: everything <= names(), what="published again")
            created = [name for name in CREATED.findall(made.log) if name in everything]
            order = list(dict.fromkeys(created))
            assert order[0] == PAUSE
            assert order.index(ETCD) <= 8, order  # eight are published at once
