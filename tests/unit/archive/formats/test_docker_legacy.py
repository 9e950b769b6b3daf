"""Plans of archives of Docker before 1.10."""

import json

import pytest

from airside.archive.formats.allowance import Allowance
from airside.archive.formats.detect import make_draft
from airside.archive.formats.docker_legacy import NOTE, is_legacy
from airside.archive.formats.plan import DOCKER_ARCHIVE
from airside.core.errors import ArchiveFormatError, ArchiveLimitError, ManifestInvalidError
from airside.core.settings import Limits
from airside.oci.model import parse_config
from airside.oci.platform import Platform
from support.images import compact, sha256
from support.makers import V1Step, v1_config, v1_manifest, v1_members, v1_steps
from support.members import Members

BASE = v1_steps("base", layer_bytes=300)
APP = (*BASE, *v1_steps("app", layers=1, layer_bytes=300))
OTHER = (*BASE, *v1_steps("other", layers=1, layer_bytes=300))


def archive(images, **more):
    return Members.of(v1_members(images, **more))


def ids(steps):
    """The IDs of a chain, lowest first."""
    found = []
    for step in steps:
        found.append(step.id(found[-1] if found else ""))
    return found


def names_of(plan):
    return {str(reference): image.root for image in plan.images for reference in image.references}


def changed(members, v1_id, **changes):
    """The archive with fields of one `json` changed; None leaves one out."""
    value = json.loads(members.files[f"{v1_id}/json"]) | changes
    value = {key: item for key, item in value.items() if item is not None}
    return members.with_file(f"{v1_id}/json", compact(value))


def chain_of(length):
    """An archive of one image with so many empty layers."""
    steps = [V1Step(b"", {"Size": number}) for number in range(length)]
    return steps, archive({("deep:1",): steps})


# Good archives


def test_config_and_manifest_are_made_of_the_chain():
    members = archive({("app:1", "a.b/c:2"): APP, ("other:1",): OTHER})
    plan = members.plan()
    assert plan.format == DOCKER_ARCHIVE
    assert (plan.problems, plan.notes, plan.lacks_members) == ((), (NOTE,), False)
    app, other = sha256(v1_manifest(APP)), sha256(v1_manifest(OTHER))
    assert names_of(plan) == {
        "docker.io/library/app:1": app,
        "a.b/c:2": app,
        "docker.io/library/other:1": other,
    }
    assert {d.raw for d in plan.documents.values()} == {v1_manifest(APP), v1_manifest(OTHER)}
    assert set(plan.made.values()) == {v1_config(APP), v1_config(OTHER)}
    assert set(plan.blobs) == {sha256(step.tar) for step in (*APP, *OTHER)}
    assert plan.platforms == {d: Platform("linux", "amd64") for d in (app, other)}


def test_the_same_archive_gives_the_same_digests_in_any_order():
    members = archive({("app:1",): APP, ("other:1",): OTHER})
    backwards = Members(dict(reversed(members.files.items())))
    assert names_of(members.plan()) == names_of(backwards.plan())


def test_what_is_needed_is_each_layer_once():
    draft = archive({("app:1",): APP, ("other:1",): OTHER}).draft()
    assert len(draft.members) == len(set(draft.members)) == 4
    assert draft.expected(lambda _name: b"") == {}


def test_images_without_names_are_those_that_are_no_parent():
    plan = archive({("app:1",): APP, ("other:1",): OTHER}, repositories=False).plan()
    assert names_of(plan) == {}
    assert {i.root for i in plan.images} == {sha256(v1_manifest(s)) for s in (APP, OTHER)}
    assert {i.shown for i in plan.images} == {ids(APP)[-1], ids(OTHER)[-1]}
    plan = archive({("base:1",): BASE, (): APP}).plan()
    assert len(plan.images) == 2
    assert names_of(plan) == {"docker.io/library/base:1": sha256(v1_manifest(BASE))}


def test_two_ids_of_one_image_are_one_image():
    twin = V1Step(BASE[0].tar, {**BASE[0].fields, "Size": 1})
    plan = archive({("a:1",): BASE[:1], ("b:1",): [twin]}).plan()
    [image] = plan.images
    assert [str(r) for r in image.references] == [f"docker.io/library/{n}:1" for n in "ab"]


def test_layers_may_be_links():
    members = archive({("app:1",): APP})
    first, second = (f"{v1_id}/layer.tar" for v1_id in ids(APP)[:2])
    linked = Members(members.without(second).files, {second: first})
    plan = linked.plan()
    diff_ids = parse_config(next(iter(plan.made.values())), "x").diff_ids
    assert diff_ids[0] == diff_ids[1] == sha256(APP[0].tar)


def test_a_step_that_changed_nothing_needs_no_layer():
    steps = [*BASE, V1Step(b"", {**BASE[0].fields, "throwaway": True})]
    members = archive({("a:1",): steps})
    members = members.without(f"{ids(steps)[-1]}/layer.tar")
    plan = members.plan()
    assert not plan.problems
    config = json.loads(next(iter(plan.made.values())))
    assert len(config["rootfs"]["diff_ids"]) == 2
    assert [entry.get("empty_layer") for entry in config["history"]] == [None, None, True]
    assert "throwaway" not in config


def test_history_has_only_what_is_known():
    fields = {"container_config": {"Cmd": "sh"}, "author": 3, "comment": "c", "created": None}
    steps = [V1Step(b"x", fields), V1Step(b"y", {"container_config": None})]
    plan = archive({("a:1",): steps}).plan()
    config = json.loads(next(iter(plan.made.values())))
    assert config["history"] == [{"created_by": "sh", "comment": "c"}, {}]
    assert not plan.platforms


# Which archives these are


