"""Tag policy: which version a tag points at."""

from hypothesis import given
from hypothesis import strategies as st

from airside.catalog.tag_policy import Claim, ClaimedPart, Decision, Rollback, decide_tag

CLAIMS = st.lists(
    st.builds(
        Claim,
        st.integers(0, 50),
        st.sampled_from(["sha256:a", "sha256:b"]),
        st.integers(1, 4),
        st.booleans(),
    ),
    unique_by=lambda claim: claim.sequence,
)


def test_without_a_claim_nothing_is_wanted():
    assert decide_tag([]) == Decision(None, backed=False)


def test_the_newest_claim_of_a_present_source_wins():
    old, new, gone = (
        Claim(1, "a", 1, backed=True),
        Claim(2, "b", 2, backed=True),
        Claim(3, "c", 3, backed=False),
    )
    assert decide_tag([gone, new, old]) == Decision(new, backed=True, digest="b")


def test_without_a_present_source_the_newest_stays_unbacked():
    claims = [Claim(n, "a", n, backed=False) for n in (2, 5, 3)]
    assert decide_tag(claims) == Decision(claims[1], backed=False)


@given(CLAIMS, st.randoms())
def test_the_order_of_claims_does_not_matter(claims, rng):
    shuffled = claims[:]
    rng.shuffle(shuffled)
    decision = decide_tag(claims)
    assert decide_tag(shuffled) == decision
    assert decision.backed == any(claim.backed for claim in claims)
    if decision.claim is not None:
        rivals = [c.sequence for c in claims if c.backed == decision.claim.backed]
        assert decision.claim.sequence == max(rivals)


def test_what_describes_an_image_never_takes_its_tag():
    image = Claim(1, "image", 1, backed=True)
    gone = Claim(1, "image", 1, backed=False)
    signature = Claim(2, "signature", 2, backed=True, is_supplement=True)
    pushed = Claim(3, "pushed", 3, backed=True, alone=True, is_supplement=True)
    assert decide_tag([image, signature]) == Decision(image, backed=True, digest="image")
    assert decide_tag([gone, signature]) == Decision(gone, backed=False)
    assert decide_tag([signature]) == Decision(signature, backed=True, digest="signature")
    assert decide_tag([image, signature, pushed]).digest == "pushed"


# Merging

AMD64, ARM64, ARM = "linux/amd64", "linux/arm64", "linux/arm/v7"


def claim(number, digest, parts, *, backed=True, removed_at=0, absent=()):
    """Returns a claim with parts given as platform → digest; `absent` ones are listed only."""
    listed = tuple(ClaimedPart(p, d, held=p not in absent) for p, d in parts.items())
    return Claim(number, digest, number, backed, listed, removed_at)


def parts_of(decision):
    return {part.platform: part.digest for part in decision.parts}


def test_claims_for_different_platforms_are_merged():
    one, two = claim(1, "a", {AMD64: "a"}), claim(2, "b", {ARM64: "b"})
    decision = decide_tag([one, two])
    assert decision.digest == ""
    assert parts_of(decision) == {AMD64: "a", ARM64: "b"}
    assert [part.claim for part in decision.parts] == [one, two]


def test_the_newest_wins_for_each_platform():
    both, newer = claim(1, "index", {AMD64: "a", ARM64: "b"}), claim(2, "a2", {AMD64: "a2"})
    decision = decide_tag([both, newer])
    assert decision.digest == ""
    assert parts_of(decision) == {AMD64: "a2", ARM64: "b"}
    assert decide_tag([newer, claim(3, "index", {AMD64: "a", ARM64: "b"})]).digest == "index"


def test_a_document_that_says_it_all_is_followed_byte_for_byte():
    both, one = claim(1, "index", {AMD64: "a", ARM64: "b"}), claim(2, "a", {AMD64: "a"})
    decision = decide_tag([both, one])
    assert decision.digest == "index"
    assert parts_of(decision) == {AMD64: "a", ARM64: "b"}


def test_sparse_copies_of_one_index_are_united():
    listed = {AMD64: "a", ARM64: "b"}
    one, two = claim(1, "index", listed, absent={ARM64}), claim(2, "index", listed, absent={AMD64})
    decision = decide_tag([one, two])
    assert decision.digest == "index"
    assert parts_of(decision) == listed
    alone = decide_tag([one])
    assert (alone.digest, parts_of(alone)) == ("index", {AMD64: "a"})


