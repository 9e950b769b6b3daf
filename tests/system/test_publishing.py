"""What is dropped is in containerd, whole, named, pinned, unpacked, and stays as it should be."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airside.archive.sample import MESSAGE, SAMPLE_NAME, write_sample
from airside.containerd.client import Client
from airside.containerd.services.images import ImageRecord
from airside.containerd.starting_pods import has_starting_pod
from airside.core.failpoints import PUBLISHING
from airside.ports.publication import ARCHIVES_LABEL
from support.agent import Agent
from support.claims import work_leases
from support.containerd import Containerd, by_turns, on_one
from support.containerd_config import GC_OFTEN, Options
from support.images import docker_archive, oci_archive, random_image, random_index
from support.kubelet import Kubelet, import_pause
from support.pause import write_pause
from support.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.needs("runc", "unshare", "mount")]

TEXT = MESSAGE.decode()
KNOWS_PINS = [1, 7]
GC = "containerd.io/gc.ref."


def agent_for(tmp_path: Path, containerd: Containerd, **environ: str) -> Agent:
    images = tmp_path / "images"
    images.mkdir(exist_ok=True)
    quick = {"AIRSIDE_RECONCILE_SECONDS": "3600", **environ}
    flags = ["--runtime", str(containerd.socket)]
    return Agent(images, tmp_path / "data", environ=quick, flags=flags)


@pytest.fixture
def publishing(tmp_path: Path, containerd: Containerd) -> Iterator[Agent]:
    with agent_for(tmp_path, containerd) as agent:
        wait_connected(agent)
        yield agent


def wait_connected(agent: Agent) -> None:
    agent.wait_for(
        lambda: [r for r in agent.status()["runtimes"] if r["connected"]], what="connected"
    )


def side(agent: Agent, reference: str) -> dict[str, Any]:
    """What `airside images` says of an image in the one runtime."""
    found = agent.images().get(reference, {}).get("runtimes") or [{"present": None, "state": ""}]
    return dict(found[0])


def wait_published(agent: Agent, *references: str, digest: str = "") -> None:
    for reference in references:
        agent.wait_for(
            lambda reference=reference: (
                side(agent, reference).get("state") == "published"
                and (not digest or side(agent, reference).get("digest") == digest)
            ),
            what=f"{reference} is published",
        )


def drop(agent: Agent, archive: Path) -> Path:
    """Rename into the watched directory, in place of an earlier one of the name."""
    target = agent.watched / archive.name
    archive.rename(target)
    return target


def blob_labels(containerd: Containerd, namespace: str = "k8s.io") -> dict[str, dict[str, str]]:
    with Client.open(str(containerd.socket), namespace) as client:
        return {b.digest: dict(b.labels) for b in client.content.list()}


def lists(containerd: Containerd) -> dict[str, Any]:
    """Leases, ingests, snapshots, contents and names of the namespace."""
    with Client.open(str(containerd.socket)) as client:
        snapshots = {
            s: (sorted(client.snapshots.list_committed(s)), client.snapshots.list_active(s))
            for s in ("overlayfs", "native")
        }
        return {
            "leases": work_leases(client),
            "writes": client.content.ingests(),
            "snapshots": snapshots,
            "content": {b.digest: dict(b.labels) for b in client.content.list()},
            "images": {i.name: str(i.target.digest) for i in client.images.list()},
        }


def test_a_dropped_image_is_listed_pinned_and_runs(
    publishing: Agent, containerd: Containerd, tmp_path: Path
) -> None:
    import_pause(containerd)
    write_sample(tmp_path / "hello.tar.zst")
    drop(publishing, tmp_path / "hello.tar.zst")
    wait_published(publishing, SAMPLE_NAME)
    with Kubelet(containerd) as kubelet:
        image = kubelet.wait_image(SAMPLE_NAME)
        digest = publishing.images()[SAMPLE_NAME]["digest"]
        assert SAMPLE_NAME in image.tags
        assert f"{SAMPLE_NAME.rpartition(':')[0]}@{digest}" in image.digests
        assert image.size_bytes > 0
        if [int(n) for n in containerd.version.split(".")[:2]] >= KNOWS_PINS:
            assert image.pinned
        assert kubelet.run(SAMPLE_NAME, policy="Never") == TEXT
    check = containerd.did("images", "check", f"name=={SAMPLE_NAME}")
    assert "complete" in check
    assert "incomplete" not in check
    assert check.split()[-1] == "true"  # unpacked
    found = side(publishing, SAMPLE_NAME)
    assert found["present"]
    assert found["unpacked"]
    assert found["adopted"].keys() == {"link"}
    assert lists(containerd)["leases"] == []


@pytest.mark.parametrize(
    ("containerd_version", "kind"),
    by_turns([("docker",), ("index",), ("index",)]),
    indirect=["containerd_version"],
)
def test_the_graph_is_what_ctr_makes(
    publishing: Agent, containerd: Containerd, tmp_path: Path, kind: str
) -> None:
    archive, name = tmp_path / "set.tar", "docker.io/library/graph:1"
    if kind == "docker":
        docker_archive(archive, {name: random_image(7)})
    else:
        oci_archive(archive, {name: random_index(7)})
    containerd.did("images", "import", *containerd.local, archive, namespace="parity")
    drop(publishing, archive)
    wait_published(publishing, name)
    containerd.collect()

    def graph(namespace: str) -> dict[str, dict[str, str]]:
        found = blob_labels(containerd, namespace)
        marks = ("containerd.io/gc.ref.", "containerd.io/uncompressed")
        return {
            digest: {k: v for k, v in labels.items() if k.startswith(marks)}
            for digest, labels in found.items()
        }

    with Client.open(str(containerd.socket), "parity") as client:
        [theirs] = client.images.list(f"name=={name}")
    with Client.open(str(containerd.socket)) as client:
        ours = client.images.get(name)
    assert ours is not None
    assert ours.target.digest == theirs.target.digest
    assert ours.target.media_type == theirs.target.media_type
    assert graph("k8s.io") == reachable(graph("parity"), str(theirs.target.digest))


def reachable(graph: dict[str, dict[str, str]], root: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    waiting = [root]
    while waiting:
        digest = waiting.pop()
        if digest in found or digest not in graph:
            continue
        found[digest] = graph[digest]
        waiting += [v for k, v in graph[digest].items() if "gc.ref.content" in k]
    return found


@on_one("2.1")
def test_an_update_moves_the_tag_and_leaves_nothing_nameless(
    publishing: Agent, containerd: Containerd, tmp_path: Path
) -> None:
    name, digests = "docker.io/library/app:1", [""]
    with Kubelet(containerd) as kubelet:
        for number in (1, 2, 3):
            docker_archive(tmp_path / "app.tar", {name: random_image(number)})
            drop(publishing, tmp_path / "app.tar")
            publishing.wait_for(
                lambda: publishing.images().get(name, {}).get("digest", "") != digests[-1]
            )
            digests.append(publishing.images()[name]["digest"])
            wait_published(publishing, name, digest=digests[-1])
        _, first, second, third = (name.replace(":1", f"@{digest}") for digest in digests)
        wait_names(kubelet, {first: (), second: (), third: (name,)})
        publishing.ask("/v1/gc", method="POST", body={})
        wait_names(kubelet, {second: (), third: (name,)})
    containerd.collect()
    assert digests[1] not in blob_labels(containerd)


def wait_names(kubelet: Kubelet, expected: dict[str, tuple[str, ...]]) -> None:
    """Wait until the images are these: the one name by digest of each, and its tags."""

    def found() -> dict[str, tuple[str, ...]]:
        return {" ".join(i.digests): i.tags for i in kubelet.cri.images()}

    wait_until(lambda: found() == expected, lambda: str(found()))


@on_one("1.7")
def test_what_is_removed_is_put_back_without_sending_a_blob(
    publishing: Agent, containerd: Containerd, tmp_path: Path
) -> None:
    name = "docker.io/library/app:1"
    docker_archive(tmp_path / "app.tar", {name: random_image(3)})
    drop(publishing, tmp_path / "app.tar")
    wait_published(publishing, name)
    with Kubelet(containerd) as kubelet:
        kubelet.wait_image(name)
        kubelet.cri.remove_image(name)
        containerd.collect()
        publishing.wait_for(lambda: kubelet.cri.image(name), what="it is back")
    publishing.wait_for(lambda: side(publishing, name)["adopted"].get("stream", 0) == 0)
    [runtime] = publishing.status()["runtimes"]
    assert runtime["blobs"].get("stream", 0) == 0


@on_one("1.6")
def test_what_kubelet_removes_is_there_when_a_pod_wants_it(
    publishing: Agent, containerd: Containerd, tmp_path: Path
) -> None:
    """kubelet removes unused images where CRI knows no pins (1.6), the sandbox image too."""
    pause = containerd.options.sandbox_image
    write_pause(tmp_path / "pause.tar", pause)
    write_sample(tmp_path / "hello.tar")
    for archive in ("pause.tar", "hello.tar"):
        drop(publishing, tmp_path / archive)
    wait_published(publishing, pause, SAMPLE_NAME)
    with Kubelet(containerd) as kubelet:

        def remove(name: str, *states: str) -> str:
            """Remove as kubelet does; gives the state that follows."""
            kubelet.cri.remove_image(kubelet.wait_image(name).id)
            at = side(publishing, name)["restores"]

            def seen() -> str:
                found = side(publishing, name)
                changed = found["state"] == "waiting" or found["restores"] > at
                return found["state"] if changed else ""

            return str(publishing.wait_for(seen, what=f"{name} is {states}"))

        for _ in range(5):
            assert remove(pause) == "published"
        waited = [remove(SAMPLE_NAME) for _ in range(3)]
        assert waited == ["published", "published", "waiting"]
        told = side(publishing, SAMPLE_NAME)
        assert (told["present"], told["pinned"], told["unpacked"]) == (False, False, False)
        assert told["next_try_at"]
        kubelet.wait_image(pause)
        sandbox = kubelet.sandbox()  # the next pod, which may want anything
        wait_published(publishing, SAMPLE_NAME)
        with Client.open(str(containerd.socket)) as client:
            assert has_starting_pod(client.containers.list())
            kubelet.container(sandbox, kubelet.wait_image(SAMPLE_NAME).id)
            assert not has_starting_pod(client.containers.list())
        kubelet.wait_image(SAMPLE_NAME)
        assert kubelet.run(SAMPLE_NAME, policy="Never") == TEXT
        publishing.wait_for(lambda: side(publishing, SAMPLE_NAME)["unpacked"], what="unpacked")


@on_one("1.7")
def test_what_kubelet_unpacks_is_called_unpacked(tmp_path: Path, containerd: Containerd) -> None:
    import_pause(containerd)
    write_sample(tmp_path / "hello.tar")
    with agent_for(tmp_path, containerd, AIRSIDE_UNPACK="never") as agent:
        wait_connected(agent)
        drop(agent, tmp_path / "hello.tar")
        wait_published(agent, SAMPLE_NAME)
        assert not side(agent, SAMPLE_NAME)["unpacked"]
        with Kubelet(containerd) as kubelet:
            kubelet.wait_image(SAMPLE_NAME)
            assert kubelet.run(SAMPLE_NAME, policy="Never") == TEXT
        agent.wait_for(lambda: side(agent, SAMPLE_NAME)["unpacked"], what="unpacked")


@on_one("2.1")
def test_a_pull_that_strips_our_labels_is_logged_once(
    publishing: Agent, containerd: Containerd, tmp_path: Path
) -> None:
    """CRI pulls write the names anew, without the labels of others."""
    write_sample(tmp_path / "hello.tar")
    drop(publishing, tmp_path / "hello.tar")
    wait_published(publishing, SAMPLE_NAME)
    digest = publishing.images()[SAMPLE_NAME]["digest"]
    names = [SAMPLE_NAME, f"{SAMPLE_NAME.rpartition(':')[0]}@{digest}"]

    def labelled() -> bool:
        with Client.open(str(containerd.socket)) as client:
            images = {i.name: i for i in client.images.list()}
            return all(ARCHIVES_LABEL in images[name].labels for name in names)

    for name in names:
        with Client.open(str(containerd.socket)) as client:
            record = client.images.get(name)
            assert record is not None
            bare = ImageRecord(record.name, record.target, {})
            client.images.update(bare, "labels")
        publishing.wait_for(labelled, what="labelled again")
    told = [line for line in publishing.logged("info") if "labels were removed" in line]
    assert len(told) == 1


@on_one("1.7")
def test_an_image_whose_archive_goes_is_unpinned_at_once(
    publishing: Agent, containerd: Containerd, tmp_path: Path
) -> None:
    name = "docker.io/library/app:1"
    docker_archive(tmp_path / "app.tar", {name: random_image(4)})
    archive = drop(publishing, tmp_path / "app.tar")
    wait_published(publishing, name)
    with Client.open(str(containerd.socket)) as client:
        label = "io.cri-containerd.pinned"
        assert client.images.get(name).labels[label] == "pinned"
        archive.unlink()
        publishing.wait_for(
            lambda: not any(label in i.labels for i in client.images.list()), what="unpinned"
        )
        assert client.images.get(name) is not None


@on_one("2.1")
def test_a_wiped_containerd_is_filled_again(
    publishing: Agent, containerd: Containerd, tmp_path: Path
) -> None:
    name = "docker.io/library/app:1"
    docker_archive(tmp_path / "app.tar", {name: random_image(5)})
    drop(publishing, tmp_path / "app.tar")
    wait_published(publishing, name)
    before = lists(containerd)
    containerd.wipe()
    publishing.wait_for(lambda: name in lists(containerd)["images"], what="it is back")
    publishing.wait_for(lambda: lists(containerd)["content"] == before["content"], what="all of it")
    assert "incomplete" not in containerd.did("images", "check", f"name=={name}")


@on_one("1.6")
def test_a_containerd_that_comes_late_is_told(tmp_path: Path, containerd_version: str) -> None:
    made = Containerd(containerd_version, tmp_path / "containerd")
    with agent_for(tmp_path, made) as agent:
        write_sample(tmp_path / "hello.tar")
        agent.wait_imported(drop(agent, tmp_path / "hello.tar"))
        with made:
            wait_published(agent, SAMPLE_NAME)
            assert SAMPLE_NAME in lists(made)["images"]


@on_one("1.7")
def test_an_isolated_containerd_is_sent_its_blobs(tmp_path: Path, containerd_version: str) -> None:
    options = Options(sharing="isolated")
    with (
        Containerd(containerd_version, tmp_path / "containerd", options=options) as made,
        agent_for(tmp_path, made) as agent,
    ):
        write_sample(tmp_path / "hello.tar")
        drop(agent, tmp_path / "hello.tar")
        wait_published(agent, SAMPLE_NAME)
        assert side(agent, SAMPLE_NAME)["adopted"].keys() == {"stream"}
        assert made.run_container(SAMPLE_NAME, "isolated").stdout == TEXT


@on_one("2.1")
def test_collections_while_publishing_lose_nothing(tmp_path: Path, containerd_version: str) -> None:
    options = Options(gc=GC_OFTEN)
    with (
        Containerd(containerd_version, tmp_path / "containerd", options=options) as made,
        agent_for(tmp_path, made) as agent,
    ):
        names = []
        for seed in range(12):
            name = f"docker.io/library/many{seed}:1"
            docker_archive(tmp_path / f"{seed}.tar", {name: random_image(seed)})
            drop(agent, tmp_path / f"{seed}.tar")
            names.append(name)
        wait_published(agent, *names)
        made.collect()
        check = made.did("images", "check")
        assert "incomplete" not in check
        for name in names:
            assert name in check


@on_one("1.6")
def test_a_damaged_file_of_the_right_name_is_replaced(
    publishing: Agent, containerd: Containerd, tmp_path: Path
) -> None:
    name = "docker.io/library/app:1"
    image = random_image(6)
    docker_archive(tmp_path / "app.tar", {name: image})
    blobs = containerd.content_root / "blobs/sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    files = [blobs / layer.digest.hex for layer in image.layers]
    for file, layer in zip(files, image.layers, strict=True):
        file.write_bytes(b"x" * layer.size_bytes)
    drop(publishing, tmp_path / "app.tar")
    wait_published(publishing, name)
    assert not [file for file in files if file.read_bytes().startswith(b"xxx")]
    assert side(publishing, name)["adopted"].keys() == {"link"}


@on_one("1.7")
def test_the_nodes_own_platform_is_published_in_any_order(
    publishing: Agent, containerd: Containerd, tmp_path: Path
) -> None:
    for number, order in enumerate(itertools.permutations(("amd64", "arm64"))):
        name = f"docker.io/library/multi{number}:1"
        for arch in order:
            archive = tmp_path / f"{number}-{arch}.tar"
            docker_archive(archive, {name: random_image(arch, platform=f"linux/{arch}")})
            publishing.wait_imported(drop(publishing, archive))
        publishing.wait_for(
            lambda name=name: (
                publishing.images()[name]["platforms"] == ["linux/amd64", "linux/arm64"]
            )
        )
        digest = publishing.images()[name]["digest"]
        wait_published(publishing, name, digest=digest)
        with Client.open(str(containerd.socket)) as client:
            assert str(client.images.get(name).target.digest) == digest
        assert "complete" in containerd.did("images", "check", f"name=={name}")


@on_one("2.1")
def test_a_restart_changes_nothing(
    publishing: Agent, containerd: Containerd, tmp_path: Path
) -> None:
    write_sample(tmp_path / "hello.tar")
    drop(publishing, tmp_path / "hello.tar")
    wait_published(publishing, SAMPLE_NAME)
    before = lists(containerd)
    for _ in range(3):
        publishing.restart()
        wait_connected(publishing)
        wait_published(publishing, SAMPLE_NAME)
        assert lists(containerd) == before
    events = publishing.events("published")
    assert len(events) == 1, json.dumps(events)


def _points() -> list[str]:
    """Where a publish of one image passes; blobs are sent only where they can't be linked."""
    return [p for p in PUBLISHING if p not in {"publish.after_send", "publish.after_withdraw"}]


