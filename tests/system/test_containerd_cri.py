"""What the other tests stand on: CRI of three versions answers, pulls, and runs pods."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from airside.archive.sample import MESSAGE, SAMPLE_NAME, write_sample
from airside.core.errors import ContainerdError, NotFoundError
from support.agent import Agent
from support.containerd import Containerd, by_turns, overlays_work
from support.containerd_config import Options, Snapshotter
from support.kubelet import ImageNeverPullError, Kubelet, import_pause
from support.pause import PAUSE_NAME

pytestmark = [pytest.mark.system, pytest.mark.needs("runc", "unshare", "mount")]

ALIAS = "docker.io/airside/alias:1"
ABSENT = "docker.io/airside/absent:1"
TEXT = MESSAGE.decode()
KNOWS_PINS = [1, 7]
"""From 1.6.22 and 1.7.3; Debian's 1.6 is older."""


@pytest.fixture
def kubelet(containerd: Containerd) -> Iterator[Kubelet]:
    import_pause(containerd)
    with Kubelet(containerd) as made:
        yield made


@pytest.fixture
def sample(containerd: Containerd, kubelet: Kubelet, tmp_path: Path) -> str:
    """The sample image's name: it is in containerd, not unpacked."""
    archive = tmp_path / "hello.tar"
    write_sample(archive, format="docker")
    containerd.did("images", "import", *containerd.local, "--no-unpack", archive)
    kubelet.wait_image(SAMPLE_NAME)
    return SAMPLE_NAME


@pytest.fixture
def registry(agent: Agent) -> str:
    """HOST:PORT of a registry that has the sample, for all platforms."""
    archive = agent.watched / "hello.tar"
    write_sample(archive)
    agent.wait_imported(archive)
    return agent.registry


def mirror(containerd: Containerd, registry: str) -> None:
    """The registry alone answers for docker.io."""
    file = containerd.hosts / "docker.io/hosts.toml"
    file.parent.mkdir()
    file.write_text(f'server = "http://{registry}"\n[host."http://{registry}"]\n')


# images


def test_cri_is_ready_and_says_its_version(containerd: Containerd, kubelet: Kubelet):
    name, version = kubelet.cri.version()
    assert name == "containerd"
    assert version.startswith(f"{containerd.version}.")
    conditions, _info = kubelet.cri.status()
    holding = {kind for kind, holds, _ in conditions if holds}
    assert {"RuntimeReady", "NetworkReady"} <= holding


def test_the_place_of_images_names_the_snapshotter(containerd: Containerd, kubelet: Kubelet):
    [(mountpoint, _used)] = kubelet.cri.file_systems()
    plugin = f"io.containerd.snapshotter.v1.{containerd.options.snapshotter}"
    assert mountpoint == str(containerd.root / plugin)


def test_an_imported_image_is_listed(containerd: Containerd, kubelet: Kubelet, sample: str):
    found = kubelet.wait_image(sample, lambda image: sample in image.tags)
    assert found.size_bytes > 10_000
    assert (found.digests, found.pinned) == ((), False)
    assert {image.id: image.tags for image in kubelet.cri.images()}[found.id] == (sample,)
    assert kubelet.cri.image(found.id) == found
    [row] = [row for row in containerd.did("images", "ls").splitlines() if row.startswith(sample)]
    by_digest = f"docker.io/airside/hello@{row.split()[2]}"
    containerd.did("images", "tag", sample, by_digest)
    assert kubelet.wait_image(sample, lambda image: bool(image.digests)).digests == (by_digest,)


def test_a_pin_is_shown_where_it_is_known(containerd: Containerd, kubelet: Kubelet, sample: str):
    containerd.did("images", "label", sample, "io.cri-containerd.pinned=pinned")
    containerd.did("images", "tag", sample, ALIAS)
    knows = [int(number) for number in containerd.version.split(".")] >= KNOWS_PINS
    found = kubelet.wait_image(sample, lambda image: ALIAS in image.tags and image.pinned == knows)
    assert set(found.tags) == {sample, ALIAS}


