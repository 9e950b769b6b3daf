"""What is said of the members of layers is what containerd does with them."""

from pathlib import Path

import pytest

from support.agent import Agent
from support.containerd import Containerd
from support.images import image_of, layer_of, oci_archive
from support.layer_members import REFUSED, TAKEN, tar_of

pytestmark = [pytest.mark.system, pytest.mark.needs("runc", "unshare", "mount")]

TARS = {kind: tar_of(member) for kind, (member, _) in REFUSED.items()}
TARS |= {kind: tar_of(member) for kind, member in TAKEN.items()}


def test_what_containerd_refuses_is_told_by_layer_and_member(
    containerd: Containerd, tmp_path: Path
) -> None:
    watched = tmp_path / "images"
    watched.mkdir()
    kinds = {
        f"registry.example/{kind}-{compression}:1": kind
        for kind in TARS
        for compression in ("none", "gzip")
    }
    images = {
        name: image_of([layer_of(TARS[kind], compression=name[:-2].rpartition("-")[2])], label=name)
        for name, kind in kinds.items()
    }
    oci_archive(watched / "all.tar", images)
    flags = ["--runtime", str(containerd.socket)]
    environ = {"AIRSIDE_PLATFORM": "linux/amd64", "AIRSIDE_RECONCILE_SECONDS": "3600"}
    with Agent(watched, tmp_path / "data", environ=environ, flags=flags) as agent:

        def judged() -> dict[str, tuple[str, str]]:
            each = {name: image["runtimes"] for name, image in agent.images().items()}
            return {
                name: (runtime["state"], runtime["reason"])
                for name, runtimes in each.items()
                for runtime in runtimes
                if runtime["state"] in {"published", "failed"}
            }

        agent.wait_for(lambda: judged().keys() == kinds.keys(), what="each is judged")
        found = judged()
    assert {name for name, (state, _) in found.items() if state == "failed"} == {
        name for name, kind in kinds.items() if kind in REFUSED
    }
    for name, kind in kinds.items():
        if kind in REFUSED:
            reason = found[name][1]
            assert "layer 1 (sha256:" in reason, reason
            assert repr(REFUSED[kind][1])[:100] in reason
