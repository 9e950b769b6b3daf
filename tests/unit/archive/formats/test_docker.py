"""Plans of docker-archives."""

import json

import pytest

from airside.archive.completeness import judge
from airside.archive.formats.docker import DockerDraft
from airside.archive.formats.docker_manifest import (
    SavedImage,
    parse_manifest_json,
    parse_repositories,
)
from airside.archive.formats.plan import DOCKER_ARCHIVE, is_compressed, layer_compression
from airside.archive.writer.docker_archive import docker_members
from airside.core.errors import InputError, ManifestInvalidError
from airside.oci.model import DOCKER_LAYER, DOCKER_LAYER_GZIP, DOCKER_MANIFEST
from airside.oci.platform import Platform
from support.images import (
    TestBlob,
    TestImage,
    compact,
    containerd_manifest,
    image_of,
    random_image,
    random_layer,
    sha256,
)
from support.members import Members
from support.size import sized

NAME = "example.com/app:1"
FULL = {NAME}
EVERY_BIT = sized(False, True)


def archive(*images, style="docker"):
    return Members.of(docker_members([image.spec(names) for image, names in images], style=style))


def one(seed="x", *, names=(NAME,), style="docker", **more):
    image = random_image(seed, layer_bytes=300, media="docker", **more)
    return image, archive((image, names), style=style)


def entries(members):
    return json.loads(members.files["manifest.json"])


def with_entries(members, change):
    """The archive with its `manifest.json` changed, without `repositories`."""
    value = entries(members)
    change(value[0])
    return members.with_file("manifest.json", compact(value)).without("repositories")


def names_of(plan):
    return {str(reference) for image in plan.images for reference in image.references}


# manifest.json


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        None,
        "x",
        [[]],
        [None],
        [{}],
        [{"Config": "c"}],
        [{"Config": "", "Layers": []}],
        [{"Config": 1, "Layers": []}],
        [{"Config": "c", "Layers": "x"}],
        [{"Config": "c", "Layers": [1]}],
        [{"Config": "c", "Layers": [""]}],
        [{"Config": "c", "Layers": [], "RepoTags": "x:1"}],
        [{"Config": "c", "Layers": [], "RepoTags": [None]}],
    ],
    ids=str,
)
def test_a_bad_manifest_json_is_refused(value):
    with pytest.raises(ManifestInvalidError, match=r"manifest\.json"):
        parse_manifest_json(compact(value))


def test_manifest_json_is_read():
    raw = compact(
        [
            {"Config": "./c.json", "Layers": ["a/./layer.tar", "/b//layer.tar"], "RepoTags": None},
            {"Config": "c", "Layers": [], "RepoTags": ["x"], "LayerSources": {}},
        ]
    )
    first, second = parse_manifest_json(raw)
    assert (first.config, first.layers) == ("c.json", ("a/layer.tar", "b/layer.tar"))
    assert (first.names, second.names) == ((), ("x",))


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        ({"Layers": [], "RepoTags": ["a.b/z:1"]}, "a.b/z:1"),
        ({"Config": "c", "Layers": "l", "RepoTags": [3, "a.b/z:1"]}, "a.b/z:1"),
        ({"Config": "c", "Layers": [], "RepoTags": "x"}, ""),
        ([], ""),
    ],
)
def test_an_entry_that_is_wrong_costs_its_own_image(entry, shown):
    image, members = one()
    value = [entry, *entries(members)]
    plan = members.with_file("manifest.json", compact(value)).without("repositories").plan()
    assert names_of(plan) == FULL
    assert plan.images[0].root == sha256(containerd_manifest(image))
    [problem] = plan.problems
    assert problem.image == shown
    assert "manifest.json[0]" in problem.reason


def test_duplicate_keys_are_refused():
    with pytest.raises(ManifestInvalidError):
        parse_manifest_json(b'[{"Config":"a","Config":"b","Layers":[]}]')


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b'{"busybox":{"1":"x","2":"y"}}', ("busybox:1", "busybox:2")),
        (b'{"a.b/none":{"":"x"}}', ("a.b/none",)),
        (b"{}", ()),
        (b"[]", None),
        (b"{", None),
        (b'{"busybox":3}', None),
        (b'{"Bad Name":{"1":"x"}}', ("Bad Name:1",)),
    ],
)
def test_repositories_are_read_or_left_aside(raw, found):
    assert parse_repositories(raw) == found


