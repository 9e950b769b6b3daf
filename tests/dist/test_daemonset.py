"""The DaemonSet of the chart on a real containerd: its image, mounts, capabilities and probes."""

import http.client
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import manifests
import pytest

from airside.archive.sample import MESSAGE, SAMPLE_NAME, write_sample
from support.containerd import VERSIONS, Containerd
from support.kubelet import Kubelet, Pod
from support.node_pods import NodePods
from support.own_image import NAME, own_image
from support.ports import free_port
from support.pause import PAUSE_NAME, write_pause
from support.waiting import LIMIT_SECONDS, wait_until

pytestmark = [pytest.mark.system, pytest.mark.needs("runc", "unshare", "mount")]

SECOND = "docker.io/airside/second:1"
DAC_READ_SEARCH = 1 << 2
STRANGER = 12345


class Node:
    """A containerd that was wiped, the images directory, and the DaemonSet's pod."""

    def __init__(self, containerd: Containerd, root: Path, archive: Path) -> None:
        self.containerd, self.root, self.port = containerd, root, free_port()
        self.images = root / "var/lib/airside/images"
        self.images.mkdir(parents=True)
        shutil.copy(archive, self.images)
        write_pause(self.images / "pause-1.tar", PAUSE_NAME)
        self.data = containerd.root / "airside"
        ctr = containerd.programs / "ctr"
        self.values = {
            "containerd": {
                "root": str(containerd.root),
                "socketDirectory": str(containerd.socket.parent),
                "socket": containerd.socket.name,
            },
            "data": str(self.data),
            "registry": {"listen": f"127.0.0.1:{self.port}"},
            "config": "settle_seconds = 0.1\nmin_free_bytes = 0\nlow_space_bytes = 0",
            "images": {"mountPropagation": ""},
            "bootstrap": {"ctr": f"{ctr} -a {containerd.socket}"},
        }
        self.objects = manifests.render(self.values)

    def bootstrap(self) -> None:
        """Run what the unit of the ConfigMap runs."""
        [unit] = [
            o["data"]["airside-bootstrap.service"]
            for o in self.objects
            if o["metadata"]["name"] == "airside-bootstrap"
        ]
        start = unit.split("ExecStart=", 1)[1].split("\n\n", 1)[0].replace("\\\n", "")
        subprocess.run(
            ["sh", "-c", start.replace("$$", "$")],
            cwd=self.images,
            env=self.containerd.environ,
            check=True,
            capture_output=True,
            timeout=LIMIT_SECONDS,
        )

    def answer(self, path: str) -> tuple[int, str]:
        """Status and text of the registry; 0 if nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except OSError as exc:
            return 0, str(exc)
        finally:
            connection.close()

    def drop(self, name: str, reference: str) -> Path:
        part = self.images / f".{name}.part"
        write_sample(part.with_name(f".{name}"), name=reference)
        target = self.images / name
        part.with_name(f".{name}").rename(target)
        return target

    def has(self, reference: str) -> bool:
        return reference in self.containerd.did("images", "ls", "-q").split()

    def blobs(self) -> list[Path]:
        return [p for p in (self.data / "oci/blobs/sha256").iterdir() if p.is_file()]


@pytest.fixture
def containerd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Containerd]:
    """The newest; each version for a test that is marked so."""
    versions = request.node.get_closest_marker("parametrize")
    name = "containerd_version" if versions else "newest_containerd"
    with Containerd(request.getfixturevalue(name), tmp_path / "containerd") as made:
        yield made


@pytest.fixture
def node(containerd: Containerd, tmp_path: Path) -> Node:
    return Node(containerd, tmp_path / "node", own_image())


@pytest.fixture
def pods(node: Node) -> Iterator[NodePods]:
    node.bootstrap()
    (node.root / "etc/containerd").mkdir(parents=True)
    (node.root / "etc/containerd/config.toml").write_text("version = 2\n")
    own = {node.containerd.root, node.containerd.socket.parent}
    with Kubelet(node.containerd) as kubelet:
        kubelet.wait_image(NAME)
        kubelet.wait_image(PAUSE_NAME)
        made = NodePods(kubelet, node.objects, node.root, own)
        yield made


@pytest.fixture
def agent(node: Node, pods: NodePods) -> Pod:
    pod = pods.start(pods.sandbox(), pods.spec["containers"][0])
    wait_until(
        lambda: node.answer("/readyz")[0] == 200,
        lambda: f"{node.answer('/readyz')}\n{pod.output[-4000:]}",
    )
    return pod


def test_the_mirror_is_written_and_a_missing_config_path_is_said(node: Node, pods: NodePods):
    [mirror] = pods.spec["initContainers"]
    pod = pods.start(pods.sandbox(), mirror)
    assert pods.kubelet.wait(pod) == 0, pod.output
    written = node.root / "etc/containerd/certs.d/_default/hosts.toml"
    assert f"http://127.0.0.1:{node.port}" in written.read_text()
    if not node.containerd.version.startswith("2.2"):
        assert "sets no config_path" in pods.termination_message


def test_it_has_one_capability_and_no_other_power(pods: NodePods, agent: Pod):
    status = Path(f"/proc/{pods.kubelet.pid(agent)}/status").read_text()
    found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    for name in ("CapEff", "CapPrm", "CapBnd"):
        assert int(found[name], 16) == DAC_READ_SEARCH
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")


@pytest.mark.parametrize("containerd_version", VERSIONS, indirect=True)
@pytest.mark.usefixtures("containerd_version")
def test_it_imports_links_and_unpacks_also_what_somebody_else_owns(
    node: Node, pods: NodePods, agent: Pod
):
    theirs = node.containerd.content_root / "blobs/sha256"
    before = {path.name for path in theirs.iterdir()}  # what the unit imported
    archive = node.drop("hello.tar", SAMPLE_NAME)
    os.chown(archive, STRANGER, STRANGER)
    archive.chmod(0o400)
    wait_until(lambda: node.has(SAMPLE_NAME), lambda: agent.output[-4000:])
    pods.kubelet.wait_image(SAMPLE_NAME)
    assert pods.kubelet.run(SAMPLE_NAME) == MESSAGE.decode()
    published = {path.name for path in theirs.iterdir()} - before
    both = [blob for blob in node.blobs() if blob.name in published]
    assert both
    assert not [blob for blob in both if not (theirs / blob.name).samefile(blob)]
    assert "blobs are copied" not in agent.output


def test_it_imports_its_own_image_from_the_images_directory(pods: NodePods, agent: Pod):
    def found() -> tuple[int, str]:
        return pods.kubelet.execute(agent, "airside", "images", "--json")

    wait_until(lambda: NAME in found()[1], found)


def test_a_restarted_containerd_is_found_by_its_new_socket(
    node: Node, pods: NodePods, agent: Pod
):
    before = node.containerd.socket.stat().st_ctime_ns
    node.containerd.restart()
    assert node.containerd.socket.stat().st_ctime_ns != before  # another socket of that name
    pods.kubelet.wait_ready()
    node.drop("second.tar", SECOND)
    wait_until(lambda: node.has(SECOND), lambda: agent.output[-4000:])
    assert pods.kubelet.is_running(agent)


def test_a_lost_containerd_makes_it_unready_until_it_is_back(
    node: Node, pods: NodePods, agent: Pod
):
    node.containerd.stop()
    wait_until(lambda: node.answer("/readyz")[0] == 503, lambda: node.answer("/readyz"))
    assert node.answer("/healthz")[0] == 200
    node.containerd.start()
    pods.kubelet.wait_ready()
    wait_until(lambda: node.answer("/readyz")[0] == 200, lambda: node.answer("/readyz"))
    assert pods.kubelet.is_running(agent)


def test_a_wiped_node_is_filled_by_the_unit_and_the_archives(
    node: Node, pods: NodePods, agent: Pod
):
    node.drop("hello.tar", SAMPLE_NAME)
    wait_until(lambda: node.has(SAMPLE_NAME), lambda: agent.output[-4000:])
    pods.kubelet.remove(agent)
    node.containerd.wipe()
    assert not node.has(NAME)
    node.bootstrap()
    pods.kubelet.wait_ready()
    again = pods.start(pods.sandbox(), pods.spec["containers"][0])
    wait_until(lambda: node.has(SAMPLE_NAME), lambda: again.output[-4000:])
    pods.kubelet.wait_image(SAMPLE_NAME)
    assert pods.kubelet.run(SAMPLE_NAME) == MESSAGE.decode()


def test_the_hooks_of_its_end_and_start_take_the_mirror_out_and_write_it(node: Node, pods: NodePods, agent: Pod):
    [mirror] = pods.spec["initContainers"]
    assert pods.kubelet.wait(pods.start(agent.sandbox, mirror)) == 0
    assert (node.root / "etc/containerd/certs.d/_default").exists()
    hooks = pods.spec["containers"][0]["lifecycle"]
    for name, is_there in (("preStop", False), ("postStart", True), ("preStop", False)):
        code, output = pods.kubelet.execute(agent, *hooks[name]["exec"]["command"])
        assert code == 0, output
        assert (node.root / "etc/containerd/certs.d/_default").exists() is is_there, name
    pods.kubelet.stop(agent, pods.spec["terminationGracePeriodSeconds"])
    assert pods.kubelet.wait(agent) == 0
