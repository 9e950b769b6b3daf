"""The order of an archive's members, and members that nothing names, change nothing."""

import io
import random
import tarfile
from pathlib import Path

import pytest

from airside.core.settings import Limits
from fuzz.planners import archives
from support.images import compress
from support.members import Members
from support.nodes import import_now, node_at, visible

ORDERS = 4


def write(path: Path, members: Members, seed: int, compression: str) -> None:
    rng = random.Random(seed)
    files = [*members.files.items(), ("extra/readme", b"nothing"), ("blobs/sha256/x", b"y")]
    rng.shuffle(files)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, raw in files:
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
        for name, target in members.links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.LNKTYPE, target
            tar.addfile(info)
    path.write_bytes(compress(out.getvalue(), compression))


@pytest.mark.parametrize("number", range(len(list(archives()))))
def test_any_order_gives_the_same_images(number: int, tmp_path: Path) -> None:
    members = list(archives())[number]
    found = []
    for seed in range(ORDERS):
        path = tmp_path / "archive.tar"
        write(path, members, seed, ("none", "zstd")[seed % 2])
        with node_at(tmp_path / str(seed), limits=Limits()) as node:
            outcome = import_now(node, path)
            said = {(problem.image, problem.blob) for problem in outcome.problems}
            found.append((outcome.state, visible(node), set(node.store.digests()), said))
    assert found[0][1]
    assert all(each == found[0] for each in found)