# A good archive


@pytest.mark.parametrize("style", ["docker", "skopeo"])
def test_the_manifest_is_the_one_that_containerd_builds(style):
    image, members = one(style=style)
    plan = members.plan()
    assert plan.format == DOCKER_ARCHIVE
    assert not plan.problems
    assert names_of(plan) == FULL
    [document] = plan.documents.values()
    assert document.raw == containerd_manifest(image)
    assert document.media_type == DOCKER_MANIFEST
    assert plan.images[0].root == document.digest
    assert plan.platforms == {document.digest: Platform("linux", "amd64")}
    assert set(plan.blobs) == {blob.digest for blob in image.blobs[1:]}
    assert not plan.packed_layers


@pytest.mark.parametrize(
    ("compression", "media_type"),
    [("none", DOCKER_LAYER), ("stored", DOCKER_LAYER_GZIP), ("zstd", DOCKER_LAYER_GZIP)],
)
def test_layer_types_are_those_of_containerd(compression, media_type):
    image, members = one(layers=1, compression=compression)
    plan = members.plan()
    [document] = plan.documents.values()
    assert document.raw == containerd_manifest(image)
    assert [layer.media_type for layer in document.content.layers] == [media_type]
    assert len(plan.packed_layers) == (compression != "none")


def test_other_compressions_have_the_plain_type_and_are_vouched_for_by_the_diff_id():
    layer = random_layer("x", layer_bytes=300)
    packed = type(layer)(b"BZh9" + layer.raw, DOCKER_LAYER, layer.tar)
    image = image_of([packed], media="docker")
    plan = archive((image, (NAME,))).plan()
    [document] = plan.documents.values()
    assert document.raw == containerd_manifest(image)
    [found] = plan.packed_layers
    assert (found.layer, found.diff_id) == (packed.digest, layer.digest)
    assert is_compressed(packed.raw[:16])


def test_images_share_layers_by_links():
    base = [random_layer("base", layer_bytes=300, media="docker")]
    first, second = (image_of(base, media="docker", label=label) for label in "ab")
    members = archive((first, ("a:1",)), (second, ("b:1",)))
    plan = members.plan()
    assert {i.root for i in plan.images} == {
        sha256(containerd_manifest(image)) for image in (first, second)
    }
    assert len(plan.blobs) == 3
    assert not plan.problems


def test_one_image_may_have_many_names_in_many_entries():
    image, members = one()
    value = [{**entries(members)[0], "RepoTags": ["a:1", "b:1"]}]
    value.append({**value[0], "RepoTags": ["b:1", "c:1"]})
    plan = members.with_file("manifest.json", compact(value)).without("repositories").plan()
    [planned] = plan.images
    assert [str(r) for r in planned.references] == [f"docker.io/library/{n}:1" for n in "abc"]
    assert planned.root == sha256(containerd_manifest(image))


@pytest.mark.parametrize("names", [None, []])
def test_an_image_may_have_no_name(names):
    image, members = one()
    members = with_entries(members, lambda entry: entry.update(RepoTags=names))
    [planned] = members.plan().images
    assert planned.references == ()
    assert planned.title == f"{image.config.digest.hex}.json"


def test_an_image_without_layers_or_platform_is_an_image():
    config = TestBlob(b"{}", "")
    members = archive(
        (TestImage(TestBlob(b"", DOCKER_MANIFEST), config, (), Platform("", "")), (NAME,))
    )
    plan = members.without("repositories").plan()
    assert len(plan.images) == 1
    assert not plan.platforms


@pytest.mark.parametrize("form", ["{}.json", "sha256:{}", "blobs/sha256/{}", "{}", "a/b/{}.json"])
def test_the_name_of_the_config_vouches_for_it(form):
    image, members = one()
    name, old = form.format(image.config.digest.hex), f"{image.config.digest.hex}.json"
    good = with_entries(members, lambda entry: entry.update(Config=name)).without(old)
    plan = good.with_file(name, image.config.raw).plan()
    assert (plan.problems, plan.notes) == ((), ())
    bad = good.with_file(name, image.config.raw.replace(b"/bin/true", b"/bin/evil"))
    plan = bad.plan()
    assert not plan.images
    assert plan.problems[0].image == NAME
    assert plan.problems[0].blob == name


