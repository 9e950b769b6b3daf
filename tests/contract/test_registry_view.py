"""What every `airside.ports.content.RegistryView` tells, filled in its own way."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from airside.catalog.catalog import Catalog
from airside.catalog.model import ClaimedName, Import
from airside.oci.digest import Digest, digest_of
from airside.oci.model import OCI_INDEX, OCI_MANIFEST, Document, Manifest, parse_document
from airside.oci.reference import Repository
from airside.ports.content import ReferrersPage, RegistryView, StoredDocument
from support.images import TestImage, TestIndex, random_image, random_index
from support.memory import MemoryView
from support.nodes import not_held

APP = Repository("example.com", "team/app")
TWIN = Repository("another.example:5000", "team/app")
LONELY = Repository("example.com", "lonely")


class Filled(Protocol):
    """A view, and how to make it hold documents."""

    view: RegistryView

    def put(self, repository: Repository, tag: str, *documents: Document) -> None:
        """Hold these, children first; the tag (or none) is the last one's."""

    def remove(self, repository: Repository, tag: str) -> None: ...

    def quarantine(self, digest: Digest) -> None: ...


class _Memory:
    def __init__(self) -> None:
        self.view = MemoryView()

    def put(self, repository: Repository, tag: str, *documents: Document) -> None:
        for document in documents[:-1]:
            self.view.put(repository, document)
        self.view.put(repository, documents[-1], *filter(None, [tag]))

    def remove(self, repository: Repository, tag: str) -> None:
        self.view.remove_tag(repository, tag)

    def quarantine(self, digest: Digest) -> None:
        self.view.quarantine(digest)


class _Catalog:
    """Each `put` is an archive of its own."""

    def __init__(self, catalog: Catalog) -> None:
        self.view = self._catalog = catalog
        self._count = 0
        self._paths: dict[tuple[Repository, str], str] = {}

    def put(self, repository: Repository, tag: str, *documents: Document) -> None:
        self._count += 1
        path = self._paths[repository, tag] = f"/images/{self._count}.tar"
        ids = self._catalog.source_states.settle([(path, "1:1:1:1", 1)], self._count)
        self._catalog.imports.record(
            Import(
                source_id=ids[path],
                state="imported",
                stat_key="1:1:1:1",
                plan_digest="",
                format="oci",
                compression="none",
                seconds=0.0,
                claims=(ClaimedName(repository, tag, documents[-1].digest),),
                documents=documents,
                platforms={},
                blobs=_blobs(documents),
            ),
            self._count,
        )

    def remove(self, repository: Repository, tag: str) -> None:
        self._count += 1
        self._catalog.source_states.remove({self._paths[repository, tag]: "delete"}, self._count)

    def quarantine(self, digest: Digest) -> None:
        self._catalog.verification.mark_blob(digest, "quarantined", self._count)


def _blobs(documents: tuple[Document, ...]) -> dict[Digest, int]:
    found = {document.digest: document.size_bytes for document in documents}
    for document in documents:
        if isinstance(document.content, Manifest):
            found |= {blob.digest: blob.size_bytes for blob in document.content.blobs}
    return found


@pytest.fixture(params=["catalog", "memory"])
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Filled]:
    if request.param == "memory":
        yield _Memory()
        return
    catalog = Catalog(tmp_path / "catalog.db", not_held)
    yield _Catalog(catalog)
    catalog.close()


def _document(image: TestImage | TestIndex) -> Document:
    blob = image.index if isinstance(image, TestIndex) else image.manifest
    return parse_document(blob.raw, blob.media_type, "test")


IMAGE, OTHER = random_image("view"), random_image("other")


def test_an_empty_view_holds_nothing(filled: Filled) -> None:
    view, digest = filled.view, digest_of(b"x")
    assert view.repositories() == view.repositories_at("team/app") == view.tags(APP) == []
    assert view.document_by_tag(APP, "1") is None
    assert view.document_by_digest(APP, digest) is None
    assert not view.holds_blob(APP, digest)
    assert view.referrers(APP, digest) == ReferrersPage()


def test_a_document_is_found_by_tag_and_digest_byte_for_byte(filled: Filled) -> None:
    filled.put(APP, "1", _document(IMAGE))
    expected = StoredDocument(IMAGE.digest, OCI_MANIFEST, IMAGE.manifest.raw)
    assert filled.view.document_by_tag(APP, "1") == expected
    assert filled.view.document_by_digest(APP, IMAGE.digest) == expected
    assert filled.view.document_by_tag(APP, "2") is None
    assert filled.view.document_by_digest(APP, OTHER.digest) is None


def test_a_repository_is_its_host_and_its_path(filled: Filled) -> None:
    filled.put(APP, "1", _document(IMAGE))
    filled.put(TWIN, "1", _document(OTHER))
    filled.put(LONELY, "1", _document(IMAGE))
    view = filled.view
    assert view.repositories() == sorted([APP, TWIN, LONELY])
    assert view.repositories_at("team/app") == [TWIN, APP]
    assert view.repositories_at("app") == []
    for repository, image in ((APP, IMAGE), (TWIN, OTHER)):
        found = view.document_by_tag(repository, "1")
        assert found is not None
        assert found.digest == image.digest
    assert view.document_by_digest(TWIN, IMAGE.digest) is None


def test_tags_are_sorted_by_bytes(filled: Filled) -> None:
    for tag in ("b", "a", "B", "10", "9", "_", "a.b", "a-b"):
        filled.put(APP, tag, _document(IMAGE))
    assert filled.view.tags(APP) == sorted(["b", "a", "B", "10", "9", "_", "a.b", "a-b"])


