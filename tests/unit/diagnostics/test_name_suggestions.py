from hypothesis import given
from hypothesis import strategies as st

from airside.diagnostics.name_suggestions import nearest_names
from airside.oci.reference import parse_reference

NAMES = [
    parse_reference(text)
    for text in (
        "docker.io/rancher/mirrored-pause:3.6",
        "docker.io/rancher/mirrored-pause:3.9",
        "registry.example/rancher/mirrored-pause:3.6",
        "quay.io/other/mirrored-pause:3.6",
        "docker.io/library/busybox:1.36",
        "docker.io/library/nginx:latest",
    )
]


def near(text):
    return nearest_names(parse_reference(text), NAMES)


def test_other_tags_come_before_other_registries_before_other_paths():
    assert near("rancher/mirrored-pause:3.7") == [
        "docker.io/rancher/mirrored-pause:3.6",
        "docker.io/rancher/mirrored-pause:3.9",
        "registry.example/rancher/mirrored-pause:3.6",
        "quay.io/other/mirrored-pause:3.6",
    ]


def test_a_slip_of_the_finger_is_found():
    assert near("bussybox:1.36") == ["docker.io/library/busybox:1.36"]
    assert near("ngnix") == ["docker.io/library/nginx:latest"]
    assert near("gninx") == ["docker.io/library/nginx:latest"]
    assert near("something/else/entirely:1") == []


def test_what_only_lies_in_the_same_place_is_not_near():
    beside = [parse_reference("registry.example/team/ok:1")]
    assert nearest_names(parse_reference("registry.example/team/worker:3"), beside) == []


@given(st.lists(st.sampled_from(NAMES), unique=True), st.sampled_from(NAMES))
def test_at_most_five_each_once_and_none_that_is_not_here(names, wanted):
    found = nearest_names(wanted, names)
    assert len(found) <= 5
    assert len(set(found)) == len(found)
    assert set(found) <= {str(name) for name in names}
