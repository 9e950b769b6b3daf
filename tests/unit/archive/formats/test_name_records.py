# ruff: noqa: E501 - a table of names
"""Names that several records of an archive give: lawful forms are accepted, flipped bits are found.

Each row of `LAWFUL` is what a tool writes. `docs/formats.md` has the table of what counts.
"""

import json

import pytest

from airside.archive.formats import name_records
from airside.archive.formats.entry_names import name_of
from airside.archive.formats.index_json import IMAGE_NAME, REF_NAME
from airside.archive.formats.name_records import is_form_of, may_be_flipped, read_name
from airside.archive.writer.oci_archive import oci_members
from airside.core.errors import InputError, ReferenceInvalidError
from support.images import compact, random_image, random_index
from support.members import Members
from support.size import sized

IMAGE, INDEX = random_image("names", layer_bytes=300), random_index("names", layer_bytes=300)
D = str(IMAGE.digest)
EVERY_BIT = sized(False, True)
OLD = f"sha256:{'3e' * 32}"

LAWFUL = {
    # tool: (io.containerd.image.name, ref.name, RepoTags, the names of the image)
    "docker save": ("docker.io/library/app:1.27", "1.27", ["app:1.27"], ["docker.io/library/app:1.27"]),
    "ctr images export": ("quay.io/t/app:1.2", "1.2", ["quay.io/t/app:1.2"], ["quay.io/t/app:1.2"]),
    "nerdctl save": ("quay.io/t/app:1.2", "1.2", None, ["quay.io/t/app:1.2"]),
    "ctr export of a digest": (f"quay.io/t/app@{D}", f"@{D}", None, [f"quay.io/t/app@{D}"]),
    "ctr 2.3 export of a digest": (f"quay.io/t/app@{D}", f"quay.io/t/app@{D}", None, [f"quay.io/t/app@{D}"]),
    "kubelet's name": (f"quay.io/t/app:1@{D}", f"1@{D}", ["quay.io/t/app:1"], ["quay.io/t/app:1"]),
    "buildkit": ("docker.io/t/app:v1", "v1", ["t/app:v1"], ["docker.io/t/app:v1"]),
    "hauler": ("quay.io/team/app:1.2", "team/app:1.2", ["quay.io/team/app:1.2"], ["quay.io/team/app:1.2"]),
    "hauler without manifest.json": ("ghcr.io/team/app:2", "team/app:2", None, ["ghcr.io/team/app:2"]),
    "name without namespace": ("reg.example:5000/a/b/app:2", "app:2", None, ["reg.example:5000/a/b/app:2"]),
    "regctl of a digest": (f"quay.io/t/app@{D}", "", ["quay.io/t/app:latest"], [f"quay.io/t/app@{D}"]),
    "regctl of a layout": ("ocidir://helm3:3.8.2", "3.8.2", ["localhost/helm3:3.8.2"], ["localhost/helm3:3.8.2"]),
    "regctl of a layout by path": ("ocidir:///srv/img:3", "3", ["localhost/srv/img:3"], ["localhost/srv/img:3"]),
    "digest, and a tag made of it": (
        f"quay.io/t/app@{D}", "", [f"quay.io/t/app:sha256-{D[7:]}"],
        [f"quay.io/t/app@{D}", f"quay.io/t/app:sha256-{D[7:]}"],
    ),
    "skopeo's transport": ("docker://quay.io/t/app:1", "", None, ["quay.io/t/app:1"]),
    "helm's transport": ("", "oci://quay.io/t/chart:1", None, ["quay.io/t/chart:1"]),
    "docker-daemon:": ("docker-daemon:quay.io/t/app:1", "1", ["quay.io/t/app:1"], ["quay.io/t/app:1"]),
    "containers-storage:": ("", "containers-storage:[overlay@/v]quay.io/t/app:1", None, ["quay.io/t/app:1"]),
    "oci-archive:": ("oci-archive:/tmp/app.tar:1", "", ["quay.io/t/app:1"], ["quay.io/t/app:1"]),
    "converted": (f"quay.io/t/app:1@{OLD}", f"1@{OLD}", ["quay.io/t/app:1"], ["quay.io/t/app:1"]),
    "converted, by digest": (f"quay.io/t/app@{OLD}", f"@{OLD}", None, [f"quay.io/t/app@{D}"]),
    "podman, oras with names": ("", "quay.io/t/app:1", None, ["quay.io/t/app:1"]),
    "a tag beside a whole name": ("", "1.27", ["quay.io/t/app:1.27"], ["quay.io/t/app:1.27"]),
    "no registry beside a whole name": ("", "team/app:1", ["quay.io/team/app:1"], ["quay.io/team/app:1"]),
    "only manifest.json": ("", "", ["quay.io/t/app:1"], ["quay.io/t/app:1"]),
    "no registry in manifest.json": ("quay.io/t/app:1", "1", ["t/app:1"], ["quay.io/t/app:1"]),
    "no registry in the first": ("t/app:1", "quay.io/t/app:1", None, ["quay.io/t/app:1"]),
    "no registry in the index": ("t/app:1", "1", ["quay.io/t/app:1"], ["quay.io/t/app:1"]),
    "no tag in ref.name": ("quay.io/t/app:1.2", "quay.io/t/app", None, ["quay.io/t/app:1.2"]),
    "an image ID": (OLD, OLD, None, []),
    "an image ID beside a name": ("quay.io/t/app:1", OLD, None, ["quay.io/t/app:1"]),
    "another tag": ("quay.io/t/app:1.2", "stable", None, ["quay.io/t/app:1.2"]),
    "a free text": ("quay.io/t/app:1.2", "Application of Team T", None, ["quay.io/t/app:1.2"]),
    "a second name": (
        "quay.io/t/app:1.2", "1.2", ["quay.io/t/app:1.2", "mirror.example/app:1.2"],
        ["mirror.example/app:1.2", "quay.io/t/app:1.2"],
    ),
    "another name alone": (
        "quay.io/t/app:1.2", "1.2", ["mirror.example/team/app:1.2"],
        ["mirror.example/team/app:1.2", "quay.io/t/app:1.2"],
    ),
}  # fmt: skip
TWICE = [
    "docker save", "ctr images export", "hauler", "regctl of a digest", "regctl of a layout",
    "kubelet's name", "buildkit", "digest, and a tag made of it", "docker-daemon:", "converted",
]  # fmt: skip


