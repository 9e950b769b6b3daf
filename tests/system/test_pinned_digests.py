"""A pod that is pinned to a digest can restart its container, whatever archives and kubelet do."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent import Agent
from support.containerd import Containerd
from support.image_manager import Clock, GcPolicy, ImageManager
from support.kubelet import Kubelet, Pod, import_pause
from support.node_archives import NodeArchives, NodeImage
from support.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.needs("runc", "unshare", "mount")]

NAME = "docker.io/library/app:1"
VERSIONS = [NodeImage(NAME, f"version {number}") for number in range(5)]


def agent_on(containerd: Containerd, directory: Path, data: str) -> Agent:
    (directory / "images").mkdir(exist_ok=True)
    return Agent(
        directory / "images",
        directory / data,
        environ={"AIRSIDE_RECONCILE_SECONDS": "3600"},
        flags=["--runtime", str(containerd.socket)],
    )


class Node:
    """A pod that is pinned to the digest of an image, on a node with an agent."""

    def __init__(self, agent: Agent, containerd: Containerd, kubelet: Kubelet) -> None:
        self.agent, self.containerd, self.kubelet = agent, containerd, kubelet
        self.archives = NodeArchives(agent.watched, agent.watched.parent)
        self.reference = ""
        self.pod: Pod | None = None
        self.attempt = 0

    def drop(self, file: str, image: NodeImage) -> None:
        """And wait until the tag that came of it is published."""
        before = self.target()
        self.archives.drop(file, image)
        wait_until(lambda: self.target() != before, self.target)
        self.wait_idle()

    def target(self) -> str:
        """The document that the tag is in containerd."""
        lines = self.containerd.did("images", "ls", f"name=={NAME}").splitlines()[1:]
        return lines[0].split()[2] if lines else ""

    def wait_idle(self) -> None:
        def is_idle() -> bool:
            [state] = self.agent.images()[NAME]["runtimes"]
            return bool(state["state"] == "published" and state["digest"] == self.target())

        self.agent.wait_idle()
        wait_until(is_idle, lambda: self.agent.images().get(NAME))

    def names(self) -> set[str]:
        return set(self.containerd.did("images", "ls", "-q").split())

    def start(self, image: NodeImage) -> None:
        self.reference = image.by_digest
        self.kubelet.wait_image(self.reference)
        self.pod = self.kubelet.start(self.reference)

    def restart_container(self) -> None:
        """As kubelet does after the end of the container; the one before is then removed."""
        assert self.pod is not None
        self.kubelet.kill(self.pod)
        image_id = self.kubelet.image_id(self.reference, "Never")
        self.attempt += 1
        dead, self.pod = (
            self.pod,
            self.kubelet.container(self.pod.sandbox, image_id, attempt=self.attempt),
        )
        self.kubelet.remove_container(dead)

    def end(self) -> None:
        assert self.pod is not None
        self.kubelet.remove(self.pod)
        self.pod = None

    def collect_images(self) -> None:
        """Have kubelet remove every image that is neither in use nor known as pinned."""
        sandbox = self.containerd.options.sandbox_image
        policy = GcPolicy(min_age_seconds=0, sandbox_image=sandbox)
        ImageManager(self.kubelet.cri, Clock(), policy).delete_unused()


@pytest.fixture
def node(tmp_path: Path, containerd: Containerd) -> Iterator[Node]:
    import_pause(containerd)
    with (
        Kubelet(containerd) as kubelet,
        agent_on(containerd, tmp_path, "data") as agent,
    ):
        agent.wait_for(lambda: agent.status()["runtimes"][0]["connected"])
        yield Node(agent, containerd, kubelet)


def test_a_pinned_container_restarts_through_all_that_happens_to_its_archive(node: Node) -> None:
    node.drop("a.tar", VERSIONS[0])
    node.start(VERSIONS[0])
    node.drop("b.tar", NodeImage(NAME, "other", foreign=True))
    assert node.target() != VERSIONS[0].digest  # the tag is an index that was merged
    node.restart_container()
    node.drop("a.tar", VERSIONS[1])
    node.restart_container()
    node.drop("c.tar", VERSIONS[2])
    node.drop("d.tar", VERSIONS[3])
    node.agent.ask("/v1/gc", method="POST", body={})  # the store has the first no more
    node.restart_container()
    for _ in range(2):
        node.agent.ask("/v1/rollback", method="POST", body={"reference": NAME})
        node.wait_idle()
        node.restart_container()
    node.collect_images()
    node.restart_container()
    node.containerd.restart()
    node.kubelet.wait_ready()
    node.agent.restart()
    node.agent.wait_for(lambda: node.agent.status()["runtimes"][0]["connected"])
    node.wait_idle()
    node.restart_container()
    node.end()
    wait_until(lambda: VERSIONS[0].by_digest not in node.names(), node.names)
    assert VERSIONS[3].by_digest in node.names()  # an archive names it


def test_a_version_that_was_replaced_starts_at_once_after_kubelet_s_collection(node: Node) -> None:
    """`kubectl rollout undo`, by digest and by the tag of an archive that was replaced."""
    node.drop("a.tar", VERSIONS[0])
    old = NodeImage("docker.io/library/app:old", "old")
    node.archives.drop("old.tar", old)
    node.kubelet.wait_image(old.name)
    node.archives.drop("old.tar", NodeImage("docker.io/library/app:new", "new"))
    node.kubelet.wait_image("docker.io/library/app:new")
    node.drop("a.tar", VERSIONS[1])
    node.collect_images()
    for reference in (VERSIONS[0].by_digest, old.by_digest, old.name):
        node.kubelet.wait_image(reference)  # on 1.6, which knows no pins, it is put back
        node.kubelet.remove(node.kubelet.start(reference))


def test_a_pinned_container_restarts_with_an_agent_on_a_new_data_directory(
    node: Node, tmp_path: Path
) -> None:
    node.drop("a.tar", VERSIONS[0])
    node.drop("b.tar", VERSIONS[1])
    node.start(VERSIONS[0])
    node.drop("a.tar", VERSIONS[2])
    node.agent.stop()
    with agent_on(node.containerd, tmp_path, "new") as agent:
        agent.wait_for(lambda: agent.status()["runtimes"][0]["connected"])
        node.agent = agent
        node.wait_idle()
        node.collect_images()
        node.restart_container()
