"""`airside import` without an agent: into the store, and into the container runtimes."""

import json
from pathlib import Path
from typing import Any

import pytest

from airside.archive.sample import SAMPLE_NAME, write_sample
from airside.containerd.client import Client
from support.agent import Agent
from support.command import airside
from support.containerd import Containerd
from support.images import docker_archive, random_image

pytestmark = [pytest.mark.system, pytest.mark.needs("unshare")]


def import_alone(data: Path, *words: object, code: int = 0) -> str:
    done = airside("import", "--data", data, *words, AIRSIDE_MIN_FREE_BYTES="0")
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stdout


def names_in(containerd: Containerd) -> set[str]:
    with Client.open(str(containerd.socket)) as client:
        return {i.name for i in client.images.list() if not i.name.startswith("sha256:")}


def runtime_of(text: str) -> dict[str, Any]:
    [item] = json.loads(text)["items"]
    [runtime] = item["runtimes"]
    return dict(runtime)


def test_an_import_without_an_agent_publishes(newest_containerd: str, tmp_path: Path) -> None:
    data, hello = tmp_path / "data", tmp_path / "hello.tar.zst"
    write_sample(hello)
    with Containerd(newest_containerd, tmp_path / "c") as made:
        socket = str(made.socket)
        text = import_alone(data, "--runtime", socket, hello)
        assert f"in {socket}: 1 image, unpacked" in text
        check = made.did("images", "check", f"name=={SAMPLE_NAME}")
        assert "incomplete" not in check
        assert check.split()[-1] == "true"

        foreign = tmp_path / "foreign.tar"
        docker_archive(foreign, {"docker.io/library/foreign:1": random_image(1)})
        here = runtime_of(import_alone(tmp_path / "other", "--runtime", socket, "--json", foreign))
        assert (here["socket"], here["connected"], here["reason"]) == (socket, True, "")
        [image] = here["images"]
        assert image["reference"] == "docker.io/library/foreign:1"
        assert (image["present"], image["unpacked"], image["pinned"]) == (True, True, True)
        assert SAMPLE_NAME in names_in(made)  # of another data directory: not theirs to judge
        before = names_in(made)

        listed = tmp_path / "needed.txt"
        listed.write_text(f"{SAMPLE_NAME}\n")
        assert "imported: " in import_alone(data, "--runtime", socket, listed)

        (tmp_path / "images").mkdir()
        with Agent(tmp_path / "images", data, flags=["--runtime", socket]) as agent:
            agent.wait_for(lambda: [r for r in agent.status()["runtimes"] if r["connected"]])
            result = agent.import_file(hello)["result"]
            assert [r["connected"] for r in result["runtimes"]] == [True]
            assert agent.events("published")[-1]["reference"] == SAMPLE_NAME
            assert len(agent.events("published")) == 1
            assert names_in(made) >= {n for n in before if "hello" in n}


def test_a_replaced_image_keeps_its_digest_for_as_long_as_its_version_is_kept(
    newest_containerd: str, tmp_path: Path
) -> None:
    name, data, app = "docker.io/library/app:1", tmp_path / "data", tmp_path / "app.tar"
    with Containerd(newest_containerd, tmp_path / "c") as made:
        seen: list[set[str]] = []
        for seed in (1, 2, 3):
            docker_archive(app, {name: random_image(seed)})
            import_alone(data, "--runtime", made.socket, app)
            seen.append(names_in(made))
        assert [len(names) for names in seen] == [2, 3, 4]
        assert airside("gc", "--data", data).returncode == 0
        import_alone(data, "--runtime", made.socket, app)
        [gone] = seen[-1] - names_in(made)
        assert gone in seen[0] - {name}  # the first version: `retention` is 1


def test_without_a_runtime_it_says_so(tmp_path: Path) -> None:
    hello, absent = tmp_path / "hello.tar", tmp_path / "absent.sock"
    write_sample(hello)
    text = import_alone(tmp_path / "data", "--runtime", "none", hello)
    assert "no container runtime found or set" in text
    text = import_alone(tmp_path / "data", "--runtime", absent, hello, code=1)
    assert text.startswith("imported: ")
    assert f"not in {absent}: " in text
    here = runtime_of(import_alone(tmp_path / "data", "--runtime", absent, "--json", hello, code=1))
    assert (here["connected"], here["images"]) == (False, [])
    assert here["reason"]
