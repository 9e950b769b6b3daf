import pytest
from hypothesis import given
from hypothesis import strategies as st

from airside.archive.formats.parts import later_parts, part_of, parts_among


@pytest.mark.parametrize(
    ("name", "whole", "number"),
    [
        ("images.tar.aa", "images.tar", 0),
        ("images.tar.zst.ab", "images.tar.zst", 1),
        ("images.tar-ba", "images.tar", 26),
        ("images.tar_aa", "images.tar", 0),
        ("images.taraa", "images.tar", 0),
        ("images.tar.aaa", "images.tar", 0),
        ("images.tar.gz.partaa", "images.tar.gz", 0),
        ("haul.tar.zst.001", "haul.tar.zst", 1),
        ("haul.tar.zst.00", "haul.tar.zst", 0),
        ("images.tar.0003", "images.tar", 3),
        ("images.tar.gz.1", "images.tar.gz", 1),
        ("zarf-package-x-amd64.tar.zst.part000", "zarf-package-x-amd64.tar.zst", 0),
        ("images.part1", "images", 1),
        ("images.part2.tar", "images.tar", 2),
        ("images.tar.part-02-of-03", "images.tar", 2),
        ("images.tar.PART01", "images.tar", 1),
        ("images.7z.001", "images.7z", 1),
        ("images.z01", "images.zip", 1),
    ],
)
def test_parts_are_known_by_their_names(name, whole, number):
    part = part_of(name)
    assert part is not None
    assert (part.whole, part.number) == (whole, number)
    assert part.name_of(number) == name


@pytest.mark.parametrize(
    "name",
    [
        *(
            "images.tar",
            "images.tar.gz",
            "images.tar.xz",
            "images.tar.zst",
            "images.tgz",
            "list.txt",
        ),
        *("images.tar.md", "images.tar.sig", "images.tar.asc", "images.tar.sh", "images.tar.md5"),
        *("images.tar.2026", "images.tar.gz-1130"),
        *("images-1.28.100", "k3s-v1.31.001", "notes.aa", "part", "a.part", "department.tar", "x"),
    ],
)
def test_other_names_are_no_parts(name):
    assert part_of(name) is None


def test_a_number_behind_the_name_of_a_file_that_is_there_is_an_older_version():
    names = ["a.tar", "a.tar.1", "a.tar.2"]
    assert parts_among("a.tar.1", names) is None
    assert later_parts(names) == frozenset()
    assert later_parts(names[1:]) == {"a.tar.2"}


def test_the_parts_of_an_archive_are_those_of_its_name_in_their_order():
    names = ["a.tar.ac", "a.tar.aa", "a.tar.ab", "b.tar.aa", "a.tar.001", "a.tar", "a.tar.aaa"]
    parts = parts_among("a.tar.ab", names)
    assert parts is not None
    assert parts.names == ("a.tar.aa", "a.tar.ab", "a.tar.ac")
    assert (parts.missing, parts.next_name, parts.whole) == ((), "a.tar.ad", "a.tar")


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (("a.tar.ab",), ("a.tar.aa",)),
        (("a.tar.aa", "a.tar.ac"), ("a.tar.ab",)),
        (("a.tar.003", "a.tar.001"), ("a.tar.002",)),
        (("a.tar.002",), ("a.tar.001",)),
        (("a.tar.000", "a.tar.002"), ("a.tar.001",)),
        (("a.tar.part03",), ("a.tar.part01", "a.tar.part02")),
    ],
)
def test_a_part_between_others_is_missing(names, missing):
    parts = parts_among(names[0], names)
    assert parts is not None
    assert parts.missing == missing


def test_all_but_the_first_part_are_later_ones():
    names = ["a.tar.ac", "a.tar.ab", "b.tar.part2", "b.tar.part1", "c.tar", "d.tar.001"]
    assert later_parts(names) == {"a.tar.ac", "b.tar.part2"}


@given(st.text(max_size=40))
def test_a_part_has_its_own_name(name):
    part = part_of(name)
    assert part is None or part.name_of(part.number) == name or not name.isascii()
