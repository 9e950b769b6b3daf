"""What only a containerd holds, pulled from our registry by another one: of three versions.

Our own store and catalog are empty here. The first containerd is `holder`, the second `puller`.
"""

import dataclasses
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airside.archive.sample import MESSAGE, SAMPLE_NAME, write_sample
from airside.containerd.client import Client
from airside.containerd.cri import Cri
from airside.containerd.read_through import ContainerdContent
from airside.core.errors import AirsideError
from airside.core.settings import Limits
from airside.registry.rules.read_through import Policy, ReadThrough
from support.agent import Agent
from support.containerd import Containerd, by_turns, on_one
from support.containerd_config import Options
from support.memory import MemoryStore, MemoryView
from support.served import Served, served
from support.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.needs("runc", "unshare", "mount")]

TAG = "/v2/airside/hello/manifests/1?ns=docker.io"
WAYS = ("containerd_version", "way"), by_turns([("directory",), ("calls",), ("directory",)])


@contextmanager
def registry_over(
    holder: Containerd, way: str = "directory", policy: Policy = "true"
) -> Iterator[Served]:
    """A registry that has nothing but what `holder` has."""
    root = holder.content_root if way == "directory" else None
    with Client.open(str(holder.socket)) as client:
        content = ContainerdContent(client, root, Limits())
        through = ReadThrough(lambda: [content], policy)
        with served(MemoryView(), MemoryStore(), through) as registry:
            yield registry


@pytest.fixture
def puller(containerd: Containerd, tmp_path: Path) -> Iterator[Containerd]:
    """Of the same version, with nothing in it."""
    options = dataclasses.replace(containerd.options, discard_unpacked_layers=False)
    with Containerd(containerd.version, tmp_path / "puller", options=options) as made:
        yield made


@pytest.fixture
def holder(containerd: Containerd, tmp_path: Path) -> Containerd:
    """With the sample image, for all platforms, that `ctr` imported."""
    import_sample(containerd, tmp_path / "hello.tar")
    return containerd


def import_sample(containerd: Containerd, archive: Path) -> None:
    write_sample(archive)
    flags = (*containerd.local, "--all-platforms", "--no-unpack")
    containerd.did("images", "import", *flags, archive)


def mirror(containerd: Containerd, registry: Served) -> None:
    """Our `hosts.toml`, and nobody else to ask."""
    file = containerd.hosts / "docker.io" / "hosts.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(
        f'server = "http://{registry.address}"\n[host."http://{registry.address}"]\n'
        '  capabilities = ["pull", "resolve"]\n'
    )


def cri_pull(containerd: Containerd, name: str) -> str:
    """As kubelet pulls; gives the image ID. Raises AirsideError."""
    with Client.open(str(containerd.socket)) as client:
        return Cri(client.channel).pull(name, seconds=60.0)


def target_of(containerd: Containerd, name: str) -> str:
    rows = (row.split() for row in containerd.did("images", "ls").splitlines()[1:])
    return next(row[2] for row in rows if row[0] == name)


# --- what is pulled


@pytest.mark.parametrize(*WAYS, indirect=["containerd_version"])
def test_an_image_that_only_one_containerd_holds_runs_in_another(
    holder: Containerd, puller: Containerd, way: str
):
    with registry_over(holder, way) as registry:
        mirror(puller, registry)
        flags = ("--hosts-dir", puller.hosts, "--snapshotter", puller.options.snapshotter)
        puller.did("images", "pull", *flags, SAMPLE_NAME)
    assert target_of(puller, SAMPLE_NAME) == target_of(holder, SAMPLE_NAME)
    assert " complete " in puller.did("images", "check", f"name=={SAMPLE_NAME}")
    ran = puller.run_container(SAMPLE_NAME, "hello")
    assert ran.stdout.encode() == MESSAGE, ran.stderr