def _published_at(home: Path, fault: str | None = None) -> dict[str, Any]:
    """What there is after a publish, where one with a fault was interrupted by our death before."""
    name = "docker.io/library/app:1"
    home.mkdir()
    with Containerd(None, home / "containerd") as made:
        agent = agent_for(home, made)
        docker_archive(agent.watched / "app.tar", {name: random_image(1)})
        if fault is not None:
            agent.fault = f"{fault}=kill"
            agent.launch()
            assert agent.wait_exit() == -9
            agent.fault = None
        with agent:
            wait_published(agent, name)
            made.collect()
            state = lists(made)
            files = {p.name for p in (made.content_root / "blobs/sha256").iterdir()}
            assert files == {d.partition(":")[2] for d in state["content"]}
    return {**state, "images": state["images"].keys()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return _published_at(tmp_path_factory.mktemp("undisturbed") / "home")


@pytest.mark.parametrize("point", _points())
@pytest.mark.needs("containerd", "ctr")
def test_a_kill_at_any_step_leaves_what_an_undisturbed_publish_makes(
    point: str, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    found = _published_at(tmp_path / "home", point)
    assert found == undisturbed
    assert found["leases"] == []


@pytest.mark.needs("containerd", "ctr")
def test_a_containerd_that_is_killed_while_publishing_is_filled(tmp_path: Path) -> None:
    with Containerd(None, tmp_path / "containerd") as made, agent_for(tmp_path, made) as agent:
        wait_connected(agent)
        names = [f"docker.io/library/many{seed}:1" for seed in range(8)]
        for seed, name in enumerate(names):
            docker_archive(tmp_path / f"{seed}.tar", {name: random_image(seed, layers=4)})
            drop(agent, tmp_path / f"{seed}.tar")
            if seed in {2, 5}:
                made.kill()
                made.start()
        wait_published(agent, *names)
        agent.wait_for(lambda: set(names) <= set(lists(made)["images"]))
        made.collect()
        assert "incomplete" not in made.did("images", "check")
        assert lists(made)["leases"] == []
