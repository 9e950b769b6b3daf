from pathlib import Path

import pytest

from airside.core.settings import WatchedDirectory
from airside.importer.watch.directories import (
    WatchedDirectories,
    is_candidate,
    is_candidate_directory,
    is_within,
)

OUTER, INNER, FLAT = Path("/images"), Path("/images/a/inner"), Path("/images/flat")


@pytest.fixture
def places():
    return WatchedDirectories(
        [WatchedDirectory(OUTER), WatchedDirectory(INNER), WatchedDirectory(FLAT, recursive=False)]
    )


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("/images/x.tar", OUTER),
        ("/images/a/x.tar", OUTER),
        ("/images/a/inner", OUTER),
        ("/images/a/inner/x.tar", INNER),
        ("/images/a/inner/b/c/x.tar", INNER),
        ("/images/a/innermost/x.tar", OUTER),
        ("/images/flat/x.tar", FLAT),
        ("/images/flat/sub/x.tar", None),
        ("/images", None),
        ("/imagesx/x.tar", None),
        ("/x.tar", None),
    ],
)
def test_a_path_belongs_to_the_longest_directory_that_holds_it(places, path, owner):
    found = places.owner(Path(path))
    assert (found and found.path) == owner


def test_the_directories_inside_another_are_known(places):
    assert places.inside(OUTER) == {INNER, FLAT}
    assert places.inside(INNER) == frozenset()
    assert [place.path for place in places] == [OUTER, INNER, FLAT]


def test_the_root_directory_may_be_watched():
    places = WatchedDirectories([WatchedDirectory(Path("/"))])
    assert places.owner(Path("/a/b.tar")).path == Path("/")
    assert is_within(Path("/a"), Path("/"))
    assert not is_within(Path("/ab"), Path("/a"))


@pytest.mark.parametrize("name", ["oci-layout", "index.json", "blobs", "manifest.json"])
def test_what_is_at_the_top_of_a_layout_is_no_archive(name):
    assert not is_candidate(name)


@pytest.mark.parametrize(
    ("name", "looked_into"),
    [("v1.2", True), ("a b", True), (".git", False), ("x.part", False), ("lost+found", False)],
)
def test_which_directories_are_looked_into(name, looked_into):
    assert is_candidate_directory(name) is looked_into