def test_a_config_with_any_name_is_read():
    image, members = one()
    members = with_entries(members, lambda entry: entry.update(Config="config.json"))
    plan = members.with_file("config.json", image.config.raw).plan()
    assert len(plan.images) == 1
    assert "config.json is not named by its digest" in plan.notes[0]


# Layers of other makers


FOREIGN = {
    "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "size": 7,
    "digest": f"sha256:{'ab' * 32}",
    "urls": ["https://example.com/layer"],
}


def without_base(source):
    """An archive without its lowest layer, and what `LayerSources` says of it."""
    image, members = one()
    entry = entries(members)[0]
    sources = {str(image.layers[0].diff_id): source, "no digest": source}
    members = with_entries(members, lambda entry: entry.update(LayerSources=sources))
    return image, members.without(entry["Layers"][0])


def test_a_foreign_layer_that_is_absent_is_described_by_its_source():
    image, members = without_base(FOREIGN)
    plan = members.plan()
    assert not plan.problems
    [document] = plan.documents.values()
    layer = json.loads(document.raw)["layers"][0]
    assert layer == FOREIGN
    assert list(layer) == ["mediaType", "digest", "size", "urls"]
    assert set(plan.blobs) == {image.config.digest, image.layers[1].digest}
    assert not plan.lacks_members
    assert not members.judged().problems


@pytest.mark.parametrize("urls", ["absent", None, [], "x", [1]])
def test_urls_of_a_foreign_layer_are_kept_where_they_are_texts(urls):
    source = {key: value for key, value in {**FOREIGN, "urls": urls}.items() if value != "absent"}
    [document] = without_base(source)[1].plan().documents.values()
    assert list(json.loads(document.raw)["layers"][0]) == ["mediaType", "digest", "size"]


@pytest.mark.parametrize(
    "source",
    [None, [], {}, {**FOREIGN, "digest": "x"}, {**FOREIGN, "mediaType": DOCKER_LAYER_GZIP}],
    ids=str,
)
def test_a_layer_that_is_not_foreign_must_be_there(source):
    plan = without_base(source)[1].plan()
    assert not plan.images
    assert plan.lacks_members


def test_layer_sources_change_nothing_where_the_layers_are_there():
    image, members = one()
    sources = {str(layer.diff_id): FOREIGN for layer in image.layers}
    plan = with_entries(members, lambda entry: entry.update(LayerSources=sources)).plan()
    assert [d.raw for d in plan.documents.values()] == [containerd_manifest(image)]
    broken = with_entries(members, lambda entry: entry.update(LayerSources=["x"]))
    assert not broken.plan().problems


def test_paths_of_docker_for_windows_are_understood():
    image, members = one()
    paths = [path.replace("/", "\\") for path in entries(members)[0]["Layers"]]
    plan = with_entries(members, lambda entry: entry.update(Layers=paths)).plan()
    assert [d.raw for d in plan.documents.values()] == [containerd_manifest(image)]


def test_a_layer_that_was_left_out_for_a_daemon_is_told():
    _, members = one()
    path = entries(members)[0]["Layers"][0]
    plan = members.with_file(path, b"").plan()
    assert not plan.images
    assert "left out for a daemon" in plan.problems[0].reason


@pytest.mark.parametrize(
    ("head", "method"),
    [
        (b"\x1f\x8b\x08", "gzip"),
        (b"\x1f\x8b\x07", ""),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\x50\x2a\x4d\x18\4\0\0\0", "zstd"),
        (b"\x5f\x2a\x4d\x18\4\0\0\0", "zstd"),
        (b"\x60\x2a\x4d\x18\4\0\0\0", ""),
        (b"BZh9", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"", ""),
    ],
)
def test_compressions_of_layers_are_told_by_their_first_bytes(head, method):
    assert layer_compression(head) == method
    assert is_compressed(head) is bool(method)