def test_a_repository_holds_what_is_below_its_documents_only(filled: Filled) -> None:
    filled.put(APP, "1", _document(IMAGE))
    filled.put(TWIN, "1", _document(OTHER))
    for blob in IMAGE.blobs:
        assert filled.view.holds_blob(APP, blob.digest)
        assert not filled.view.holds_blob(TWIN, blob.digest)


def test_an_index_brings_its_children(filled: Filled) -> None:
    index = random_index("view")
    filled.put(APP, "1", *map(_document, index.images), _document(index))
    found = filled.view.document_by_tag(APP, "1")
    assert found == StoredDocument(index.digest, OCI_INDEX, index.index.raw)
    for image in index.images:
        child = filled.view.document_by_digest(APP, image.digest)
        assert child is not None
        assert child.raw == image.manifest.raw
    assert all(filled.view.holds_blob(APP, blob.digest) for blob in index.blobs)


def test_a_document_without_a_tag_is_found_by_its_digest(filled: Filled) -> None:
    filled.put(LONELY, "", _document(IMAGE))
    assert filled.view.tags(LONELY) == []
    assert filled.view.repositories() == [LONELY]
    found = filled.view.document_by_digest(LONELY, IMAGE.digest)
    assert found is not None
    assert found.raw == IMAGE.manifest.raw


def test_a_moved_tag_shows_the_new_document_and_the_old_one_stays_by_digest(
    filled: Filled,
) -> None:
    filled.put(APP, "1", _document(IMAGE))
    filled.put(APP, "1", _document(OTHER))
    found = filled.view.document_by_tag(APP, "1")
    assert found is not None
    assert found.digest == OTHER.digest
    assert filled.view.document_by_digest(APP, IMAGE.digest) is not None
    assert filled.view.tags(APP) == ["1"]


def test_a_removed_tag_is_gone(filled: Filled) -> None:
    filled.put(APP, "1", _document(IMAGE))
    filled.put(APP, "2", _document(OTHER))
    filled.remove(APP, "1")
    assert filled.view.tags(APP) == ["2"]
    assert filled.view.document_by_tag(APP, "1") is None


def test_what_is_in_quarantine_is_told_of_any_number_of_blobs(filled: Filled) -> None:
    filled.put(APP, "1", _document(IMAGE))
    every = [blob.digest for blob in IMAGE.blobs]
    assert not filled.view.any_quarantined([*every, digest_of(b"unknown")])
    filled.quarantine(IMAGE.layers[0].digest)
    assert filled.view.any_quarantined(every)
    assert filled.view.any_quarantined([IMAGE.layers[0].digest])
    assert not filled.view.any_quarantined([IMAGE.layers[1].digest])
    assert not filled.view.any_quarantined([])


def _artifact(subject: TestImage, **fields: object) -> Document:
    config = random_image("empty").config.descriptor
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config | {"mediaType": "application/vnd.example.config"},
        "layers": [],
        "subject": subject.manifest.descriptor,
        **fields,
    }
    return parse_document(json.dumps(document).encode(), OCI_MANIFEST, "artifact")


def test_referrers_are_told_with_type_and_annotations(filled: Filled) -> None:
    filled.put(APP, "1", _document(IMAGE))
    signature = _artifact(IMAGE, artifactType="application/vnd.example.sig", annotations={"a": "b"})
    bill = _artifact(IMAGE)
    filled.put(APP, "sig", signature)
    filled.put(APP, "bill", bill)
    filled.put(TWIN, "sig", _artifact(IMAGE, artifactType="application/vnd.example.twin"))
    filled.put(APP, "unrelated", _artifact(OTHER))
    found = {d.digest: d for d in filled.view.referrers(APP, IMAGE.digest).items}
    assert set(found) == {signature.digest, bill.digest}
    told = found[signature.digest]
    assert (told.media_type, told.size_bytes) == (OCI_MANIFEST, signature.size_bytes)
    assert (told.artifact_type, told.annotations) == ("application/vnd.example.sig", {"a": "b"})
    assert found[bill.digest].artifact_type == "application/vnd.example.config"


def test_referrers_come_in_pages_of_a_bounded_size(filled: Filled) -> None:
    filled.put(APP, "1", _document(IMAGE))
    sizes = (300, 300, 300, 300, 2_000, 300)
    each = [
        _artifact(IMAGE, annotations={"n": f"{n}" + "x" * size * 1024})
        for n, size in enumerate(sizes)
    ]
    for number, document in enumerate(each):
        filled.put(APP, f"a{number}", document)
    seen, after, more = [], "", True
    while more:
        page = filled.view.referrers(APP, IMAGE.digest, after)
        total = sum(one.size_bytes for one in page.items)
        assert len(page.items) == 1 or total <= 2**20
        seen += [one.digest for one in page.items]
        after, more = str(seen[-1]), page.more
    assert seen == sorted((one.digest for one in each), key=str)
    assert filled.view.referrers(APP, IMAGE.digest, after) == ReferrersPage()


@pytest.mark.parametrize(
    "change",
    [
        lambda filled: filled.put(APP, "2", _document(OTHER)),
        lambda filled: filled.put(APP, "1", _document(OTHER)),
        lambda filled: filled.remove(APP, "1"),
    ],
)
def test_the_generation_grows_with_a_change_and_not_with_reading(
    change: Callable[[Filled], None], filled: Filled
) -> None:
    filled.put(APP, "1", _document(IMAGE))
    before = filled.view.generation
    filled.view.tags(APP)
    filled.view.document_by_tag(APP, "1")
    assert filled.view.generation == before
    change(filled)
    assert filled.view.generation > before