def test_removing_one_name_removes_all(containerd: Containerd, kubelet: Kubelet, sample: str):
    containerd.did("images", "tag", sample, ALIAS)
    found = kubelet.wait_image(sample, lambda image: ALIAS in image.tags)
    kubelet.cri.remove_image(ALIAS)
    assert kubelet.cri.image(sample) is None
    left = set(containerd.did("images", "ls", "-q").split())
    assert not left & {sample, ALIAS, found.id}
    assert PAUSE_NAME in left


@pytest.mark.parametrize(
    ("containerd_version", "snapshotter"),
    by_turns([("overlayfs",), ("native",), ("overlayfs",)]),
    indirect=["containerd_version"],
)
def test_an_image_is_pulled_through_a_mirror(
    containerd_version: str, snapshotter: Snapshotter, registry: str, tmp_path: Path
):
    if snapshotter == "overlayfs" and not overlays_work(tmp_path):
        pytest.skip("no overlay can be mounted in the directory of tests")
    options = Options(snapshotter=snapshotter)
    with (
        Containerd(containerd_version, tmp_path / "c", options=options) as containerd,
        Kubelet(containerd) as kubelet,
    ):
        import_pause(containerd)
        mirror(containerd, registry)
        assert kubelet.run(SAMPLE_NAME, policy="IfNotPresent") == TEXT
        rows = containerd.did("snapshots", "--snapshotter", snapshotter, "ls").splitlines()
        assert len(rows) > 1, "it was unpacked there"
        with pytest.raises((NotFoundError, ContainerdError)):  # 1.6 says no more than UNKNOWN
            kubelet.cri.pull(ABSENT)


@pytest.mark.parametrize(
    ("containerd_version", "layers"),
    by_turns([("kept",), ("discarded",), ("discarded",)]),
    indirect=["containerd_version"],
)
def test_layers_are_kept_once_unpacked_or_not(
    containerd_version: str, layers: str, registry: str, tmp_path: Path
):
    options = Options(discard_unpacked_layers=layers == "discarded")
    with (
        Containerd(containerd_version, tmp_path / "c", options=options) as containerd,
        Kubelet(containerd) as kubelet,
    ):
        mirror(containerd, registry)
        kubelet.cri.pull(SAMPLE_NAME)
        containerd.collect()
        check = containerd.did("images", "check", f"name=={SAMPLE_NAME}")
        expected = {"kept": "complete (2/2)", "discarded": "incomplete (1/2)"}[layers]
        assert f" {expected}" in check  # config and layer
        assert check.split()[-1] == "true", "it is unpacked"


# pods


@pytest.mark.parametrize(
    ("containerd_version", "network"),
    by_turns([("its own",), ("the node's",), ("its own",)]),
    indirect=["containerd_version"],
)
def test_a_pod_runs_an_image_that_was_never_pulled(kubelet: Kubelet, sample: str, network: str):
    assert kubelet.run(sample, policy="Never", node_network=network == "the node's") == TEXT


def test_a_pod_has_no_network_but_the_nodes(kubelet: Kubelet):
    apart = kubelet.start(PAUSE_NAME)
    node = kubelet.start(PAUSE_NAME, node_network=True)
    spaces = [Path(f"/proc/{kubelet.pid(pod)}/ns/net").readlink() for pod in (apart, node)]
    own = Path("/proc/self/ns/net").readlink()
    assert (spaces[0] == own, spaces[1] == own) == (False, True)
    lines = Path(f"/proc/{kubelet.pid(apart)}/net/dev").read_text().splitlines()[2:]
    assert [line.partition(":")[0].strip() for line in lines] == ["lo"]


def test_a_pod_of_an_absent_image_does_not_start(kubelet: Kubelet):
    with pytest.raises(ImageNeverPullError):
        kubelet.start(ABSENT, policy="Never")


def test_a_pod_runs_on_while_containerd_is_killed(containerd: Containerd, kubelet: Kubelet):
    pod = kubelet.start(PAUSE_NAME)
    pid = kubelet.pid(pod)
    containerd.kill()
    containerd.start()
    kubelet.wait_ready()
    assert kubelet.is_running(pod)
    assert kubelet.pid(pod) == pid