# Damage


def test_a_damaged_layer_rejects_its_image_and_no_other():
    first, second = (random_image(n, layer_bytes=300, media="docker") for n in "ab")
    members = archive((first, ("a:1",)), (second, ("b:1",)))
    path = entries(members)[0]["Layers"][1]
    damaged = bytearray(members.files[path])
    damaged[600] ^= 1
    plan = members.with_file(path, bytes(damaged)).plan()
    assert names_of(plan) == {"docker.io/library/b:1"}
    [problem] = plan.problems
    assert (problem.image, problem.blob) == ("a:1", path)


def test_missing_members_are_named_three_at_most():
    _, members = one(layers=5)
    paths = entries(members)[0]["Layers"]
    plan = members.without(*paths).plan()
    assert not plan.images
    assert [problem.blob for problem in plan.problems] == paths[:3]
    assert {problem.image for problem in plan.problems} == {NAME}


def test_a_missing_config_is_named():
    image, members = one()
    name = f"{image.config.digest.hex}.json"
    members = members.without(name)
    assert [problem.blob for problem in members.plan().problems] == [name]
    assert members.draft().expected(members.read) == {name: image.config.digest}


def test_as_many_diff_ids_as_layers_are_asked_for():
    _, members = one()
    plan = with_entries(members, lambda entry: entry["Layers"].pop()).plan()
    assert not plan.images
    assert "2 diff IDs for 1 layers" in plan.problems[0].reason


def test_a_config_that_is_no_json_is_a_problem_of_its_image():
    _, members = one()
    members = with_entries(members, lambda entry: entry.update(Config="c"))
    members = members.with_file("c", b"{")
    plan = members.plan()
    assert not plan.images
    assert plan.problems[0].image == NAME
    assert members.draft().expected(members.read) == {}


# Names


@pytest.mark.parametrize("bad", ["Bad Name", "x:", "x@sha256:ab"])
def test_a_bad_name_fails_that_name_only(bad):
    _, members = one()
    members = with_entries(members, lambda entry: entry.update(RepoTags=[bad, "good:1"]))
    plan = members.plan()
    assert names_of(plan) == {"docker.io/library/good:1"}
    assert [problem.image for problem in plan.problems] == [bad]


def test_a_name_that_repositories_lacks_is_not_believed():
    _, members = one(names=(NAME, "example.com/other:1"))
    value = entries(members)
    value[0]["RepoTags"][0] = "example.com/apq:1"
    plan = members.with_file("manifest.json", compact(value)).plan()
    assert names_of(plan) == {"example.com/other:1"}
    assert {problem.image for problem in plan.problems} == {"example.com/apq:1", NAME}


def test_a_name_that_only_repositories_has_is_a_problem():
    _, members = one()
    value = entries(members)
    value[0]["RepoTagz"] = value[0].pop("RepoTags")
    plan = members.with_file("manifest.json", compact(value)).plan()
    assert names_of(plan) == set()
    assert [problem.image for problem in plan.problems] == [NAME]


def test_a_name_of_two_images_counts_only_where_no_name_was_lost():
    first, second = (random_image(n, layer_bytes=300, media="docker") for n in "ab")
    members = archive((first, ("a.b/x:2",)), (second, ("a.b/x:3",)))
    value = entries(members)
    value[0]["RepoTags"] = ["a.b/x:3"]
    plan = members.with_file("manifest.json", compact(value)).plan()
    assert names_of(plan) == set()
    assert {problem.image for problem in plan.problems} == {"a.b/x:2", "a.b/x:3"}
    both = archive((first, ("a.b/x:3",)), (second, ("a.b/x:3",)))
    assert names_of(both.plan()) == {"a.b/x:3"}
    assert not both.plan().problems


@pytest.mark.parametrize(
    ("repo_tags", "names"),
    [
        (["mirror.example/team/app:2"], {"mirror.example/team/app:2"}),  # renamed by hand
        ([NAME, "mirror.example/app:2"], {NAME, "mirror.example/app:2"}),
        ([f"{NAME}@sha256:{'ab' * 32}"], {NAME}),
    ],
)
def test_names_that_repositories_says_differently_are_those_of_manifest_json(repo_tags, names):
    _, members = one()
    plan = with_entries(members, lambda entry: entry.update(RepoTags=repo_tags)).plan()
    assert (set(names_of(plan)), plan.problems) == (names, ())
    assert "damaged" not in " ".join(plan.notes)


