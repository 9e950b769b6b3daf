"""The documents of images: when they are in memory, and of how many."""

import json
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest

from airside.catalog.tag_states import TagState
from airside.containerd.image_documents import ChosenImage, ImageDocuments
from airside.core.errors import NotFoundError, StoppedError
from airside.core.memory_account import MemoryAccount
from airside.core.settings import MIB
from airside.oci.model import OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from airside.oci.platform import parse_platform
from support.hostile_archives import LAYER, config, described, index, manifest_of
from support.images import sha256

TOTAL = 48 * MIB


def never() -> bool:
    return False


def always() -> bool:
    return True


class Bench:
    """A catalog of documents, and a log of the memory that is reserved when one is read."""

    def __init__(self) -> None:
        self.raws: dict[str, bytes] = {}
        self.memory = MemoryAccount(TOTAL)
        self.held: list[int] = []
        store: Any = SimpleNamespace(
            missing=lambda _blobs: (), open=lambda _digest: BytesIO(config())
        )
        lookup = SimpleNamespace(platform=lambda _digest: "")
        catalog: Any = SimpleNamespace(document=self._document, lookup=lookup)
        node = parse_platform("linux/amd64")
        self.documents = ImageDocuments(catalog, store, node, 4 * MIB, self.memory)

    def _document(self, digest: object) -> bytes | None:
        self.held.append(self.memory.held_bytes)
        return self.raws.get(str(digest))

    def add(self, raw: bytes) -> str:
        digest = str(sha256(raw))
        self.raws[digest] = raw
        return digest

    def image(self, number: int, annotation_bytes: int = 0, layers: int = 1) -> ChosenImage:
        text = f"{number}" + "x" * annotation_bytes
        manifest = manifest_of(config(), annotations={"a": text})
        if layers > 1:
            value = json.loads(manifest)
            value["layers"] = [described(b"%d" % n, OCI_LAYER) for n in range(layers)]
            manifest = json.dumps(value).encode()
        self.add(manifest)
        digest = self.add(index([described(manifest, OCI_MANIFEST)]))
        found = self.documents.choose(tag(digest), never)
        assert isinstance(found, ChosenImage)
        return found


def tag(digest: str) -> TagState:
    return TagState("docker.io", "library/app", "1", digest, OCI_INDEX, "", 1, True, ())


def test_choosing_an_image_reserves_its_memory_and_holds_no_document() -> None:
    bench = Bench()
    small = bench.image(1)
    assert set(bench.held) == {MIB}
    bench.held.clear()
    large = bench.image(2, 2 * MIB)
    assert bench.held[-1] == TOTAL
    assert bench.memory.held_bytes == 0
    for chosen in (small, large):
        assert [each.media_type for each in chosen.chain] == [OCI_INDEX, OCI_MANIFEST]
        assert chosen.config == sha256(config())
        assert not any(each.annotations for each in chosen.chain)


def test_no_memory_is_reserved_while_an_image_is_published() -> None:
    bench = Bench()
    for chosen in (bench.image(1), bench.image(2, 2 * MIB)):
        with bench.documents.loaded(chosen, never) as content:
            assert bench.memory.held_bytes == 0
            assert content.target.digest == chosen.target.digest
            assert content.manifest.annotations == {}
            assert {blob.digest for blob in content.blobs} >= {sha256(LAYER), chosen.config}


def test_one_large_image_is_published_at_a_time_and_small_ones_meanwhile() -> None:
    bench = Bench()
    small, one, other = bench.image(1), bench.image(2, 2 * MIB), bench.image(3, 2 * MIB)
    with (
        bench.documents.loaded(one, never),
        bench.documents.loaded(small, never),
        pytest.raises(StoppedError),
        bench.documents.loaded(other, always),
    ):
        raise AssertionError("it was loaded")
    with bench.documents.loaded(other, always):
        pass
    assert bench.memory.held_bytes == 0


def test_an_image_waits_for_the_memory_of_others_until_it_is_stopped() -> None:
    bench = Bench()
    chosen = bench.image(1)
    taken = bench.memory.ask(TOTAL)
    with pytest.raises(StoppedError):
        bench.documents.choose(tag(str(chosen.target.digest)), always)
    with pytest.raises(StoppedError), bench.documents.loaded(chosen, always):
        raise AssertionError("it was loaded")
    bench.memory.give_back(taken)
    assert bench.memory.held_bytes == 0


@pytest.mark.parametrize("layers", [2, 70])
def test_an_image_is_whole_in_a_runtime_that_has_each_of_its_blobs(layers: int) -> None:
    bench = Bench()
    chosen = bench.image(1, 2 * MIB, layers)
    digests = [sha256(b"%d" % n) for n in range(layers)]
    digests += [chosen.config, *(each.digest for each in chosen.chain)]
    held = frozenset(map(str, digests))
    assert bench.documents.is_held(chosen, held, never)
    for digest in held:
        assert not bench.documents.is_held(chosen, held - {digest}, never)
    bench.raws.clear()
    assert bench.documents.is_held(chosen, held, never) == bool(chosen.blobs) == (layers < 64)
    with pytest.raises(NotFoundError), bench.documents.loaded(chosen, never):
        raise AssertionError("it was loaded")
    assert bench.memory.held_bytes == 0
