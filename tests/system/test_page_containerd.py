"""What the page and `status` say of a real containerd and of the pods on it."""

import html
import http.client
from pathlib import Path

import pytest

from support.agent import Agent
from support.containerd import Containerd
from support.images import docker_archive, random_image

pytestmark = [pytest.mark.system, pytest.mark.needs("unshare", "mount")]

APP, WANTED = "registry.example/app:1", "registry.example/static:1"


def page(agent: Agent, path: str) -> str:
    connection = http.client.HTTPConnection(agent.registry, timeout=60)
    connection.request("GET", path)
    text = connection.getresponse().read().decode()
    connection.close()
    return html.unescape(text)


def test_the_page_shows_what_containerd_has_and_what_its_pods_lack(
    newest_containerd: str, tmp_path: Path
) -> None:
    host, images = tmp_path / "host", tmp_path / "images"
    manifests = host / "etc/kubernetes/manifests"
    manifests.mkdir(parents=True)
    images.mkdir()
    (manifests / "static.yaml").write_text(f"spec:\n  containers:\n  - image: {WANTED}\n")
    docker_archive(images / "app.tar", {APP: random_image("app")})
    with Containerd(newest_containerd, tmp_path / "c") as made:
        environ = {"AIRSIDE_HOST_ROOT": str(host)}
        flags = ["--runtime", str(made.socket)]
        with Agent(images, tmp_path / "data", environ=environ, flags=flags) as agent:
            agent.wait_for(
                lambda: WANTED in str(agent.status()["missing"]), what="the pod's image is missing"
            )
            agent.wait_idle()
            overview = page(agent, "/ui/")
            assert f">{WANTED}<" in overview
            assert "image that pods here want is missing" in overview
            assert f"containerd {agent.status()['runtimes'][0]['version']}" in overview
            detail = page(agent, f"/ui/image?name={APP}")
            assert str(made.socket) in detail
            assert ">published<" in detail

            docker_archive(tmp_path / "static.tar", {WANTED: random_image("static")})
            (tmp_path / "static.tar").rename(images / "static.tar")
            agent.wait_imported(images / "static.tar")
            assert WANTED not in str(agent.status()["missing"])

            made.stop()
            agent.wait_for(
                lambda: not agent.status()["runtimes"][0]["connected"], what="it is away"
            )
            assert "is not connected" in page(agent, "/ui/")
