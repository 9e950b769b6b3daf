"""`airside explain` with a running agent: where an image came from, and why it is not here."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from support.agent import Agent
from support.command import airside
from support.images import (
    TestImage,
    docker_archive,
    oci_archive,
    oci_layout,
    random_image,
    random_index,
)
from support.skopeo import run

pytestmark = pytest.mark.system

NAME = "registry.example/team/app:1"


def ask(agent: Agent, what: object, *, code: int = 0) -> dict[str, Any]:
    found = _airside(agent, what, "--json", code=code)
    value: dict[str, Any] = json.loads(found)
    assert value["schema"] == 1
    return value


def text(agent: Agent, what: object, *, code: int = 0) -> str:
    return _airside(agent, what, code=code)


def _airside(agent: Agent, *words: object, code: int) -> str:
    done = airside("explain", "--data", agent.data, *words)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout


def _image(seed: str, platform: str = "linux/amd64") -> TestImage:
    return random_image(seed, layers=1, layer_bytes=2000, platform=platform)


def _drop(agent: Agent, images: Path, name: str, what: dict[Any, Any], **how: Any) -> Path:
    path = images / name
    seen = agent.now()
    oci_archive(images.parent / name, what, **how)
    (images.parent / name).replace(path)
    agent.wait_imported(path, after=seen)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    made = tmp_path / "images"
    made.mkdir()
    return made


def test_an_image_tells_its_archives_platforms_versions_and_commands(
    images: Path, tmp_path: Path
) -> None:
    node = {"AIRSIDE_PLATFORM": "linux/arm64"}
    with Agent(images, tmp_path / "data", environ=node) as agent:
        _drop(agent, images, "sole.tar", {"r.example/sole:1": _image("sole")})
        assert "linux/arm64 uses linux/amd64" in text(agent, "r.example/sole:1")
        assert "its config says linux/amd64" in ask(agent, "r.example/sole:1")["node"]["note"]
        (images / "sole.tar").unlink()
    strict = {**node, "AIRSIDE_OTHER_PLATFORMS": "none"}
    with Agent(images, tmp_path / "data", environ=strict) as agent:
        first = _drop(agent, images, "amd64.tar", {(NAME, "other.example/app:x"): _image("a")})
        assert ask(agent, NAME)["node"]["digest"] is None
        assert "not for linux/arm64 (has: linux/amd64)" in text(agent, NAME)
        arm = _image("b", "linux/arm64")
        second = _drop(agent, images, "arm64.tar", {NAME: arm})
        found = ask(agent, NAME)
        assert (found["kind"], found["form"]) == ("image", "index merged here")
        assert {i["platform"]: i["archive"] for i in found["platforms"]} == {
            "linux/amd64": str(first),
            "linux/arm64": str(second),
        }
        assert found["node"]["digest"] == str(arm.manifest.digest)
        assert {a["path"]: a["role"] for a in found["archives"]} == {
            str(first): "followed",
            str(second): "followed",
        }
        assert [v["current"] for v in found["history"]] == [True, False]
        assert found["served"][0] == f"{agent.registry}/{NAME}"
        shown = text(agent, NAME)
        assert str(first) in shown
        assert "an index merged here of 2 platforms" in shown
        other = ask(agent, "other.example/app:x")
        assert other["form"] == "manifest"
        assert other["same_digest"] == []


@pytest.mark.needs("skopeo", "curl")
def test_the_commands_that_it_gives_work(images: Path, tmp_path: Path) -> None:
    with Agent(images, tmp_path / "data") as agent:
        index = random_index("x", layers=1, layer_bytes=2000)
        _drop(agent, images, "x.tar", {NAME: index, "busybox:1": _image("busybox")})
        for name in (NAME, "busybox:1"):
            commands = {p["client"]: p["command"] for p in ask(agent, name)["pull"]}
            copy = commands["skopeo"].replace("oci:DIR", f"oci:{tmp_path / 'pulled'}")
            run("skopeo", "--insecure-policy", *shlex.split(copy)[1:])
            assert json.loads(run(*shlex.split(commands["curl"])))["schemaVersion"] == 2


def test_any_way_to_write_a_name_is_understood(images: Path, tmp_path: Path) -> None:
    with Agent(images, tmp_path / "data") as agent:
        image = _image("busybox")
        _drop(
            agent,
            images,
            "b.tar",
            {"docker.io/library/busybox:1": image, "r.example:5000/app:1": _image("app")},
        )
        name = "docker.io/library/busybox:1"
        ways = ("busybox:1", name, f"{agent.registry}/library/busybox:1", "localhost/busybox:1")
        assert {ask(agent, way)["reference"] for way in ways} == {name}
        url = f"{agent.registry}/r.example_5000/app:1"
        port = agent.registry.rpartition(":")[2]
        for way in (
            url,
            f"docker://{url}",
            f"docker://localhost:{port}/r.example_5000/app:1",
            f"http://{agent.registry}/v2/r.example_5000/app/manifests/1",
            f"http://{agent.registry}/v2/app/manifests/1?ns=r.example:5000",
        ):
            assert ask(agent, way)["reference"] == "r.example:5000/app:1", way
        by_digest = ask(agent, f"busybox@{image.manifest.digest}")
        assert by_digest["digest"] == str(image.manifest.digest)
        listed = ask(agent, "busybox")
        assert (listed["kind"], [t["tag"] for t in listed["tags"]]) == ("repository", ["1"])
        assert ask(agent, image.manifest.digest.hex[:12])["reference"] == name
        layer = ask(agent, image.layers[0].digest)
        assert (layer["kind"], layer["images"]) == ("blob", [name])
        assert "needed by" in text(agent, image.layers[0].digest)
        assert ask(agent, "sha256:" + "0" * 64, code=1)["kind"] == "absent"


def test_what_is_not_here_tells_the_nearest_and_the_archives_in_trouble(
    images: Path, tmp_path: Path
) -> None:
    with Agent(images, tmp_path / "data") as agent:
        _drop(agent, images, "good.tar", {"registry.example/team/app:2": _image("good")})
        bad = _image("bad")
        oci_archive(tmp_path / "bad.tar", {NAME: bad}, drop_blobs=[bad.layers[0].digest])
        (tmp_path / "bad.tar").replace(images / "bad.tar")
        agent.wait_state(images / "bad.tar", "rejected")
        found = ask(agent, NAME, code=1)
        assert found["kind"] == "absent"
        assert found["nearest"] == ["registry.example/team/app:2"]
        [trouble] = found["troubles"]
        assert trouble["archive"] == str(images / "bad.tar")
        assert bad.layers[0].digest.hex in trouble["reason"]
        assert any(f" copy docker://{NAME} docker-archive:" in line for line in found["advice"])
        shown = text(agent, NAME, code=1)
        assert f"{NAME} is absent" in shown
        assert "similar names" in shown
        agent.wait_for(lambda: agent.archives()[images / "bad.tar"]["state"] == "rejected")


def test_only_archives_that_may_have_it_are_blamed_for_a_name(images: Path, tmp_path: Path) -> None:
    with Agent(images, tmp_path / "data") as agent:
        bad = _image("bad")
        both = {NAME: bad, "registry.example/team/ok:1": _image("ok")}
        oci_archive(tmp_path / "bad.tar", both, drop_blobs=[bad.layers[0].digest])
        (tmp_path / "bad.tar").replace(images / "bad.tar")
        oci_archive(tmp_path / "cut.tar", {"registry.example/team/worker:3": _image("w")})
        whole = (tmp_path / "cut.tar").read_bytes()
        (images / "worker-3.tar").write_bytes(whole[: len(whole) // 2])
        agent.wait_state(images / "bad.tar", "partial")
        agent.wait_state(images / "worker-3.tar", "incomplete")

        def blamed(name: str) -> list[str]:
            return [Path(t["archive"]).name for t in ask(agent, name, code=1)["troubles"]]

        assert blamed(NAME) == ["bad.tar", "worker-3.tar"]
        assert blamed("registry.example/team/other:1") == ["worker-3.tar"]
        first = ask(agent, NAME, code=1)["advice"][0]
        assert first.startswith(f"check {images / 'bad.tar'}, which was imported in part")
        first = ask(agent, "registry.example/team/worker:3", code=1)["advice"][0]
        assert first.startswith(f"check {images / 'worker-3.tar'}, which ends early")
        assert not any(a.startswith("check ") for a in ask(agent, "redis:7", code=1)["advice"])
        assert "copy it again" in text(agent, images / "worker-3.tar")


def test_a_slip_tells_how_much_of_the_name_is_here(images: Path, tmp_path: Path) -> None:
    with Agent(images, tmp_path / "data") as agent:
        _drop(agent, images, "app-1.tar", {NAME: _image("a")})
        repository = NAME.removesuffix(":1")
        for wrong, hint in {
            f"{repository}:2": f"the repository {repository} has no tag 2",
            f"{repository}@sha256:{'0' * 64}": (
                f"the repository {repository} has no document of this digest"
            ),
            "regsitry.example/team/app:1": (
                f"there is no repository regsitry.example/team/app, but there is {repository}"
            ),
            "app:1": f"there is no repository docker.io/library/app, but there is {repository}",
            "registry.example/team/apq:1": "",
        }.items():
            found = ask(agent, wrong, code=1)
            assert (found["hint"], found["nearest"]) == (hint, [NAME]), wrong
            assert hint in text(agent, wrong, code=1)
        slip = ask(agent, "ap-1.tar", code=1)
        assert slip["nearest"] == [str(images / "app-1.tar")]
        assert "reference" not in slip
        assert "no stored digest begins with abcdef12" in text(agent, "abcdef12", code=1)


def test_what_is_no_archive_of_its_own_tells_what_it_is(images: Path, tmp_path: Path) -> None:
    (images / "plain/.hidden").mkdir(parents=True)
    (images / "plain/.hidden/a.tar").write_bytes(b"x")
    oci_layout(images / "layout", {NAME: _image("a")})
    (images / "link.tar").symlink_to(tmp_path / "nowhere.tar")
    (tmp_path / "other.tar").write_bytes(b"x")
    with Agent(images, tmp_path / "data") as agent:
        for path, words in {
            images: "it is a watched directory",
            images / "plain": "it is a directory but not an image layout",
            images / "plain/.hidden/a.tar": "which is skipped because of its name",
            images / "layout/index.json": f"it is part of the archive {images / 'layout'}",
            images / "link.tar": f"it is a link to {tmp_path / 'nowhere.tar'}, which is absent",
            tmp_path / "other.tar": f"`airside import {tmp_path / 'other.tar'}`",
            images / "none.tar": "the file does not exist",
        }.items():
            assert words in text(agent, path, code=1), path


def test_a_tag_that_went_is_remembered(images: Path, tmp_path: Path) -> None:
    with Agent(images, tmp_path / "data", tables={"on_removal": "delete"}) as agent:
        path = _drop(agent, images, "a.tar", {NAME: _image("a")})
        path.unlink()
        agent.wait_for(lambda: not agent.images())
        assert ask(agent, NAME, code=1)["last_seen"]["event"] == "tag-removed"


def test_an_archive_tells_what_became_of_its_images(images: Path, tmp_path: Path) -> None:
    with Agent(images, tmp_path / "data") as agent:
        old = _drop(agent, images, "old.tar", {NAME: _image("old"), "x.example/y:1": _image("y")})
        new = _drop(agent, images, "new.tar", {NAME: _image("new")})
        found = ask(agent, old)
        assert (found["kind"], found["state"]) == ("archive", "imported")
        assert {i["reference"]: i["role"] for i in found["images"]} == {
            NAME: f"superseded by {new}",
            "x.example/y:1": "followed",
        }
        assert ask(agent, "old.tar")["path"] == str(old)
        claims = ask(agent, NAME)["archives"]
        assert [(c["path"], c["role"]) for c in claims] == [
            (str(new), "followed"),
            (str(old), "superseded"),
        ]
        assert f"superseded by {new}" in text(agent, old)


def test_a_file_that_the_agent_does_not_know_tells_why(images: Path, tmp_path: Path) -> None:
    with Agent(images, tmp_path / "data") as agent:
        docker_archive(images / "copy.tar.part", {"app:1": random_image(1, media="docker")})
        assert "rename it" in text(agent, images / "copy.tar.part", code=1)
        (tmp_path / "elsewhere.tar").write_bytes(b"x")
        assert "not in a watched directory" in text(agent, tmp_path / "elsewhere.tar", code=1)
        assert "the file does not exist" in text(agent, images / "absent.tar", code=1)


def test_without_an_agent_the_catalog_answers(images: Path, tmp_path: Path) -> None:
    agent = Agent(images, tmp_path / "data")
    with agent:
        _drop(agent, images, "a.tar", {NAME: _image("a")})
    found = ask(agent, NAME)
    assert found["kind"] == "image"
    assert found["pull"] == []
    assert ask(agent, "registry.example/none:1", code=1)["kind"] == "absent"
    assert text(agent, "Not A Name", code=2) == ""
