"""A model of one tag: whatever happens in whatever order, it is what the present archives say.

Archives are dropped, replaced, removed, read again; garbage is collected, the node restarts, its
catalog gets lost. After each step the tag's parts are those of the model, its document lists them,
and every blob below it is held and true.
"""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from airside.agent.node import Node, open_node
from airside.archive.stat_key import StatKey
from airside.catalog.model import ImageRow
from airside.importer.importer import Job
from airside.oci.digest import Digest
from airside.oci.model import parse_document
from airside.store.found_documents import RECOVERED
from airside.store.index_json import render_index
from support.images import TestIndex, oci_archive, random_image, random_index
from support.nodes import settings_at, wrong_blobs
from support.size import sized

NAME = "registry.example/app:1"
AMD64, ARM64, ARM = "linux/amd64", "linux/arm64", "linux/arm/v7"
SLOTS = ("a.tar", "b.tar", "c.tar")
KINDS = (
    "amd64-1",
    "amd64-2",
    "arm64-1",
    "arm-1",
    "both-1",
    "both-2",
    "sparse-amd64",
    "sparse-arm64",
)


@dataclass(frozen=True)
class Content:
    """What an archive holds: its root, and the manifests that it brings by platform."""

    raw: bytes
    root: str
    parts: Mapping[str, str]


@cache
def content(kind: str) -> Content:
    name, _, version = kind.partition("-")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "made.tar"
        if name == "both":
            index = random_index(f"both/{version}", layers=1, layer_bytes=600)
            root = oci_archive(path, {NAME: index})[NAME]
            parts = _parts(index)
        elif name == "sparse":
            index = random_index("sparse", layers=1, layer_bytes=600)
            left_out = {"amd64": ARM64, "arm64": AMD64}[version]
            root = oci_archive(path, {NAME: index}, sparse=[left_out])[NAME]
            parts = {p: d for p, d in _parts(index).items() if p != left_out}
        else:
            platform = {"amd64": AMD64, "arm64": ARM64, "arm": ARM}[name]
            image = random_image(kind, layers=1, layer_bytes=600, platform=platform)
            root = oci_archive(path, {NAME: image})[NAME]
            parts = {platform: str(root)}
        return Content(path.read_bytes(), str(root), parts)


def _parts(index: TestIndex) -> dict[str, str]:
    return {str(image.platform): str(image.manifest.digest) for image in index.images}


@dataclass
class Said:
    """What an archive says of the tag, since when, and when it was removed."""

    sequence: int
    content: Content
    removed_at: int = 0


class TagMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="airside-model-"))
        (self.root / "images").mkdir()
        self.counter = 0
        self.said: dict[str, Said] = {}
        self.expected: dict[str, str] | None = None
        self._open()

    def teardown(self) -> None:
        self._close()
        shutil.rmtree(self.root)

    def _open(self) -> None:
        self._opened = open_node(settings_at(self.root / "data"))
        self.node: Node = self._opened.__enter__()

    def _close(self) -> None:
        self._opened.__exit__(None, None, None)

    # what happens

    @rule(slot=st.sampled_from(SLOTS), kind=st.sampled_from(KINDS))
    def drop(self, slot: str, kind: str) -> None:
        path = self.root / "images" / slot
        temporary = self.root / slot
        temporary.write_bytes(content(kind).raw)
        temporary.replace(path)
        self._import(path)
        self.counter += 1
        self.said[slot] = Said(self.counter, content(kind))
        self._decide()

    @precondition(lambda self: self._present())
    @rule(data=st.data())
    def read_again(self, data: st.DataObject) -> None:
        self._import(self.root / "images" / data.draw(st.sampled_from(sorted(self._present()))))

    @precondition(lambda self: self._present())
    @rule(data=st.data(), policy=st.sampled_from(["unpin", "delete"]))
    def remove(self, data: st.DataObject, policy: str) -> None:
        slot = data.draw(st.sampled_from(sorted(self._present())))
        path = self.root / "images" / slot
        path.unlink()
        self.node.remove({str(path): policy})
        self.node.importer.write_index()
        self.counter += 1
        if policy == "delete":
            del self.said[slot]
            if not self._present():
                self.said.clear()
                self.expected = None
        else:
            self.said[slot].removed_at = self.counter
        self._decide()

    @rule()
    def collect(self) -> None:
        self.node.reconcile()

    @rule()
    def restart(self) -> None:
        self._close()
        self._open()

    @rule()
    def lose_the_catalog(self) -> None:
        self._close()
        for path in (self.root / "data").glob("catalog.db*"):
            path.unlink()
        self._open()
        for slot in self._present():
            self._import(self.root / "images" / slot)
        self._forget_what_does_not_count()

    # the model

    def _present(self) -> list[str]:
        return [slot for slot, said in self.said.items() if not said.removed_at]

    def _counting(self) -> list[Said]:
        """The newest present archive first; then removed ones that nothing newer put aside."""
        present = [self.said[slot] for slot in self._present()]
        newest = max((said.sequence for said in present), default=0)
        gone = [said for said in self.said.values() if said.removed_at > newest]
        return [
            *sorted(present, key=lambda said: -said.sequence),
            *sorted(gone, key=lambda said: -said.sequence),
        ]

    def _decide(self) -> None:
        if self._present():
            self.expected = {}
            for said in self._counting():
                for platform, digest in said.content.parts.items():
                    self.expected.setdefault(platform, digest)

    def _forget_what_does_not_count(self) -> None:
        """`index.json` keeps of removed archives those that the tag has parts of."""
        assert self.expected is not None or not self.said
        for slot, said in list(self.said.items()):
            if said.removed_at:
                if self._has_part(slot):
                    self.counter += 1
                    said.removed_at = self.counter
                else:
                    del self.said[slot]

    def _has_part(self, slot: str) -> bool:
        [row] = self._rows()
        return any(Path(part.archive).name == slot for part in row.parts)

    # what must hold

    def _rows(self) -> list[ImageRow]:
        """The images, without what was found unnamed in the store after a loss of the catalog."""
        return [row for row in self.node.catalog.images() if row.repository != RECOVERED]

    def _import(self, path: Path) -> None:
        found = path.stat()
        file = (str(path), str(StatKey.of(found)), found.st_size)
        ids = self.node.catalog.source_states.settle([file], self.node.clock())
        outcome = self.node.importer.run(
            Job(ids[str(path)], path), stop=lambda: False, progress=lambda _done, _all: None
        )
        assert outcome.state == "imported", outcome

    @invariant()
    def the_tag_is_what_the_model_says(self) -> None:
        rows = self._rows()
        if self.expected is None:
            assert rows == []
            return
        [row] = rows
        assert {part.platform: part.digest for part in row.parts} == self.expected
        assert (row.unbacked_since is None) == bool(self._present())
        listed = self._listed(row.digest)
        assert self.expected.items() <= listed.items()
        if row.merged:
            assert listed == self.expected
            assert not any(said.content.root == row.digest for said in self.said.values())

    def _listed(self, digest: str) -> dict[str, str]:
        """What the tag's document lists, read from the store."""
        stored = self.node.catalog.document_by_tag(*self._rows()[0].name)
        assert stored is not None
        assert str(stored.digest) == digest
        assert self.node.store.path(stored.digest).read_bytes() == stored.raw
        document = parse_document(stored.raw, stored.media_type, digest)
        if document.is_image:
            return {p: digest for p, d in (self.expected or {}).items() if d == digest}
        return {str(child.platform): str(child.digest) for child in document.children}

    @invariant()
    def index_json_says_what_the_catalog_says(self) -> None:
        assert self.node.store.read_index() == render_index(self.node.catalog)

    @invariant()
    def everything_below_is_held_and_true(self) -> None:
        assert wrong_blobs(self.node) == []
        for digest in (self.expected or {}).values():
            raw = self.node.store.path(Digest(*digest.split(":"))).read_bytes()
            manifest = parse_document(raw, "application/vnd.oci.image.manifest.v1+json", digest)
            assert all(self.node.store.stat(blob.digest) for blob in manifest.children)


TestTag = TagMachine.TestCase
TestTag.settings = settings(
    max_examples=sized(20, 200),
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
