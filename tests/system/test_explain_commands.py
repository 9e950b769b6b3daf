"""The commands that `airside explain` prints, pasted into a shell with the real clients.

Each client keeps its things in a directory of its own; what it is told there says nothing that the
commands should have said. crictl, nerdctl and helm are in no Debian release.
"""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from support import program
from support.agent import Agent
from support.command import airside
from support.debian import UnreachableError
from support.formats.workshop import Workshop
from support.images import (
    TestBlob,
    TestImage,
    TestIndex,
    oci_archive,
    random_image,
    random_index,
)
from support.makers import (
    EMPTY,
    artifact,
    attached_sbom,
    helm_chart,
    layout_members,
    named,
    write_members,
)

pytestmark = pytest.mark.system
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="the client needs root")

WHOLE, SPARSE = "registry.example/team/app:1", "registry.example:5000/team/sparse:1"
HUB, FOREIGN = "docker.io/library/busybox:1", "registry.example/team/foreign:1"
CHART, FILES, SBOM = "r.example/chart:1.0.0", "r.example/files:1", "r.example/app:sbom"


def _index(seed: str) -> TestIndex:
    return random_index(seed, ("linux/amd64", "linux/arm64", "linux/arm/v7"), layers=1)


IMAGES: Mapping[str, TestImage | TestIndex] = {
    WHOLE: _index("whole"),
    SPARSE: _index("sparse"),
    HUB: random_image("hub", layers=1, platform="linux/amd64", media="docker"),
    FOREIGN: random_image("foreign", layers=1, platform="linux/s390x"),
}


@pytest.fixture(scope="module")
def shop() -> Iterator[Workshop]:
    made = Workshop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    home = tmp_path_factory.mktemp("agent")
    images = home / "images"
    images.mkdir()
    for number, (name, image) in enumerate(IMAGES.items()):
        left_out = ["linux/amd64", "linux/arm/v7"] if name == SPARSE else []
        oci_archive(images / f"{number}.tar", {name: image}, sparse=left_out)
    oci_archive(images / "nameless.tar", {(): random_image("nameless", layers=1)})
    _artifacts(images / "artifacts.tar")
    with Agent(images, home / "data", environ={"AIRSIDE_PLATFORM": "linux/amd64"}) as agent:
        agent.wait_imported(*images.iterdir())
        yield agent


class File(TestBlob):
    """A layer with the name of a file."""

    @property
    def descriptor(self) -> dict[str, Any]:
        annotations = {"org.opencontainers.image.title": "model.bin"}
        return {**super().descriptor, "annotations": annotations}


MODEL = File(b"weights" * 100, "application/x-weights")


def _artifacts(path: Path) -> None:
    image = random_image("signed", layers=1)
    files, _ = artifact(EMPTY, [MODEL], artifactType="application/x-model")
    chart, sbom = helm_chart("shop"), attached_sbom(image.manifest)
    entries = [named(files, FILES), named(chart[0], CHART), named(sbom[0], SBOM)]
    blobs = (*image.blobs, files, EMPTY, MODEL, *chart[1], *sbom[1])
    write_members(
        path,
        layout_members([*entries, named(image.manifest, "r.example/app:1")], dict.fromkeys(blobs)),
    )


def commands(agent: Agent, name: str) -> dict[str, list[str]]:
    done = airside("explain", "--json", "--data", agent.data, name)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = {}
    for each in json.loads(done.stdout)["pull"]:
        found.setdefault(each["client"], []).append(each["command"])
    return found


def paste(command: str, directory: Path, **environ: str) -> str:
    """Run it as it is; it must succeed."""
    directory.mkdir(exist_ok=True)
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=directory,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def fetched(agent: Agent, name: str) -> dict[str, Any]:
    status, raw = agent.get(in_url(name))
    assert status == 200
    value: dict[str, Any] = json.loads(raw)
    return value


def in_url(name: str, digest: str = "") -> str:
    repository, _, end = name.rpartition("@" if "@" in name else ":")
    host, slash, path = repository.partition("/")
    return f"/v2/{host.replace(':', '_')}{slash}{path}/manifests/{digest or end}"


def blobs_below(agent: Agent, name: str) -> set[str]:
    """Configs and layers of all that is here of a name, as the registry has it."""
    document = fetched(agent, name)
    documents = [document]
    if "manifests" in document:
        answers = [agent.get(in_url(name, child["digest"])) for child in document["manifests"]]
        documents = [json.loads(raw) for status, raw in answers if status == 200]
        assert documents
    return {
        blob["digest"] for each in documents for blob in (each["config"], *each.get("layers", []))
    }


def layers_of(name: str, platform: str) -> set[str]:
    image = IMAGES[name]
    if isinstance(image, TestIndex):
        [image] = [each for each in image.images if str(each.platform) == platform]
    return {str(layer.digest) for layer in image.layers}


def files_of(layout: Path) -> set[str]:
    return {f"sha256:{path.name}" for path in (layout / "blobs/sha256").iterdir()}


