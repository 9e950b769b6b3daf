"""A catalog does not withdraw what it did not publish."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airside.agent.node import Node
from airside.archive.directory import stat_key
from airside.catalog.identity import identity_of
from airside.containerd.publisher import Publisher
from airside.containerd.release import Release
from airside.importer.importer import Job
from airside.ports.content import OtherAgent
from airside.ports.publication import AGENT_LABEL, NamedImage
from support.images import docker_archive, random_image
from support.memory_runtime import MemoryRuntime
from support.nodes import import_now, node_at

SOCKET = "/run/test.sock"
PAUSE, APP = "registry.k8s.io/pause:3.10", "docker.io/library/app:1"


class Agent:
    """One agent on a data directory of its own, beside others on the same runtime."""

    def __init__(self, data: Path, runtime: MemoryRuntime, node: Node) -> None:
        self.data, self.runtime, self.node = data, runtime, node
        self.publisher = Publisher(
            SOCKET, node.catalog, node.store, node.settings, node.clock, node.document_memory
        )

    def drop(self, seed: object, name: str) -> None:
        """Import an archive as the watcher would."""
        path = self._archive(name)
        docker_archive(path, {name: random_image(seed)})
        key = stat_key(path)
        [source] = self.node.catalog.source_states.settle(
            [(str(path), str(key), key.size_bytes)], self.node.clock()
        ).values()
        done = self.node.importer.run(
            Job(source, path), stop=lambda: False, progress=lambda _done, _all: None
        )
        assert done.state == "imported"

    def delete(self, name: str) -> None:
        self.node.remove({str(self._archive(name)): "delete"})

    def _archive(self, name: str) -> Path:
        return self.data.parent / f"{self.data.name}-{name.replace('/', '_')}.tar"

    def run(self) -> None:
        self.publisher.run(self.runtime, stop=lambda: False, everything=True)

    def owner(self, name: str) -> str:
        return self.runtime.named[name].agent

    def events(self) -> list[Any]:
        return [e for e in self.node.catalog.events(limit=1000) if e.kind == "foreign-names"]


@contextlib.contextmanager
def agent(data: Path, runtime: MemoryRuntime, **changes: Any) -> Iterator[Agent]:
    with node_at(data, platform="linux/amd64", **changes) as node:
        yield Agent(data, runtime, node)


@pytest.fixture
def runtime(tmp_path: Path) -> MemoryRuntime:
    """A runtime that the agent of `old` filled."""
    made = MemoryRuntime()
    with agent(tmp_path / "old", made) as old:
        old.drop("pause", PAUSE)
        old.drop("app", APP)
        old.run()
    assert {PAUSE, APP} <= made.named.keys()
    return made


def test_a_fresh_data_directory_withdraws_nothing(tmp_path: Path, runtime: MemoryRuntime) -> None:
    before = dict(runtime.named)
    with agent(tmp_path / "new", runtime) as new:
        new.run()
        new.run()
        assert runtime.named == before
        [event] = new.events()
        assert str(len(before)) in event.detail
        assert PAUSE in event.detail


def test_an_archive_of_the_same_image_makes_its_names_ours(
    tmp_path: Path, runtime: MemoryRuntime
) -> None:
    before = runtime.named[APP].target
    with agent(tmp_path / "new", runtime) as new:
        new.run()
        new.drop("app", APP)
        new.run()
        assert runtime.named[APP].target == before
        assert new.owner(APP) == new.node.identity != new.owner(PAUSE)
        new.delete(APP)
        new.run()
        assert APP not in runtime.named
        assert PAUSE in runtime.named
        assert len(new.events()) == 1


def test_the_first_agent_does_not_withdraw_what_another_took_over(
    tmp_path: Path, runtime: MemoryRuntime
) -> None:
    with agent(tmp_path / "new", runtime) as new:
        new.drop("app", APP)
        new.run()
    with agent(tmp_path / "old", runtime) as old:
        old.delete(APP)
        old.run()
        assert APP in runtime.named
        assert old.owner(PAUSE) == old.node.identity
        old.delete(PAUSE)
        old.run()
        assert PAUSE not in runtime.named


def test_the_setting_lets_foreign_names_go(tmp_path: Path, runtime: MemoryRuntime) -> None:
    with agent(tmp_path / "new", runtime, foreign_names="release") as new:
        new.run()
        assert runtime.named == {}
        assert new.events() == []


def test_names_of_an_earlier_version_are_ours_where_they_are_recorded(
    tmp_path: Path, runtime: MemoryRuntime
) -> None:
    for name, image in runtime.named.items():  # it wrote no identity
        labels = {key: value for key, value in image.labels.items() if key != AGENT_LABEL}
        runtime.named[name] = NamedImage(name, image.target, labels)
    with agent(tmp_path / "new", runtime) as new:
        new.run()
        assert {PAUSE, APP} <= runtime.named.keys()
    with agent(tmp_path / "old", runtime) as old:
        old.delete(APP)
        old.run()
        assert APP not in runtime.named
        assert old.owner(PAUSE) == old.node.identity


def test_a_copy_of_a_data_directory_has_an_identity_of_its_own(
    tmp_path: Path, runtime: MemoryRuntime
) -> None:
    shutil.copytree(tmp_path / "old", tmp_path / "copy")
    with agent(tmp_path / "old", runtime) as old:
        old.drop("later", "docker.io/library/later:1")
        old.run()
        identity = old.node.identity
    with agent(tmp_path / "copy", runtime) as copy:
        assert identity_of(copy.node.catalog) != identity
        copy.run()
        assert copy.owner(APP) == copy.node.identity
        assert copy.owner("docker.io/library/later:1") == identity
    with agent(tmp_path / "old", runtime) as old:
        assert old.node.identity == identity


def test_a_rebuilt_catalog_withdraws_nothing(tmp_path: Path, runtime: MemoryRuntime) -> None:
    before = runtime.named.keys()
    for path in (tmp_path / "old").glob("catalog*"):
        path.unlink()
    shutil.rmtree(tmp_path / "old/backup", ignore_errors=True)
    (tmp_path / "old/oci/index.json").unlink()
    with agent(tmp_path / "old", runtime) as old:
        old.run()
        assert runtime.named.keys() == before


def test_while_another_agent_has_the_runtime_nothing_is_published(
    tmp_path: Path, runtime: MemoryRuntime
) -> None:
    before = dict(runtime.named)
    with agent(tmp_path / "new", runtime, foreign_names="release") as new:
        new.drop("other", "docker.io/library/other:1")
        runtime.other = OtherAgent("airside-1", "/data", 1)
        done = new.publisher.run(runtime, stop=lambda: False)
        assert done.other == runtime.other
        assert done.again_seconds is not None
        assert runtime.named == before
        runtime.other = None
        new.run()
        assert "docker.io/library/other:1" in runtime.named


def release(agent: Agent, *only: str, dry_run: bool = False) -> dict[str, str]:
    """Run it; gives what became of each name."""
    made = Release(SOCKET, agent.node.catalog, agent.node.settings, agent.node.clock)
    found = made.run(agent.runtime, only, dry_run=dry_run)
    return {item.name.partition("@")[0]: item.state for item in found if "@" not in item.name}


def test_a_release_deletes_what_nobody_needs(tmp_path: Path, runtime: MemoryRuntime) -> None:
    before, ids = set(runtime.named), set(runtime.ids)
    with agent(tmp_path / "new", runtime) as new:
        new.drop("web", "docker.io/library/web:1")
        new.run()
        wanted = {PAUSE: "sandbox", APP: "released"}
        assert release(new, dry_run=True) == wanted
        assert before <= set(runtime.named)
        assert release(new) == wanted
        assert APP not in runtime.named
        assert {PAUSE, "docker.io/library/web:1"} <= set(runtime.named)
        assert len(ids - set(runtime.ids)) == 1
        assert release(new, APP, PAUSE) == {APP: "absent", PAUSE: "released"}
        assert PAUSE not in runtime.named
        new.run()
        assert [e.kind for e in new.node.catalog.events(limit=1000)].count("foreign-released") == 2
        assert release(new) == {}


def test_a_release_leaves_what_a_container_uses(tmp_path: Path, runtime: MemoryRuntime) -> None:
    with agent(tmp_path / "new", runtime) as new:
        target = runtime.named[APP].target
        runtime.used = {i for i, image in runtime.ids.items() if image.target == target}
        assert release(new, APP) == {APP: "used"}
        runtime.used = set()
        runtime.used = {APP}
        assert release(new, APP) == {APP: "used"}
        assert APP in runtime.named


def test_a_release_spares_what_our_archives_need(tmp_path: Path, runtime: MemoryRuntime) -> None:
    with agent(tmp_path / "new", runtime) as new:
        new.drop("app", APP)  # and no pass since
        assert release(new, APP, PAUSE, dry_run=True) == {APP: "absent", PAUSE: "released"}


def test_the_store_of_the_other_makes_its_names_ours(
    tmp_path: Path, runtime: MemoryRuntime
) -> None:
    """Its data directory is an OCI layout: importing it takes over what no archive has."""
    before = {name: image.target for name, image in runtime.named.items()}
    with agent(tmp_path / "new", runtime) as new:
        new.run()
        assert import_now(new.node, tmp_path / "old/oci").state == "imported"
        new.run()
        assert {name: image.target for name, image in runtime.named.items()} == before
        assert {new.owner(name) for name in before} == {new.node.identity}
        assert release(new) == {}
