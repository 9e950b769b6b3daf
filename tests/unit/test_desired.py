"""Which version a tag should point at."""

from hypothesis import given
from hypothesis import strategies as st

from airside.desired import Claim, Decision, decide_tag

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
    assert decide_tag([gone, new, old]) == Decision(new, backed=True)


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
