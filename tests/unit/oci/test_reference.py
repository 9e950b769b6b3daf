"""Image names, normalised as Docker does."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airside.core.errors import ReferenceInvalidError
from airside.oci.digest import parse_digest
from airside.oci.reference import (
    Repository,
    fits_ref_name,
    is_host,
    is_path,
    is_tag,
    parse_reference,
    parse_repository,
)

SHA = f"sha256:{'ab' * 32}"

# What `docker pull NAME` and `ctr images pull` make of it.
NORMALISED = {
    "busybox": "docker.io/library/busybox:latest",
    "busybox:1.36": "docker.io/library/busybox:1.36",
    "library/busybox": "docker.io/library/busybox:latest",
    "rancher/mirrored-pause:3.6": "docker.io/rancher/mirrored-pause:3.6",
    "docker.io/busybox": "docker.io/library/busybox:latest",
    "docker.io/rancher/x:1": "docker.io/rancher/x:1",
    "index.docker.io/busybox:1": "docker.io/library/busybox:1",
    "index.docker.io/library/busybox:1": "docker.io/library/busybox:1",
    "quay.io/a/b/c/d:tag": "quay.io/a/b/c/d:tag",
    "localhost/x": "localhost/x:latest",
    "localhost:5000/x:y": "localhost:5000/x:y",
    "localhost:5000": "docker.io/library/localhost:5000",  # a name and a tag
    "a.b/c": "a.b/c:latest",
    "a/b": "docker.io/a/b:latest",
    "A/b": "A/b:latest",  # upper case makes it a host
    "[::1]:5000/x:1": "[::1]:5000/x:1",
    "[2001:db8::1]/x/y": "[2001:db8::1]/x/y:latest",
    "registry.example.com./x": "registry.example.com./x:latest",
    "x/a__b:1": "docker.io/x/a__b:1",
    "x/a---b:1": "docker.io/x/a---b:1",
    "x/a.b_c-d:1": "docker.io/x/a.b_c-d:1",
    "x:A_b.c-D": "docker.io/library/x:A_b.c-D",
    f"x@{SHA}": f"docker.io/library/x@{SHA}",
    f"x:1@{SHA}": f"docker.io/library/x:1@{SHA}",
    f"x:{'t' * 128}": f"docker.io/library/x:{'t' * 128}",
}

BAD = [
    "",
    ":",
    "@",
    "/",
    "x:",
    ":1",
    "x:1:2",
    "x:-1",
    "x:.1",
    f"x:{'t' * 129}",
    "x y",
    "x:1 ",
    "x\n",
    "x:1\n",
    "Busybox",
    "docker.io/Busybox",
    "x//y",
    "x/",
    "/x",
    "https://docker.io/x",
    "x/a___b",
    "x/a..b",
    "x/a._b",
    "x/-a",
    "x/a-",
    "x/_a",
    "-host.io/x",
    "host-.io/x",
    "host.io:port/x",
    "host.io:123456/x",
    "host.io:/x",
    "..io/x",
    "[::1/x",
    "x@",
    "x@sha256:abc",
    f"x@{SHA}x",
    f"@{SHA}",
    "x/../y",
    "./x",
    "é",
    "x:é",
    "x:\u0661",
    "\0",
    f"a.b/{'c' * 256}",
    f"{'a' * 250}",
]


@pytest.mark.parametrize(("given_name", "full"), NORMALISED.items())
def test_names_are_normalised_as_docker_does(given_name, full):
    reference = parse_reference(given_name)
    assert str(reference) == full
    assert parse_reference(full) == reference


@pytest.mark.parametrize("name", BAD)
def test_bad_names_are_refused(name):
    with pytest.raises(ReferenceInvalidError):
        parse_reference(name)


@pytest.mark.parametrize("value", [None, 1, b"x", ["x"]])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(ReferenceInvalidError):
        parse_reference(value)


def test_errors_say_what_was_found_and_that_upper_case_is_wrong():
    with pytest.raises(ReferenceInvalidError) as caught:
        parse_reference("docker.io/Foo:1")
    assert caught.value.context["found"] == "docker.io/Foo:1"
    assert "lower case" in caught.value.context["hint"]
    with pytest.raises(ReferenceInvalidError) as caught:
        parse_repository("a..b")
    assert "hint" not in caught.value.context


def test_a_digest_and_a_tag_are_both_kept():
    reference = parse_reference(f"quay.io/x/y:1@{SHA}")
    assert reference.repository == Repository("quay.io", "x/y")
    assert (reference.tag, reference.digest) == ("1", parse_digest(SHA))


def test_a_default_tag_is_given_only_without_tag_and_digest():
    assert parse_reference("x", default_tag="").tag == ""
    assert parse_reference("x", default_tag="edge").tag == "edge"
    assert parse_reference(f"x@{SHA}", default_tag="edge").tag == ""
    assert parse_reference("x:1", default_tag="edge").tag == "1"


def test_a_repository_without_a_host_shows_only_its_path():
    assert str(Repository("", "unnamed/x")) == "unnamed/x"
    assert str(Repository("a.b", "x")) == "a.b/x"


def test_the_longest_repository_has_255_characters():
    assert parse_repository("docker.io/" + "a/" + "b" * 243).path == "a/" + "b" * 243
    with pytest.raises(ReferenceInvalidError):
        parse_repository("docker.io/" + "a/" + "b" * 244)


COMPONENT = st.from_regex(r"[a-z0-9]{1,5}(?:(?:\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)
HOST = st.from_regex(r"(?:[a-zA-Z0-9]{1,8}\.[a-z]{2,3}|localhost)(?::[0-9]{1,5})?", fullmatch=True)
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,30}", fullmatch=True)


@st.composite
def good_names(draw):
    parts = draw(st.lists(COMPONENT, min_size=1, max_size=4))
    host = draw(st.none() | HOST)
    assume(host or len(parts) == 1 or "." not in parts[0])  # a dot makes a host
    tag = draw(st.none() | TAG)
    name = "/".join([*([host] if host else []), *parts])
    return name + (f":{tag}" if tag else "") + draw(st.sampled_from(["", f"@{SHA}"]))


@given(good_names())
def test_a_normalised_name_is_its_own_normal_form(name):
    reference = parse_reference(name)
    assert parse_reference(str(reference)) == reference
    assert is_host(reference.repository.host)
    assert is_path(reference.repository.path)
    assert not reference.tag or is_tag(reference.tag)


@given(st.text(st.sampled_from("aB0.:/@-_[]\n é"), max_size=40) | st.text())
def test_any_text_is_a_name_in_normal_form_or_refused(text):
    try:
        reference = parse_reference(text)
    except ReferenceInvalidError:
        return
    assert parse_reference(str(reference)) == reference
    assert "\n" not in str(reference)


# distribution-spec, "Pulling manifests": <name> and <reference> as a tag
SPEC_NAME = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"
SPEC_TAG = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"
ODD = st.text(st.sampled_from("aZ09._-/:@\n\0 \N{ARABIC-INDIC DIGIT ONE}"), max_size=12)


WORD = st.text("az09", min_size=1, max_size=4)
SEPARATOR = st.sampled_from([".", "_", "__", "-", "--", "------", "/"])
SPEC_NAMES = st.builds(
    lambda first, rest: first + "".join(f"{mark}{word}" for mark, word in rest),
    WORD,
    st.lists(st.tuples(SEPARATOR, WORD), max_size=12),
)


@given(SPEC_NAMES, TAG)
def test_every_name_and_tag_of_the_specification_is_read(name, tag):
    assert re.fullmatch(SPEC_NAME, name)
    reference = parse_reference(f"registry.example:5000/{name}:{tag}")
    assert reference.repository == Repository("registry.example:5000", name)
    assert reference.tag == tag
    assert str(reference) == f"registry.example:5000/{name}:{tag}"


@given(ODD | st.builds(lambda a, b, c: a + b + c, SPEC_NAMES, SEPARATOR, ODD))
def test_a_path_is_what_the_specification_says(text):
    assert is_path(text) is bool(len(text) <= 255 and re.fullmatch(SPEC_NAME, text))


@given(ODD | st.builds(str.__add__, TAG, ODD))
def test_a_tag_is_what_the_specification_says(text):
    assert is_tag(text) is bool(re.fullmatch(SPEC_TAG, text))


@given(good_names(), st.integers(0, 60), ODD)
def test_a_changed_name_is_in_the_grammar_or_refused(name, at, text):
    try:
        reference = parse_reference(name[:at] + text + name[at:])
    except ReferenceInvalidError:
        return
    assert re.fullmatch(SPEC_NAME, reference.repository.path)
    assert not reference.tag or re.fullmatch(SPEC_TAG, reference.tag)
    assert parse_reference(str(reference)) == reference


@pytest.mark.parametrize(
    "text", ["latest", "v1.0", "docker.io/library/x:1", "a@b+c", "a--b", "A/B"]
)
def test_names_that_fit_ref_name(text):
    assert fits_ref_name(text)


@pytest.mark.parametrize("text", ["", "a__b", "a---b", "/a", "a/", "a b", "a\n", "-a", "a-"])
def test_names_that_do_not_fit_ref_name(text):
    assert not fits_ref_name(text)
