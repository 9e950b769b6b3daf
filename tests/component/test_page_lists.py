"""What the page reads of the catalog: pages that hold the same as the whole lists."""

import pytest

from airside.agent.space_history import note_space
from airside.catalog.images import ImagePage
from airside.catalog.sources import ArchiveSearch
from airside.core.settings import GIB
from airside.diagnostics.space_forecast import SPACE_SAMPLES, parse_samples
from support.images import docker_archive, oci_archive, random_image, random_index
from support.nodes import import_now, node_at


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    place = tmp_path_factory.mktemp("lists")
    shared = random_image("shared")
    with node_at(place / "data") as opened:
        for number in range(3):
            names = {f"registry.example/App{number}:{tag}".lower(): shared for tag in range(4)}
            docker_archive(place / f"a{number}.tar", names)
            import_now(opened, place / f"a{number}.tar")
        oci_archive(place / "index.tar", {"docker.io/library/multi:1": random_index("multi")})
        import_now(opened, place / "index.tar")
        (place / "bad.tar").write_bytes(b"no archive" * 100)
        import_now(opened, place / "bad.tar")
        yield opened


def test_the_pages_of_images_hold_the_whole_list_in_its_order(node):
    whole, found = node.catalog.images(), []
    for offset in range(0, 20, 3):
        total, rows = node.catalog.listing.images(ImagePage(limit=3, offset=offset))
        assert total == len(whole) == 13
        found += rows
    assert found == whole


def test_a_search_looks_into_names_tags_and_digests(node):
    listing = node.catalog.listing
    assert listing.images(ImagePage("APP1"))[0] == 4
    assert listing.images(ImagePage("app1:2"))[0] == 1
    digest = node.catalog.images()[0].digest
    assert listing.images(ImagePage(digest))[1][0].digest == digest
    assert listing.images(ImagePage("%"))[0] == 0
    assert listing.images(ImagePage(only="artifacts"))[0] == 0
    assert listing.images(ImagePage(only="unbacked"))[0] == 0


def test_a_page_past_the_end_is_empty_and_says_how_many_there_are(node):
    assert node.catalog.listing.images(ImagePage(offset=500)) == (13, [])
    assert node.catalog.listing.archives(ArchiveSearch(offset=500)) == (5, [])


def test_archives_come_the_last_changed_first_with_their_problems(node):
    total, rows = node.catalog.listing.archives(ArchiveSearch(limit=2))
    assert total == 5
    assert [each.row.path.rpartition("/")[2] for each in rows] == ["bad.tar", "index.tar"]
    _, bad = node.catalog.listing.archives(ArchiveSearch(only="problems"))
    assert [each.row.state for each in bad] == ["rejected"]
    assert bad[0].row.reason
    assert [each.images for each in rows] == [0, 1]


def test_shared_blobs_are_counted_once_and_owned_by_nobody(node):
    use = node.catalog.listing.storage_use(10)
    own = sum(each.own_bytes for each in use.largest)
    assert use.repositories == len(use.largest) == 4
    assert use.shared_bytes > 0
    assert own + use.shared_bytes == node.catalog.counts()["blob_bytes"]
    assert {each.own_bytes for each in use.largest if "app" in str(each.repository)} == {0}


def test_events_are_read_backwards_in_pages(node):
    listing, found, before = node.catalog.listing, [], 0
    while rows := listing.events_before(before, 4):
        found += rows
        before = rows[-1].id
    assert found == node.catalog.events(limit=1000)[::-1]


def test_the_free_space_is_recorded_at_most_every_hour(node):
    assert note_space(node)
    assert not note_space(node)
    [sample] = parse_samples(node.catalog.meta(SPACE_SAMPLES))
    assert sample.total_bytes > GIB // 1024