def test_a_text_in_repositories_that_is_no_name_is_damage_only_near_one():
    _, members = one()
    for text, is_told in ((NAME.replace("app", "aPp"), True), ("Any Thing:1", False)):
        name, _, tag = text.rpartition(":")
        raw = compact({**json.loads(members.files["repositories"]), name: {tag: "x"}})
        plan = members.with_file("repositories", raw).plan()
        assert set(names_of(plan)) == FULL
        assert not plan.problems
        only = members.with_file("repositories", compact({name: {tag: "x"}})).plan()
        assert bool(only.problems) == is_told


def test_a_name_by_digest_is_that_of_the_manifest_that_is_built():
    _, members = one()
    name = f"a.b/app@sha256:{'ab' * 32}"
    members = with_entries(members, lambda entry: entry.update(RepoTags=[name]))
    [planned] = members.without("repositories").plan().images
    assert [str(each) for each in planned.references] == [f"a.b/app@{planned.root}"]


@pytest.mark.parametrize("style", ["docker", "skopeo"])
def test_every_flipped_bit_in_a_name_with_two_records_is_found(style):
    _, members = one(names=(NAME, "busybox:1.36"), style=style)
    missed = []
    for member in ("manifest.json", "repositories"):
        raw = members.files[member]
        for text in (NAME, *NAME.rpartition(":")[::2], "busybox", "1.36", "busybox:1.36"):
            start = raw.find(b'"' + text.encode() + b'"') + 1
            for position in range(start, start + len(text)) if start else ():
                for bit in range(8) if EVERY_BIT else (position % 8, (position + 3) % 8):
                    data = bytearray(raw)
                    data[position] ^= 1 << bit
                    missed += _missed(members.with_file(member, bytes(data)))
    assert not missed


def _missed(members):
    try:
        plan = members.plan()
    except InputError:
        return []
    is_found = set(names_of(plan)) <= {NAME, "docker.io/library/busybox:1.36"} and plan.problems
    return [] if is_found else [names_of(plan)]


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"{", b'{"busybox":3}'])
def test_repositories_that_say_nothing_are_left_aside(raw):
    _, members = one()
    plan = members.with_file("repositories", raw).plan()
    assert set(names_of(plan)) == FULL
    assert bool(plan.problems) == (raw[:1] == b"{" and raw != b"{}")


# Before reading


def test_what_members_should_hash_to_is_known_from_the_config():
    image, members = one(style="skopeo")
    draft = members.draft()
    assert set(draft.members) == {f"{image.config.digest.hex}.json"} | {
        f"{layer.diff_id.hex}.tar" for layer in image.layers
    }
    expected = draft.expected(members.read)
    assert expected == {name: members.facts()[name].digest for name in draft.members}


def test_only_needed_members_are_asked_for():
    _, members = one()
    wanted = members.draft().members
    assert len(wanted) == len(set(wanted)) == 3
    assert not [name for name in wanted if name.endswith(("VERSION", "/json"))]


def test_a_config_that_two_entries_name_is_read_once():
    _, members = one()
    value = [*entries(members), {**entries(members)[0], "RepoTags": ["a.b/c:1"]}]
    members = members.with_file("manifest.json", compact(value))
    read = []

    def counted(name):
        read.append(name)
        return members.read(name)

    expected = members.draft().expected(counted)
    assert expected == {name: members.facts()[name].digest for name in members.draft().members}
    assert len(read) == len(set(read))


def test_plan_says_that_members_are_not_there_yet():
    image = SavedImage("c.json", ("layer.tar",), ("a:1",))
    draft = DockerDraft((image,), {}, frozenset({"c.json", "layer.tar"}))
    plan = draft.assemble({}, dict[str, bytes]().__getitem__)
    assert plan.lacks_members
    assert judge(plan, lambda _digest: None).missing
