"""Another user attacks a watched directory: nothing outside is read, told or served."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import intruder
from support.agent import Agent
from support.images import docker_archive, oci_layout, random_image
from support.size import sized

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user"),
]

MARK = "8f3a-not-for-others"
"""In private contents and names; no attack names it."""
SIZES = (31_337, 47_123)
"""Of private files, and of nothing else."""


def _private(top: Path) -> tuple[Path, set[str]]:
    """Fills a directory that only root may enter. Returns it and the digests in it."""
    private = top / "private"
    private.mkdir(mode=0o700)
    (private / "shadow").write_text(f"{MARK}:x\n".ljust(SIZES[0], "x"))
    (private / "list.txt").write_text(f"{MARK}.example/app:1\n".ljust(SIZES[1], "\n"))
    (private / f"{MARK}.tar").write_bytes(b"x")
    (top / "rootonly").write_text(MARK)
    (top / "rootonly").chmod(0o600)
    image = random_image(MARK, layers=2, layer_bytes=3000, media="docker")
    docker_archive(private / "archive.tar", {f"{MARK}.example/archive:1": image})
    oci_layout(private / "layout", {f"{MARK}.example/layout:1": random_image("private")})
    for path in private.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    files = [path for path in private.rglob("*") if path.is_file()]
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    blobs = {path.name for path in (private / "layout/blobs/sha256").iterdir()}
    own = {blob.digest.hex for blob in (*image.layers, image.manifest, image.config)}
    return private, digests | blobs | own


def _images(top: Path, private: Path) -> Path:
    images = top / "images"
    work = images / intruder.WORK
    work.mkdir(parents=True)
    image = random_image("good", layers=2, layer_bytes=200_000, media="docker")
    docker_archive(work / "good.tar", {"good.example/app:1": image})
    (work / "good.txt").write_text("good.example/listed:1\n")
    oci_layout(work / "good", {"good.example/layout:1": random_image("layout", layers=4)})
    for path in (images, *images.rglob("*")):
        os.chown(path, intruder.INTRUDER, intruder.INTRUDER)
    (images / "roots-link").symlink_to(private)
    for name, kind in (("device.tar", 0o020000), ("block.txt", 0o060000)):
        os.mknod(images / name, 0o666 | kind, os.makedev(1, 5))
    return images


def _told(agent: Agent, images: Path) -> str:
    """Everything that the agent tells: by its control socket, its registry and its log."""
    answers = [agent.ask(f"/v1/{what}") for what in ("status", "images", "archives")]
    answers += [agent.events(), agent.get("/v2/_catalog")[1].decode()]
    names = [p for p in sorted(images.iterdir()) if not p.name.startswith(".")]
    names += [images / "a-sub/archive.tar", images / "a-sub" / f"none-{1}.tar"]
    answers += [agent.ask(f"/v1/explain?what={path}") for path in names]
    answers += [agent.import_file(path) for path in names[:4]]
    return json.dumps(answers) + agent.log


def _check(agent: Agent, images: Path, digests: set[str]) -> None:
    told = _told(agent, images)
    assert MARK not in told, re.findall(f".{{200}}{MARK}.{{100}}", told)[:3]
    assert {d for d in digests if d in told} == set()
    sizes = {archive["size_bytes"] for archive in agent.archives().values()}
    assert sizes.isdisjoint(SIZES)
    held = {path.name for path in agent.data.rglob("*") if path.is_file()}
    assert digests.isdisjoint(held)
    for digest in sorted(digests):
        assert agent.get(f"/v2/good.example/app/blobs/sha256:{digest}")[0] == 404
    assert "internal error" not in agent.log
    assert "Traceback" not in agent.log


def test_another_user_gets_nothing_of_what_lies_outside(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNRELATED_SECRET", MARK)  # in /proc/PID/environ of the agent
    private, digests = _private(top)
    images = _images(top, private)
    with Agent(images, tmp_path / "data") as agent:
        seconds, seed = sized(4, 300), str(sized(1, os.getpid()))
        command = [sys.executable, intruder.__file__, images, private, str(seconds), seed]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as attack:
            while attack.poll() is None:
                _check(agent, images, digests)
            assert attack.stdout is not None
            assert int(attack.stdout.read()) > seconds, f"seed {seed}"
        assert attack.returncode == 0
        shutil.copyfile(images / intruder.WORK / "good.tar", images / "last.tar")
        agent.wait_imported(images / "last.tar")
        agent.wait_idle()
        _check(agent, images, digests)
