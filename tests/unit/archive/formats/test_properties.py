"""Properties of every plan: order and extra members do not matter, and its digests are true."""

from dataclasses import replace
from functools import cache

from hypothesis import assume, given
from hypothesis import strategies as st

from airside.archive.completeness import Judgement, judge
from airside.archive.formats.oci_layout import blob_member
from airside.archive.formats.plan import OCI_LAYOUT, Plan
from airside.archive.formats.platforms import restrict
from airside.archive.writer.docker_archive import docker_members
from airside.archive.writer.oci_archive import oci_members
from airside.core.errors import ArchiveFormatError, ArchiveLimitError, ManifestInvalidError
from airside.oci.model import Manifest
from airside.oci.platform import parse_platform, select_all, select_for, select_listed
from fuzz import planners
from support.images import image_of, index_of, layer_of
from support.members import Members

PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v6", "linux/arm/v7", "windows/amd64")
NAMES = ("a.b/c:1", "a.b/c:2", "d", "e/f:g")
REFUSED = (ManifestInvalidError, ArchiveFormatError, ArchiveLimitError)


@cache
def layer(number, media):
    compression = ("none", "gzip", "none", "zstd", "none")[number]
    return layer_of(b"layer %d of some bytes" % number, compression=compression, media=media)


@st.composite
def images(draw, media):
    chosen = draw(st.lists(st.integers(0, 4), min_size=1, max_size=3, unique=True))
    platform = draw(st.sampled_from(PLATFORMS))
    layers = [layer(number, media) for number in chosen]
    return image_of(layers, platform=platform, media=media, label=draw(st.sampled_from("xyz")))


@st.composite
def archives(draw):
    """A good archive of a few images that share layers, with and without names."""
    form = draw(st.sampled_from(["docker", "skopeo", "oci", "hybrid", "index", "ready"]))
    if form == "ready":
        return draw(st.sampled_from(list(planners.archives())[:5] + list(planners.archives())[6:]))
    media = "docker" if form in {"docker", "skopeo"} else "oci"
    roots = draw(st.lists(images(media), min_size=1, max_size=3, unique_by=lambda i: i.digest))
    if form == "index":
        roots = [index_of(roots)]
    names = draw(st.lists(st.sampled_from(NAMES), max_size=4, unique=True))
    specs = [root.spec(tuple(names[n :: len(roots)])) for n, root in enumerate(roots)]
    if media == "docker":
        return Members.of(docker_members(specs, style=form))
    return Members.of(oci_members(specs, hybrid=form == "hybrid"))


def turned(members, rng):
    files, links = list(members.files.items()), list(members.links.items())
    rng.shuffle(files)
    rng.shuffle(links)
    return Members(dict(files), dict(links))


def judgement_of(members: Members, plan: Plan) -> Judgement:
    sizes = {facts.digest: facts.size_bytes for facts in members.facts().values()}
    sizes |= {digest: len(raw) for digest, raw in plan.made.items()}
    return judge(plan, sizes.get)


@given(archives())
def test_a_good_archive_is_taken_whole(members):
    plan = members.plan()
    judgement = judgement_of(members, plan)
    assert judgement.problems == ()
    assert judgement.images == plan.images
    assert {document.digest for document in judgement.documents} == set(plan.documents)
    planners.check_plan(members, plan)


@given(archives(), st.randoms())
def test_the_order_of_members_does_not_matter(members, rng):
    plan, other = members.plan(), turned(members, rng).plan()
    assert other == plan
    assert judgement_of(members, other) == judgement_of(members, plan)


EXTRA = st.dictionaries(
    st.from_regex(r"(extra/|blobs/sha256/x|[g-z]{3}\.)[a-z.]{1,12}", fullmatch=True),
    st.binary(max_size=40),
    min_size=1,
    max_size=5,
)


@given(archives(), EXTRA, st.randoms())
def test_members_that_nothing_names_change_nothing(members, extra, rng):
    more = turned(replace(members, files={**members.files, **extra}), rng)
    assert more.plan() == members.plan()


@given(archives(), EXTRA)
def test_blobs_that_nothing_names_change_nothing(members, extra):
    blobs = {f"blobs/sha256/{planners.digest_of(raw).hex}": raw for raw in extra.values()}
    assert replace(members, files={**blobs, **members.files}).plan() == members.plan()


@given(archives(), st.data())
def test_a_missing_member_is_named_and_costs_just_what_needs_it(members, data):
    plan = members.plan()
    lost = data.draw(st.sampled_from(members.draft().members))
    less = members.without(lost)
    try:
        left = less.plan()
    except REFUSED:
        return
    planners.check_plan(less, left)
    judgement = judgement_of(less, left)
    digest = members.facts()[lost].digest
    known = plan.documents.get(digest)
    listed = known is None or any(image.root == digest for image in plan.images)
    if listed:  # the document of one platform may be absent
        texts = [problem.blob + problem.reason for problem in judgement.problems]
        assert any(str(digest) in text or lost in text for text in texts) or _linked(members, lost)
        assert judgement.missing
    assert digest not in {d.digest for d in judgement.documents}
    assert digest not in {b.digest for d in judgement.documents for b in d.children} - _listed(plan)


def _linked(members, lost):
    """Returns True for the target of a link: problems have the name of the link."""
    return lost in members.links.values()


def _listed(plan):
    """Returns the digests that indexes list, which may be absent."""
    return {
        child.digest
        for document in plan.documents.values()
        if not isinstance(document.content, Manifest)
        for child in document.children
    }


@given(archives(), st.data())
def test_no_damaged_byte_is_taken(members, data):
    plan = members.plan()
    name = data.draw(st.sampled_from(members.draft().members))
    raw = bytearray(members.files[name])
    assume(raw)
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    damaged = members.with_file(name, bytes(raw))
    try:
        left = damaged.plan()
    except REFUSED:
        return
    planners.check_plan(damaged, left)
    if plan.format == OCI_LAYOUT:  # every blob is named by its digest
        assert all(blob_member(digest) == member for digest, member in left.blobs.items())
        assert any(str(members.facts()[name].digest) in p.blob for p in left.problems)


@given(archives(), st.lists(st.sampled_from(PLATFORMS), min_size=1, max_size=3))
def test_choosing_platforms_takes_away_and_a_second_time_nothing(members, listed):
    plan = members.plan()
    assert restrict(plan, select_all, "all") == plan
    for select in (select_listed(listed), select_for(parse_platform(listed[0]))):
        once = restrict(plan, select, "some")
        again = restrict(once, select, "some")
        assert (again.images, dict(again.documents)) == (once.images, dict(once.documents))
        assert set(once.images) <= set(plan.images)
        assert len(plan.images) - len(once.images) == len(once.unwanted)
        planners.check_plan(members, once)


@given(archives(), st.permutations(PLATFORMS))
def test_all_platforms_one_by_one_are_all(members, order):
    plan = members.plan()
    parts = [restrict(plan, select_listed([each]), each) for each in order]
    assert {d for part in parts for d in part.documents} == set(plan.documents)
    assert {image.root for part in parts for image in part.images} == {i.root for i in plan.images}