ALL = [*IMAGES, CHART, FILES, SBOM, "nameless"]


@pytest.fixture
def name(request: pytest.FixtureRequest, agent: Agent) -> str:
    if request.param != "nameless":
        return str(request.param)
    return next(each for each in agent.images() if "nameless" in each)


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("name", ALL, indirect=True)
def test_skopeo(agent: Agent, name: str, tmp_path: Path) -> None:
    [command] = commands(agent, name)["skopeo"]
    paste(command, tmp_path)
    if name == HUB:  # of Docker's types, which no OCI layout may hold
        assert "--preserve-digests" not in command
        assert len(files_of(tmp_path / "DIR")) == 3
    else:
        assert files_of(tmp_path / "DIR") >= blobs_below(agent, name)


@pytest.mark.needs("curl")
@pytest.mark.parametrize("name", ALL, indirect=True)
def test_curl(agent: Agent, name: str, tmp_path: Path) -> None:
    [command] = commands(agent, name)["curl"]
    assert json.loads(paste(command, tmp_path)) == fetched(agent, name)


@pytest.mark.parametrize("name", [CHART, FILES, SBOM])
def test_oras(agent: Agent, shop: Workshop, name: str, tmp_path: Path) -> None:
    try:
        where = shop.program("trixie", "oras").parent
    except UnreachableError as exc:
        pytest.skip(str(exc))
    [command] = commands(agent, name)["oras"]
    paste(command, tmp_path, PATH=f"{where}:{os.environ['PATH']}")
    if name == FILES:
        assert (tmp_path / "model.bin").read_bytes() == MODEL.raw
    else:
        assert files_of(tmp_path / "DIR") >= blobs_below(agent, name)


IMAGE_NAMES = [*IMAGES, "nameless"]
PLATFORMS = {SPARSE: "linux/arm64", FOREIGN: "linux/s390x"}
"""Where this is not the node's: what is here."""


@pytest.fixture
def layers(name: str, agent: Agent) -> set[str]:
    """Those that a client on this node is given."""
    if name in IMAGES:
        return layers_of(name, PLATFORMS.get(name, "linux/amd64"))
    return {layer["digest"] for layer in fetched(agent, name)["layers"]}


@ROOT
@pytest.mark.needs("containerd", "ctr")
@pytest.mark.parametrize("name", IMAGE_NAMES, indirect=True)
def test_ctr(
    agent: Agent,
    shop: Workshop,
    name: str,
    layers: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CONTAINERD_SNAPSHOTTER", "native")
    given = commands(agent, name)
    [told], [command] = given["containerd"], given["ctr"]
    first, *words = shlex.split(told)
    assert first == "airside"
    paste(shlex.join([*program.command(), *words, "--certs-dir", "certs.d"]), tmp_path)
    words = shlex.split(command.replace("/etc/containerd", str(tmp_path)))
    assert words[0] == "ctr"
    shop.containerd.did(*words[1:])
    assert words[-1] in shop.containerd.did("images", "ls", "-q").split()
    held = set(shop.containerd.did("content", "ls", "-q").split())
    assert layers <= held


@ROOT
@pytest.mark.needs("containerd", "runc")
@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
@pytest.mark.parametrize("name", IMAGE_NAMES, indirect=True)
def test_docker(
    agent: Agent, shop: Workshop, suite: str, name: str, layers: set[str], tmp_path: Path
) -> None:
    try:
        docker = shop.docker(suite, containerd_store=suite == "trixie")
    except UnreachableError as exc:
        pytest.skip(str(exc))
    [command] = commands(agent, name)["docker"]
    where = f"{docker.program('docker').parent}:{os.environ['PATH']}"
    paste(command, tmp_path, **{**docker.environ, "PATH": where})
    pulled = command.split()[-1]
    diff_ids = json.loads(docker("image", "inspect", pulled))[0]["RootFS"]["Layers"]
    assert set(diff_ids) == layers  # they are not compressed


@ROOT
@pytest.mark.needs("podman")
@pytest.mark.parametrize("name", IMAGE_NAMES, indirect=True)
def test_podman(agent: Agent, name: str, layers: set[str], tmp_path: Path) -> None:
    storage, engine = tmp_path / "storage.conf", tmp_path / "containers.conf"
    home = [f'{key} = "{tmp_path}/{key}"' for key in ("graphroot", "runroot")]
    storage.write_text("\n".join(['[storage]\ndriver = "vfs"', *home]))
    engine.write_text('[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n')
    environ = {"CONTAINERS_STORAGE_CONF": str(storage), "CONTAINERS_CONF": str(engine)}
    [command] = commands(agent, name)["podman"]
    paste(command, tmp_path, **environ)
    shown = paste(f"podman image inspect {command.split()[-1]}", tmp_path, **environ)
    assert set(json.loads(shown)[0]["RootFS"]["Layers"]) == layers