def archive(full, ref_name, repo_tags, image=IMAGE):
    members = Members.of(oci_members([image.spec(("x.y/z:1",))], hybrid=True))
    value = json.loads(members.files["index.json"])
    texts = {IMAGE_NAME: full, REF_NAME: ref_name}
    value["manifests"][0]["annotations"] = {key: text for key, text in texts.items() if text}
    members = members.with_file("index.json", compact(value))
    if repo_tags is None:
        return members.without("manifest.json")
    saved = json.loads(members.files["manifest.json"])
    for entry in saved:
        entry["RepoTags"] = repo_tags
    return members.with_file("manifest.json", compact(saved))


def names_of(plan):
    return sorted(str(reference) for image in plan.images for reference in image.references)


@pytest.mark.parametrize("tool", LAWFUL)
def test_what_tools_write_is_never_called_damaged(tool):
    full, ref_name, repo_tags, names = LAWFUL[tool]
    plan = archive(full, ref_name, repo_tags).plan()
    assert (names_of(plan), plan.problems) == (sorted(names), ())
    assert len(plan.images) == 1
    assert "damaged" not in " ".join(plan.notes)


@pytest.mark.parametrize(
    "tool", ["hauler", "docker save", "regctl of a layout", "only manifest.json"]
)
def test_the_names_of_an_index_are_compared_with_those_of_its_platforms(tool):
    full, ref_name, repo_tags, names = LAWFUL[tool]
    plan = archive(full, ref_name, repo_tags, INDEX).plan()
    assert (names_of(plan), plan.problems) == (sorted(names), ())
    assert [image.root for image in plan.images] == [INDEX.digest]


def test_a_name_that_only_one_platform_has_is_that_of_its_manifest():
    members = archive("quay.io/t/app:1", "1", ["quay.io/t/app:1"], INDEX)
    saved = [
        {
            "Config": f"blobs/sha256/{each.config.digest.hex}",
            "RepoTags": ["quay.io/t/app:1"],
            "Layers": [],
        }
        for each in INDEX.images
    ]
    saved[1]["RepoTags"].append("quay.io/t/app:1-other")
    plan = members.with_file("manifest.json", compact(saved)).plan()
    named = {str(r): image.root for image in plan.images for r in image.references}
    other = INDEX.images[1].digest
    assert named == {"quay.io/t/app:1": INDEX.digest, "quay.io/t/app:1-other": other}
    assert not plan.problems