def test_an_absent_part_does_not_hide_an_older_one():
    older = claim(1, "old", {AMD64: "a", ARM64: "b"})
    newer = claim(2, "new", {AMD64: "a2", ARM64: "b2"}, absent={ARM64})
    decision = decide_tag([older, newer])
    assert (decision.digest, parts_of(decision)) == ("", {AMD64: "a2", ARM64: "b"})


def test_what_has_no_platform_is_not_merged():
    image, chart = claim(1, "a", {AMD64: "a"}), claim(2, "chart", {})
    assert decide_tag([image, chart]) == Decision(chart, backed=True, digest="chart")
    newer = claim(3, "b", {ARM64: "b"})
    assert parts_of(decide_tag([image, chart, newer])) == {AMD64: "a", ARM64: "b"}


def test_a_removal_takes_nothing_until_a_newer_claim_decides():
    stays = claim(1, "a", {AMD64: "a"})
    gone = claim(2, "b", {ARM64: "b"}, backed=False, removed_at=3)
    assert parts_of(decide_tag([stays, gone])) == {AMD64: "a", ARM64: "b"}
    newer = claim(4, "a2", {AMD64: "a2"})
    decision = decide_tag([stays, gone, newer])
    assert (decision.digest, parts_of(decision)) == ("a2", {AMD64: "a2"})


def test_for_a_platform_that_a_present_archive_has_a_removed_one_counts_nothing():
    present = claim(1, "a", {AMD64: "a"})
    gone = claim(2, "a2", {AMD64: "a2"}, backed=False, removed_at=3)
    decision = decide_tag([present, gone])
    assert (decision.digest, parts_of(decision)) == ("a", {AMD64: "a"})


def test_attestations_follow_the_manifest_that_they_are_about():
    said = ClaimedPart("", "said", attested="a")
    other = ClaimedPart("", "other", attested="elsewhere")
    one = Claim(1, "index", 1, True, (ClaimedPart(AMD64, "a"), said, other))
    decision = decide_tag([one, claim(2, "b", {ARM64: "b"})])
    assert [part.attestations for part in decision.parts] == [("said",), ()]


def test_a_rollback_decides_until_something_newer_comes():
    old, new = claim(1, "a", {AMD64: "a"}), claim(2, "a2", {AMD64: "a2"})
    back = Rollback(3, "a")
    decision = decide_tag([old, new], back)
    assert (decision.digest, decision.rolled_back) == ("a", True)
    newer = decide_tag([old, new, claim(4, "a3", {AMD64: "a3"})], back)
    assert (newer.digest, newer.rolled_back) == ("a3", False)


PLATFORMS = st.dictionaries(
    st.sampled_from([AMD64, ARM64, ARM]), st.sampled_from("abcdef"), min_size=1
)
MERGING = st.lists(
    st.builds(
        lambda number, parts, backed, later: claim(
            number, f"root{number}", parts, backed=backed, removed_at=number + later
        ),
        st.integers(1, 30),
        PLATFORMS,
        st.booleans(),
        st.integers(1, 20),
    ),
    unique_by=lambda one: one.sequence,
    max_size=6,
)


@given(MERGING, st.randoms())
def test_merging_is_the_model_whatever_the_order(claims, rng):
    """The model: for each platform look from the newest claim back."""
    shuffled = claims[:]
    rng.shuffle(shuffled)
    decision = decide_tag(claims)
    assert decide_tag(shuffled) == decision
    backed = sorted((c for c in claims if c.backed), key=lambda c: -c.sequence)
    if not backed:
        return
    gone = [c for c in claims if not c.backed and c.removed_at > backed[0].sequence]
    expected = {}
    for one in [*backed, *sorted(gone, key=lambda c: -c.sequence)]:
        for part in one.parts:
            expected.setdefault(part.platform, part.digest)
    assert parts_of(decision) == expected
    if decision.digest:
        said = next(c for c in claims if c.digest == decision.digest)
        assert {p.platform: p.digest for p in said.parts} == expected
    else:
        assert len({part.claim.source_id for part in decision.parts}) > 1


DISJOINT = st.permutations([(AMD64, "a"), (ARM64, "b"), (ARM, "c")])


@given(DISJOINT)
def test_archives_for_different_platforms_give_the_same_tag_in_any_order(order):
    claims = [claim(n, digest, {platform: digest}) for n, (platform, digest) in enumerate(order, 1)]
    assert parts_of(decide_tag(claims)) == {AMD64: "a", ARM64: "b", ARM: "c"}
