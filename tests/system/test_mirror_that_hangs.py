"""A real containerd whose mirror is an agent: one that pulls through, hangs, comes back."""

import os
import signal
import threading
import time
from contextlib import contextmanager

import pytest

from airside.oci.model import parse_document
from airside.oci.reference import Repository
from airside.registry.rules.read_through import ReadThrough
from support.agent import Agent
from support.containerd import Containerd
from support.formats.workshop import docker_registry
from support.images import oci_archive, random_image
from support.memory import MemoryStore, MemoryView
from support.served import served
from support.skopeo import pull, skopeo
from support.waiting import wait_until

pytestmark = [
    pytest.mark.system,
    pytest.mark.needs("containerd", "ctr", "docker-registry", "skopeo"),
    pytest.mark.skipif(os.geteuid() != 0, reason="containerd needs root"),
]

SECONDS = 2.0
"""answer_seconds: short, that the test is."""
HOST = "registry.example"
IMAGE, OTHER, LATE, DISK = (random_image(f"hanging-{n}", layer_bytes=200_000) for n in range(4))


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    """Debian's docker-registry with four images."""
    home = tmp_path_factory.mktemp("upstream")
    with docker_registry(home / "registry") as address:
        for name, image in (("app", IMAGE), ("other", OTHER), ("late", LATE), ("disk", DISK)):
            oci_archive(home / f"{name}.tar", {f"{HOST}/{name}:1": image})
            source = f"oci-archive:{home / f'{name}.tar'}"
            target = f"docker://{address}/team/{name}:1"
            skopeo("copy", "--preserve-digests", "--dest-tls-verify=false", source, target)
        yield address


@pytest.fixture(scope="module")
def containerd():
    with Containerd() as found:
        yield found


def mirrored(containerd: Containerd, agent: str, upstream: str | None) -> None:
    """Our host first, then the next one, as `airside mirror write` has it."""
    directory = containerd.hosts / HOST
    directory.mkdir(parents=True, exist_ok=True)
    text = f'[host."http://{agent}"]\n  capabilities = ["pull", "resolve"]\n'
    if upstream is not None:
        text += f'[host."http://{upstream}"]\n  capabilities = ["pull", "resolve"]\n'
    (directory / "hosts.toml").write_text(f'server = "http://127.0.0.1:1"\n{text}')


def pulled(containerd: Containerd, name: str, image) -> float:
    """Pull, and look what came; gives the seconds that it took."""
    reference = f"{HOST}/team/{name}:1"
    containerd.ctr("images", "rm", "--sync", reference)
    started = time.monotonic()
    flags = ("--hosts-dir", containerd.hosts, "--snapshotter", containerd.options.snapshotter)
    containerd.did("images", "pull", *flags, reference)
    took = time.monotonic() - started
    assert str(image.digest) in containerd.did("images", "ls")
    return took


@contextmanager
def stopped(agent: Agent):
    os.kill(agent.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(agent.pid, signal.SIGCONT)


@pytest.fixture
def agent(tmp_path, upstream):
    """One that pulls through from that registry."""
    images = tmp_path / "images"
    images.mkdir()
    environ = {
        "AIRSIDE_UPSTREAM": f"{HOST}=http://{upstream}",
        "AIRSIDE_ANSWER_SECONDS": str(SECONDS),
        "AIRSIDE_UPSTREAM_SECONDS": "20",
    }
    with Agent(images, tmp_path / "data", environ=environ) as found:
        yield found


def test_containerd_and_skopeo_pull_through_an_agent_and_what_came_stays(
    agent, containerd, upstream, tmp_path
):
    registry = agent.registry
    mirrored(containerd, registry, None)
    pulled(containerd, "app", IMAGE)
    found = pull(registry, f"{HOST}/team/other:1", tmp_path / "other")
    assert found >= {blob.digest for blob in OTHER.blobs}
    kept = agent.images()
    assert {kept[f"{HOST}/team/{name}:1"]["source"] for name in ("app", "other")} == {"peer"}
    assert kept[f"{HOST}/team/app:1"]["origin"] == f"http://{upstream}"
    agent.stop()
    agent.environ = {**agent.environ, "AIRSIDE_OFFLINE": "true"}
    agent.start()
    mirrored(containerd, agent.registry, None)
    pulled(containerd, "app", IMAGE)
    assert agent.get("/v2/team/late/manifests/1?ns=registry.example")[0] == 404


def test_a_pull_goes_on_to_the_next_host_while_the_agent_is_stopped(agent, containerd, upstream):
    registry = agent.registry
    mirrored(containerd, registry, upstream)
    usual = pulled(containerd, "app", IMAGE)
    with stopped(agent):
        took = pulled(containerd, "other", OTHER)
        again = pulled(containerd, "late", LATE)
    print(f"\npull: usually {usual:.1f} s, agent stopped {took:.1f} s, then {again:.1f} s")
    assert agent.images().keys() == {f"{HOST}/team/app:1"}
    mirrored(containerd, registry, None)  # nobody but the agent
    agent.wait_for(
        lambda: agent.get(f"/v2/team/late/manifests/1?ns={HOST}")[0] == 200, what="it answers again"
    )
    pulled(containerd, "late", LATE)
    assert f"{HOST}/team/late:1" in agent.images()


class Hanging(MemoryStore):
    """Its disk answers once `answers` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = threading.Event()

    def stat(self, digest):
        assert self.answers.wait(120)
        return super().stat(digest)


def test_a_pull_goes_on_to_the_next_host_while_the_disk_hangs(containerd, upstream):
    view, store = MemoryView(), Hanging()
    for blob in DISK.blobs:
        store.add(blob.raw)
    document = parse_document(DISK.manifest.raw, DISK.manifest.media_type, "disk")
    view.put(Repository(HOST, "team/disk"), document, "1")
    through = ReadThrough(policy="false")
    with served(view, store, through, answer_seconds=SECONDS) as registry:
        try:
            mirrored(containerd, registry.address, upstream)
            took = pulled(containerd, "disk", DISK)
            print(f"\npull with a disk that hangs: {took:.1f} s")
            assert took > SECONDS
            store.answers.set()
            blob = f"/v2/team/disk/blobs/{DISK.layers[0].digest}?ns={HOST}"
            wait_until(lambda: registry.ask(blob).status == 200)
        finally:
            store.answers.set()