def test_a_config_beside_them_means_that_manifest_json_is_lost():
    members = archive({("app:1",): APP}).with_file(f"{'ab' * 32}.json", b"{}")
    assert not is_legacy(frozenset(members.files))
    with pytest.raises(ArchiveFormatError, match="lacks what that member names"):
        members.draft()


def test_manifest_json_goes_first():
    members = archive({("app:1",): APP})
    entry = {"Config": "c", "RepoTags": ["x:1"], "Layers": []}
    members = members.with_file("manifest.json", compact([entry])).with_file("c", b"{}")
    assert NOTE not in members.plan().notes


# Damage


@pytest.mark.parametrize("member", ["json", "layer.tar"])
def test_a_missing_member_is_named_for_each_image_that_needs_it(member):
    members = archive({("app:1",): APP, ("other:1",): OTHER, ("base:1",): BASE[:1]})
    lost = f"{ids(BASE)[1]}/{member}"
    plan = members.without(lost).plan()
    assert set(names_of(plan)) == {"docker.io/library/base:1"}
    assert {(p.image, p.blob) for p in plan.problems} == {
        ("docker.io/library/app:1", lost),
        ("docker.io/library/other:1", lost),
    }
    assert plan.lacks_members


@pytest.mark.parametrize(
    "raw", [b"{", b"[]", b"3", b'{"parent":3}', b'{"id":"other"}', b'{"id":"","parent":""}']
)
def test_a_bad_json_is_a_problem_of_the_images_above_it(raw):
    members = archive({("app:1",): APP, ("base:1",): BASE[:1]})
    bad = f"{ids(APP)[1]}/json"
    plan = members.with_file(bad, raw).plan()
    assert set(names_of(plan)) == {"docker.io/library/base:1"}
    assert {(p.image, p.blob) for p in plan.problems} == {("docker.io/library/app:1", bad)}
    assert not plan.lacks_members


def test_a_circle_of_parents_ends():
    members = archive({("app:1",): APP, ("other:1",): OTHER})
    lowest, above, *_ = ids(APP)
    plan = changed(members, lowest, parent=above).plan()
    assert not plan.images
    assert {problem.image for problem in plan.problems} == {
        "docker.io/library/app:1",
        "docker.io/library/other:1",
    }


def test_chains_are_as_long_as_the_limit_and_no_longer():
    steps, members = chain_of(513)
    plan = members.plan()
    assert not plan.images
    assert "512" in plan.problems[0].reason
    value = {"deep": {"1": ids(steps)[-1], "2": ids(steps)[-2], "3": ids(steps)[9]}}
    plan = members.with_file("repositories", compact(value)).plan()
    assert set(names_of(plan)) == {f"docker.io/library/deep:{n}" for n in "23"}


def test_what_is_made_is_bounded():
    _, members = chain_of(100)
    size = sum(len(raw) for name, raw in members.files.items() if name.endswith("/json"))

    def plan(documents_bytes):
        draft = make_draft(
            files=frozenset(members.files),
            links={},
            read=members.read,
            held=lambda _digest: None,
            allowance=Allowance(Limits(documents_bytes=documents_bytes)),
        )
        facts = members.facts()
        return draft.assemble({name: facts[name] for name in draft.members}, members.read)

    for too_small in (size - 1, size):
        with pytest.raises(ArchiveLimitError, match=r"limits\.documents_bytes"):
            plan(too_small)
    assert plan(1 << 20).images


def test_a_compressed_layer_is_no_layer_of_this_form():
    members = archive({("app:1",): APP})
    layer = f"{ids(APP)[0]}/layer.tar"
    plan = members.with_file(layer, b"\x1f\x8b\x08" + bytes(20)).plan()
    assert not plan.images
    assert [problem.blob for problem in plan.problems] == [layer]


# Names


@pytest.mark.parametrize("raw", [b"{", b"[]", b'{"a":3}', b'{"a":["1"]}', b'{"a":{},"a":{}}'])
def test_bad_repositories_are_refused(raw):
    with pytest.raises(ManifestInvalidError, match="repositories"):
        archive({("app:1",): APP}).with_file("repositories", raw).draft()


@pytest.mark.parametrize(
    "tags", [{"Bad Name": {"1": "x"}}, {"a": {"": "x"}}, {"a": {"1": 3}}, {"a": {"1@x": "x"}}]
)
def test_a_bad_name_fails_that_name_only(tags):
    good = {"good": {"1": ids(APP)[-1]}}
    members = archive({("app:1",): APP}).with_file("repositories", compact({**good, **tags}))
    plan = members.plan()
    assert set(names_of(plan)) == {"docker.io/library/good:1"}
    assert len(plan.problems) == 1


def test_a_name_of_an_image_that_is_not_there_is_a_problem():
    value = {"good": {"1": ids(APP)[-1]}, "bad": {"1": "no ID"}}
    plan = archive({("x:1",): APP}).with_file("repositories", compact(value)).plan()
    assert set(names_of(plan)) == {"docker.io/library/good:1"}
    assert [problem.image for problem in plan.problems] == ["docker.io/library/bad:1"]


def test_one_name_may_be_written_in_two_ways():
    top = ids(APP)[-1]
    value = {"busybox": {"1": top}, "docker.io/library/busybox": {"1": top}}
    plan = archive({("x:1",): APP}).with_file("repositories", compact(value)).plan()
    assert [len(image.references) for image in plan.images] == [1]


def test_a_tag_that_points_at_the_empty_id_is_a_problem():
    members = archive({("app:1",): APP})
    plan = members.with_file("repositories", compact({"a.b/c": {"1": ""}})).plan()
    assert [problem.image for problem in plan.problems] == ["a.b/c:1"]
    assert [image.references for image in plan.images] == [()]
