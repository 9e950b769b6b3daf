"""What pods see of what the agent publishes, on each version of containerd."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from airside.archive.sample import MESSAGE, SAMPLE_NAME, write_sample
from support.agent import Agent
from support.containerd import Containerd
from support.images import docker_archive, random_image
from support.kubelet import Kubelet, import_pause
from support.pause import write_pause

pytestmark = [pytest.mark.system, pytest.mark.needs("runc", "unshare", "mount")]

TEXT = MESSAGE.decode()
NAME = "docker.io/library/app:1"


def agent_of(directory: Path, containerd: Containerd, **more: object) -> Agent:
    images = directory / "images"
    images.mkdir(exist_ok=True)
    flags = ["--runtime", str(containerd.socket)]
    return Agent(images, directory / "data", flags=flags, **more)  # type: ignore[arg-type]


def drop(agent: Agent, archive: Path, name: str) -> str:
    """Rename it into the watched directory; gives the digest, once that is published."""
    before = agent.now()
    archive.rename(agent.watched / archive.name)
    agent.wait_imported(agent.watched / archive.name, after=before)
    digest = str(agent.images()[name]["digest"])

    def published() -> bool:
        [told] = agent.images()[name]["runtimes"] or [{"state": "", "digest": ""}]
        return (told["state"], told["digest"]) == ("published", digest)

    agent.wait_for(published, what=f"{name} is published")
    return digest


@pytest.fixture
def agent(tmp_path: Path, containerd: Containerd) -> Iterator[Agent]:
    import_pause(containerd)
    with agent_of(tmp_path, containerd) as made:
        yield made


def target_of(containerd: Containerd, name: str) -> str:
    rows = (row.split() for row in containerd.did("images", "ls").splitlines()[1:])
    return next(row[2] for row in rows if row[0] == name)


def mirror(containerd: Containerd, address: str) -> None:
    """Our `hosts.toml`, and nobody else to ask."""
    file = containerd.hosts / "docker.io/hosts.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(
        f'server = "http://{address}"\n[host."http://{address}"]\n'
        '  capabilities = ["pull", "resolve"]\n'
    )


def test_a_pod_is_not_disturbed_by_an_update_of_its_image(
    agent: Agent, containerd: Containerd, tmp_path: Path
) -> None:
    """What it was made from stays until it ends, and goes then if no version of it is kept."""
    write_pause(tmp_path / "app.tar", NAME, label="first")
    first = drop(agent, tmp_path / "app.tar", NAME)
    with Kubelet(containerd) as kubelet:
        kubelet.wait_image(NAME)
        pod = kubelet.start(NAME, policy="Never")
        for seed in (2, 3):
            docker_archive(tmp_path / "app.tar", {NAME: random_image(seed)})
            second = drop(agent, tmp_path / "app.tar", NAME)
        assert first != second
        agent.ask("/v1/gc", method="POST", body={})
        agent.wait_idle()
        containerd.collect()
        root = Path(f"/proc/{kubelet.pid(pod)}/root")
        assert kubelet.is_running(pod)
        assert (root / "pause").read_bytes().startswith(b"\x7fELF")
        assert kubelet.wait_image(NAME).id != pod.image_id
        assert pod.image_id in {image.id for image in kubelet.cri.images()}
        kubelet.remove(pod)
        agent.wait_for(lambda: pod.image_id not in {i.id for i in kubelet.cri.images()})
        assert NAME in {tag for image in kubelet.cri.images() for tag in image.tags}
    containerd.collect()
    assert first not in containerd.did("content", "ls", "-q").split()
    assert target_of(containerd, NAME) == second


def test_a_pull_with_always_does_not_move_the_tag(
    agent: Agent, containerd: Containerd, tmp_path: Path
) -> None:
    """Neither in the containerd that we publish to, nor in an empty one with our mirror only."""
    for arch in ("amd64", "arm64"):
        archive = tmp_path / f"{arch}.tar"
        docker_archive(archive, {NAME: random_image(arch, platform=f"linux/{arch}")})
        digest = drop(agent, archive, NAME)
    assert agent.images()[NAME]["platforms"] == ["linux/amd64", "linux/arm64"]
    options = dataclasses.replace(containerd.options)
    with Containerd(containerd.version, tmp_path / "second", options=options) as second:
        for each in (containerd, second):
            mirror(each, agent.registry)
            with Kubelet(each) as kubelet:
                for _ in range(2):
                    kubelet.image_id(NAME, "Always")
                    assert target_of(each, NAME) == digest
                assert kubelet.wait_image(NAME).tags == (NAME,)
            assert "incomplete" not in each.did("images", "check", f"name=={NAME}")
    [told] = agent.images()[NAME]["runtimes"]
    assert (told["state"], told["reason"]) == ("published", "")


def test_blobs_are_copied_where_a_mount_is_between(containerd_version: str, tmp_path: Path) -> None:
    """A link gives EXDEV although the device is the same: no number says so before."""
    with Containerd(containerd_version, tmp_path / "c") as made:
        content, data = made.content_root, tmp_path / "data"
        content.mkdir(mode=0o700, exist_ok=True)
        bind = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" "$0" && exec "$@"', content]
        with agent_of(tmp_path, made, before=[str(word) for word in bind]) as agent:
            write_sample(tmp_path / "hello.tar")
            drop(agent, tmp_path / "hello.tar", SAMPLE_NAME)
            [told] = agent.images()[SAMPLE_NAME]["runtimes"]
            assert told["adopted"].keys() == {"copy"}
            assert told["unpacked"]
        blobs = content / "blobs/sha256"
        assert blobs.stat().st_dev == data.stat().st_dev
        for file in blobs.iterdir():
            held = data / "oci/blobs/sha256" / file.name
            if held.exists():
                assert file.read_bytes() == held.read_bytes()
                assert not file.samefile(held)
        assert not list(content.glob(".airside*"))
        assert made.run_container(SAMPLE_NAME, "copied").stdout == TEXT


def test_an_image_that_is_not_unpacked_runs_without_any_network(
    containerd_version: str, tmp_path: Path
) -> None:
    """By ctr and by kubelet with the policy Never, in a containerd that has no network at all."""
    with Containerd(containerd_version, tmp_path / "c", network=False) as made:
        import_pause(made)
        interfaces = Path(f"/proc/{made.pid}/net/dev").read_text().splitlines()[2:]
        assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
        with agent_of(tmp_path, made, environ={"AIRSIDE_UNPACK": "never"}) as agent:
            write_sample(tmp_path / "hello.tar.zst")
            drop(agent, tmp_path / "hello.tar.zst", SAMPLE_NAME)
            [told] = agent.images()[SAMPLE_NAME]["runtimes"]
            assert not told["unpacked"]
            check = made.did("images", "check", f"name=={SAMPLE_NAME}")
            assert check.split()[-1] == "false"
            with Kubelet(made) as kubelet:
                kubelet.wait_image(SAMPLE_NAME)
                assert kubelet.run(SAMPLE_NAME, policy="Never") == TEXT
            assert made.run_container(SAMPLE_NAME, "apart").stdout == TEXT