@pytest.mark.parametrize("tool", TWICE)
def test_every_flipped_bit_in_a_name_with_two_records_is_found(tool):
    """In any of the names: the archive is refused or has a problem; no other name is created."""
    full, ref_name, repo_tags, names = LAWFUL[tool]
    whole = archive(full, ref_name, repo_tags)
    members = {"index.json": [full, ref_name], "manifest.json": repo_tags}
    missed = []
    for member, texts in members.items():
        raw = whole.files[member]
        for text in filter(None, texts):
            start = raw.index(json.dumps(text).encode()) + 1
            for position in range(start, start + len(text)):
                for bit in range(8) if EVERY_BIT else (position % 8, (position + 3) % 8):
                    missed += _missed(whole, member, position, bit, names)
    assert not missed


def _missed(whole, member, position, bit, names):
    data = bytearray(whole.files[member])
    data[position] ^= 1 << bit
    try:
        plan = whole.with_file(member, bytes(data)).plan()
    except InputError:
        return []
    found = set(names_of(plan))
    is_same = found <= set(names) and bool(plan.problems)
    return [] if is_same else [(member, bytes(data)[position - 20 : position + 20], found)]


@pytest.mark.parametrize("key", [IMAGE_NAME, REF_NAME])
def test_a_damaged_key_of_a_name_is_found(key):
    annotations = {IMAGE_NAME: "quay.io/team/app:1", REF_NAME: "team/app:1"}
    for position in range(len(key)):
        text = key[:position] + chr(ord(key[position]) ^ 1) + key[position + 1 :]
        damaged = {text if name == key else name: value for name, value in annotations.items()}
        with pytest.raises(ReferenceInvalidError):
            name_of(damaged)


@pytest.mark.parametrize(
    ("one", "other", "is_near"),
    [
        ("a.b/c:1", "a.b/c:1", False),
        ("a.b/c:1", "a.b/c:3", True),
        ("a.b/c:1", "a/b/c:1", True),
        ("1", "a.b/c:1", False),
        ("c:1", "a.b/c:1", False),
        ("c:1", "a.b.c:1", True),  # the slash before it
        ("quay.io/t/a:1", "ghcr.io/t/a:1", False),
        ("HOSTL/a:1", "HOST/a:1", True),  # the letter became a backslash, which JSON drops
        ("", "a.b/c:1", False),
    ],
)
def test_texts_that_one_flipped_bit_apart(one, other, is_near):
    assert may_be_flipped(one, other) == may_be_flipped(other, one) == is_near


@pytest.mark.parametrize(
    ("text", "name", "tag"),
    [
        ("docker:27", "docker.io/library/docker:27", ""),  # names that look like transports
        ("oci:1", "docker.io/library/oci:1", ""),
        ("dir", "docker.io/library/dir:latest", ""),
        ("registry://quay.io/a/b:1", "quay.io/a/b:1", ""),
        ("https://quay.io/a/b:1", "quay.io/a/b:1", ""),
        ("docker-archive:/a/b.tar:c:1", None, "1"),
        ("oci:/a/layout:1", None, "1"),
        ("dir:/a/b", None, ""),
        ("unheard-of://a/b:2", None, "2"),
    ],
)
def test_transports_are_read_off_names(text, name, tag):
    found = read_name(text, may_be_tag=False)
    assert (found.reference and str(found.reference), found.tag) == (name, tag)


@pytest.mark.parametrize("text", ["dockes://a.b/c:1", "ocidis://a:1", "Bad/Name", "docker://Bad/N"])
def test_texts_that_are_no_names_are_refused(text):
    with pytest.raises(ReferenceInvalidError):
        read_name(text, may_be_tag=False)


def test_forms_of_a_name():
    name = f"a.b/c/d:1@{OLD}"
    for form in (name, f"1@{OLD}", f"d:1@{OLD}", f"c/d:1@{OLD}", OLD):
        assert is_form_of(form, name)
    assert not is_form_of("b/c/d:1", "a.b/c/d:1")


def test_many_names_that_differ_are_compared_up_to_a_number_of_pairs(monkeypatch):
    compared = []
    monkeypatch.setattr(
        name_records, "may_be_flipped", lambda one, other: bool(compared.append((one, other)))
    )
    names = [(f"a.b/c:{n}",) for n in range(10_000)]
    assert name_records.flipped_pairs(names, names) == []
    assert name_records.flipped_pairs(names[:1], names) == []
    assert name_records.flipped_pairs([], names) == []
    assert len(compared) <= 3 * 1_024