def test_kubelet_of_another_node_pulls_it_by_tag_and_by_digest(
    holder: Containerd, puller: Containerd
):
    digest = target_of(holder, SAMPLE_NAME)
    with registry_over(holder) as registry:
        mirror(puller, registry)
        assert cri_pull(puller, SAMPLE_NAME)
        assert cri_pull(puller, f"docker.io/airside/hello@{digest}")


@pytest.mark.parametrize(*WAYS, indirect=["containerd_version"])
def test_each_blob_is_served_to_the_byte_and_head_says_what_get_does(holder: Containerd, way: str):
    with registry_over(holder, way) as registry:
        index = registry.ask(TAG)
        assert index.headers["Docker-Content-Digest"] == target_of(holder, SAMPLE_NAME)
        told = json.loads(index.body)["manifests"][0]
        found = registry.ask(f"/v2/airside/hello/manifests/{told['digest']}")
        assert found.headers["Content-Type"] == told["mediaType"]
        manifest = json.loads(found.body)
        for blob in (manifest["config"], *manifest["layers"]):
            target = f"/v2/airside/hello/blobs/{blob['digest']}?ns=docker.io"
            got, head = registry.ask(target), registry.ask(target, "HEAD")
            file = holder.content_root / "blobs" / blob["digest"].replace(":", "/")
            assert got.body == file.read_bytes()
            assert head.status == got.status == 200
            assert head.headers["Content-Length"] == str(blob["size"])
            assert registry.ask(target, Range="bytes=1-3").body == got.body[1:4]
            foreign = f"/v2/airside/other/blobs/{blob['digest']}?ns=docker.io"
            assert registry.ask(foreign).status == 404


@on_one("2.1")
def test_what_is_not_there_is_told_at_once(holder: Containerd):
    nowhere = "sha256:" + "0" * 64
    with registry_over(holder) as registry:
        registry.ask(TAG)  # the connection is made
        for target in (
            "/v2/airside/hello/manifests/2?ns=docker.io",
            "/v2/airside/none/manifests/1",
            f"/v2/airside/hello/manifests/{nowhere}",
            f"/v2/airside/hello/blobs/{nowhere}?ns=docker.io",
        ):
            took = []
            for _ in range(5):
                started = time.monotonic()
                assert registry.ask(target).status == 404
                took.append(time.monotonic() - started)
            print(f"{target[:50]}: 404 in {min(took) * 1000:.1f} to {max(took) * 1000:.1f} ms")


@on_one("1.7")
def test_the_agent_reads_its_runtimes_through(
    holder: Containerd, puller: Containerd, tmp_path: Path
):
    images = tmp_path / "images"
    images.mkdir()
    runtime = ("--runtime", str(holder.socket))
    every = {"AIRSIDE_READ_THROUGH": "true"}
    with Agent(images, tmp_path / "data", environ=every, flags=runtime) as agent:
        wait_until(lambda: agent.get(TAG)[0] == 200)
        assert agent.images() == {}
        mirror(puller, Served(agent.registry))
        flags = ("--hosts-dir", puller.hosts, "--snapshotter", puller.options.snapshotter)
        puller.did("images", "pull", *flags, SAMPLE_NAME)
        mirror(holder, Served(agent.registry))
        with pytest.raises(AirsideError, match="not found"):
            cri_pull(holder, SAMPLE_NAME)
    assert target_of(puller, SAMPLE_NAME) == target_of(holder, SAMPLE_NAME)
    ran = puller.run_container(SAMPLE_NAME, "hello")
    assert ran.stdout.encode() == MESSAGE, ran.stderr


# --- what is not


