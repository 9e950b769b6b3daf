import tarfile
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airside.archive.formats.image_list import is_list_name, is_tar, parse_list
from airside.core.errors import ArchiveFormatError, ArchiveLimitError, InputError
from airside.core.settings import Limits
from airside.oci.reference import parse_reference

LIMITS = Limits()
A, B = "docker.io/library/a:1", "registry.example:5000/b:2"
DIGEST = "sha256:" + "0" * 64


def names(data, limits=LIMITS):
    return [entry.name for entry in parse_list(data, limits).entries]


def test_each_line_is_an_image_in_its_order():
    assert names(b"registry.example:5000/b:2\na:1\n") == [B, A]


@pytest.mark.parametrize(
    "data",
    [
        b"a:1",
        b"# comment\n\n   \n  a:1  \n#b:2\n",
        b"a:1 # why\n\t# b:2",
        b"a:1\r\n\r\n# two\r\n",
        b"\xef\xbb\xbfa:1\n",
        "# grüße\na:1\n".encode(),
    ],
)
def test_comments_blank_lines_and_line_ends_are_no_images(data):
    found = parse_list(data, LIMITS)
    assert [entry.name for entry in found.entries] == [A]
    assert found.problems == ()


def test_a_name_in_several_forms_is_one_image():
    found = parse_list(b"a:1\ndocker.io/library/a:1\nindex.docker.io/library/a:1\nb\n", LIMITS)
    assert [(e.name, e.line) for e in found.entries] == [(A, 1), ("docker.io/library/b:latest", 4)]
    assert found.notes == ("2 of its lines name an image again: it is pulled once",)
    both = parse_list(f"a:1@{DIGEST}\na@{DIGEST}\n".encode(), LIMITS)
    assert [e.name for e in both.entries] == [f"docker.io/library/a@{DIGEST}"]


def test_a_line_that_is_no_name_costs_that_line():
    found = parse_list(b"a:1\nNot A Name\nb:2\n\nc:~\n", LIMITS)
    assert [e.name for e in found.entries] == [A, "docker.io/library/b:2"]
    assert [(p.image, p.reason.partition(":")[0]) for p in found.problems] == [
        ("Not A Name", "line 2"),
        ("c:~", "line 5"),
    ]


def test_an_overlong_line_costs_that_line_and_is_shown_cut():
    found = parse_list(b"a" * 100_000 + b"\na:1\n", LIMITS)
    assert [e.name for e in found.entries] == [A]
    [problem] = found.problems
    assert len(problem.image) == 200
    assert len(problem.reason) < 200


def test_a_list_of_comments_names_nothing_and_says_so():
    for data in (b"", b"\n\n", b"# nothing yet\n"):
        found = parse_list(data, LIMITS)
        assert (found.entries, found.problems) == ((), ())
        assert found.notes == ("the list names no image",)


@pytest.mark.parametrize("data", [b"a:1\n\0\n", b"\x7fELF", b"a:1\n\xff\xfe\n", b"\x1b[31ma:1\n"])
def test_a_file_that_is_no_text_is_refused_with_the_line(data):
    with pytest.raises(ArchiveFormatError, match="line"):
        parse_list(data, LIMITS)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_text_of_powershell_is_read(encoding):
    data = "a:1\r\n# grüße\r\n".encode(encoding)
    found = parse_list(data, LIMITS)
    assert [(e.name, e.end <= len(data)) for e in found.entries] == [(A, True)]


def test_damaged_text_of_powershell_is_refused_or_a_problem():
    with pytest.raises(ArchiveFormatError, match="line 1"):
        parse_list(b"\xff\xfea\0\0\0", LIMITS)
    assert [p.reason.partition(":")[0] for p in parse_list(b"\xfe\xff\0a\0", LIMITS).problems] == [
        "line 1"
    ]


@pytest.mark.parametrize(
    ("data", "limits", "named"),
    [
        (b"a:1\n" * 3, Limits(list_bytes=11), "limits.list_bytes"),
        (b"a:1\nb:1\n# c\nd:1", Limits(list_lines=2), "limits.list_lines"),
    ],
)
def test_a_limit_that_is_passed_is_named(data, limits, named):
    with pytest.raises(ArchiveLimitError) as caught:
        parse_list(data, limits)
    assert caught.value.context["limit"] == named
    assert named in caught.value.message


def test_limits_are_reached_without_complaint():
    assert len(names(b"a:1\nb:1\n", Limits(list_bytes=8, list_lines=2))) == 2


@given(st.binary(max_size=2000) | st.text(max_size=500).map(str.encode))
def test_any_bytes_are_a_list_or_an_input_error(data):
    try:
        found = parse_list(data, Limits(list_bytes=1500, list_lines=20))
    except InputError:
        return
    ends = [entry.end for entry in found.entries]
    assert ends == sorted(ends)
    assert all(0 < end <= len(data) for end in ends)
    for entry in found.entries:
        assert str(parse_reference(entry.name)) == entry.name
    assert len({entry.name for entry in found.entries}) == len(found.entries)


@given(
    st.lists(
        st.sampled_from(["a:1", "docker.io/library/a:1", "b", "# c", "", "B AD"]), max_size=30
    ),
    st.sampled_from(["\n", "\r\n"]),
)
def test_the_way_of_writing_does_not_change_what_is_named(lines, newline):
    found = parse_list(newline.join(lines).encode(), LIMITS)
    again = parse_list("\n".join(e.name for e in found.entries).encode(), LIMITS)
    assert [e.name for e in again.entries] == [e.name for e in found.entries]
    assert len(found.problems) == lines.count("B AD")


@pytest.mark.parametrize(
    ("name", "is_list"),
    [("a.txt", True), ("A.TXT", True), ("a.txt.part", False), ("a.text", False), ("txt", False)],
)
def test_the_name_of_a_list_ends_in_txt(name, is_list):
    assert is_list_name(name) is is_list


def tar_head(form):
    target = BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form) as tar:
        tar.addfile(tarfile.TarInfo("manifest.json"))
    return target.getvalue()[:512]


def test_a_tar_is_told_by_its_magic_or_its_checksum():
    assert is_tar(tar_head(tarfile.GNU_FORMAT))
    assert is_tar(tar_head(tarfile.USTAR_FORMAT))
    without_magic = bytearray(tar_head(tarfile.USTAR_FORMAT))
    without_magic[257:512] = bytes(255)
    without_magic[148:156] = b" " * 8
    without_magic[148:156] = b"%06o\0 " % sum(without_magic)
    assert is_tar(bytes(without_magic))
    assert not is_tar(bytes(512))
    assert not is_tar(b"docker.io/library/a:1\n" * 40)
    assert not is_tar(b"a:1\n")


@given(st.binary(max_size=600))
def test_telling_a_tar_never_fails(head):
    assert is_tar(head) in {True, False}
