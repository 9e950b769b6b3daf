"""Layers are written by us only where containerd's snapshots are the directories seen here."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airside.containerd.directory_writer import DirectoryWriter
from airside.containerd.layer_writer.target import LayerLimits
from airside.containerd.layer_writer.worker_pool import WorkerPool
from airside.containerd.snapshot_writer import SnapshotWriter
from airside.containerd.writer_proof import WriterProof
from airside.core.errors import ContainerdError
from support.layer_tars import bound

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root writes layers")


class Calls:
    """Takes every call of a service, and notes its name."""

    def __init__(self, name: str, noted: list[str], **answers: Any) -> None:
        self._name, self._noted, self._answers = name, noted, answers

    def __getattr__(self, call: str) -> Callable[..., Any]:
        def answer(*_args: object, **_fields: object) -> Any:
            self._noted.append(f"{self._name}.{call}")
            found = self._answers.get(call)
            return found() if callable(found) else found

        return answer


@pytest.fixture
def writer() -> Iterator[SnapshotWriter]:
    made = SnapshotWriter(DirectoryWriter(WorkerPool(), LayerLimits(), most_big=1))
    yield made
    made.close()


def _proof(
    snapshot: Path, apply: Callable[[str], object], writer: SnapshotWriter, noted: list[str]
) -> WriterProof:
    """A proof with a containerd that applies the link by `apply`, given the file's name."""

    def applied() -> None:
        [name] = [path.name for path in snapshot.iterdir() if "." not in path.name]
        apply(name)

    client: Any = SimpleNamespace(
        leases=Calls("leases", noted),
        snapshots=Calls("snapshots", noted, prepare=lambda: bound(snapshot)),
        content=Calls("content", noted),
        diff=Calls("diff", noted, apply=applied),
    )
    return WriterProof(client, "native", writer, "airside")


def _is_away(_name: str) -> None:
    raise ContainerdError("gone", status="UNAVAILABLE")


def _refuses(_name: str) -> None:
    raise ContainerdError("no room")


def test_a_directory_in_which_containerd_links_our_file_is_proved(
    tmp_path: Path, writer: SnapshotWriter
) -> None:
    noted: list[str] = []
    link = lambda name: os.link(tmp_path / name, tmp_path / f"{name}.link")  # noqa: E731
    assert _proof(tmp_path, link, writer, noted).run() == ""
    assert noted[-3:] == ["content.delete", "snapshots.remove", "leases.delete"]


@pytest.mark.parametrize("kind", ["nothing", "another file"])
def test_a_directory_that_containerd_does_not_see_is_not_proved(
    kind: str, tmp_path: Path, writer: SnapshotWriter
) -> None:
    def other(name: str) -> None:
        if kind == "another file":
            (tmp_path / f"{name}.link").write_bytes(b"")

    noted: list[str] = []
    why = _proof(tmp_path, other, writer, noted).run()
    assert "its mount namespace shows other directories" in why
    assert noted[-2:] == ["snapshots.remove", "leases.delete"]


def test_a_containerd_that_refuses_leaves_the_layers_to_itself(
    tmp_path: Path, writer: SnapshotWriter
) -> None:
    noted: list[str] = []
    assert "no room" in _proof(tmp_path, _refuses, writer, noted).run()
    assert noted[-2:] == ["snapshots.remove", "leases.delete"]


def test_a_containerd_that_is_away_is_no_proof_of_anything(
    tmp_path: Path, writer: SnapshotWriter
) -> None:
    noted: list[str] = []
    with pytest.raises(ContainerdError):
        _proof(tmp_path, _is_away, writer, noted).run()
    assert noted[-2:] == ["snapshots.remove", "leases.delete"]