@pytest.mark.parametrize("containerd_version", ["2.1"], indirect=True)
def test_an_image_that_came_with_a_secret_reaches_no_pod_and_no_client(
    holder: Containerd, puller: Containerd, tmp_path: Path
):
    """A pod without the secret names the image by its digest: CRI asks us, as its own mirror."""
    digest = target_of(holder, SAMPLE_NAME)
    (tmp_path / "images").mkdir()
    runtime = ("--runtime", str(holder.socket))
    with Agent(tmp_path / "images", tmp_path / "data", flags=runtime) as agent:
        agent.wait_for(lambda: agent.status()["runtimes"][0]["connected"])
        for target in (TAG, f"/v2/airside/hello/manifests/{digest}?ns=docker.io"):
            assert agent.get(target)[0] == 404
        mirror(holder, Served(agent.registry))
        mirror(puller, Served(agent.registry))
        for asking in (holder, puller):
            for name in (SAMPLE_NAME, f"docker.io/airside/hello@{digest}"):
                with pytest.raises(AirsideError, match="not found"):
                    cri_pull(asking, name)


def test_a_containerd_is_not_told_by_its_own_tag_unless_it_is_wanted(holder: Containerd):
    with registry_over(holder) as registry:
        mirror(holder, registry)
        assert registry.ask(TAG).status == 200
        with pytest.raises(AirsideError, match="not found"):
            cri_pull(holder, SAMPLE_NAME)
        assert cri_pull(holder, f"docker.io/airside/hello@{target_of(holder, SAMPLE_NAME)}")
    with registry_over(holder, policy="self") as registry:
        mirror(holder, registry)
        assert cri_pull(holder, SAMPLE_NAME)
    with registry_over(holder, policy="digests") as registry:
        assert registry.ask(TAG).status == 404


@pytest.fixture
def discarding(containerd_version: str, tmp_path: Path) -> Iterator[Containerd]:
    options = Options(discard_unpacked_layers=True)
    with Containerd(containerd_version, tmp_path / "discarding", options=options) as made:
        yield made


@on_one("1.6")
def test_an_image_whose_layers_were_discarded_is_not_served_by_tag(
    holder: Containerd, discarding: Containerd
):
    with registry_over(holder) as registry:
        mirror(discarding, registry)
        cri_pull(discarding, SAMPLE_NAME)
    with registry_over(discarding) as registry:

        def is_gone() -> bool:
            discarding.collect()
            return registry.ask(TAG).status == 404

        wait_until(is_gone)
        assert registry.ask(TAG, "HEAD").status == 404
        assert "no complete image" in registry.ask(TAG).body.decode()
        digest = target_of(discarding, SAMPLE_NAME)
        assert registry.ask(f"/v2/airside/hello/manifests/{digest}?ns=docker.io").status == 200


@on_one("2.1")
def test_what_was_pulled_belongs_to_its_repository_by_its_label(
    holder: Containerd, puller: Containerd
):
    with registry_over(holder) as registry:
        mirror(puller, registry)
        cri_pull(puller, SAMPLE_NAME)
    digest = target_of(puller, SAMPLE_NAME)
    puller.did("images", "tag", SAMPLE_NAME, "example.com/kept:1")
    listed = puller.did("images", "ls", "-q").split()
    puller.did("images", "rm", *(name for name in listed if name != "example.com/kept:1"))
    with registry_over(puller) as registry:
        assert registry.ask(TAG).status == 404
        for name in ("airside/hello", "example.com/kept"):
            assert registry.ask(f"/v2/{name}/manifests/{digest}").status == 200
        assert registry.ask(f"/v2/airside/other/manifests/{digest}").status == 404


@on_one("1.7")
def test_a_containerd_that_hangs_delays_one_404_and_is_asked_again(holder: Containerd):
    with registry_over(holder) as registry:
        assert registry.ask(TAG).status == 200
        os.kill(holder.pid, signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
            took = []
            for _ in range(10):
                started = time.monotonic()
                assert registry.ask(TAG).status == 404
                took.append(time.monotonic() - started)
        finally:
            os.kill(holder.pid, signal.SIGCONT)
        print(f"hung: 404 in {took[0]:.2f} s, then in {max(took[1:]) * 1000:.1f} ms at most")
        wait_until(lambda: registry.ask(TAG).status == 200)
        holder.restart()
        wait_until(lambda: registry.ask(TAG).status == 200)
