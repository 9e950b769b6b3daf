"""Who unpacks a chain ID, who waits for it, and who still needs it."""

from airside.containerd.chain_claims import ChainClaims
from support.images import sha256

ONE, TWO = sha256(b"1"), sha256(b"2")


def test_one_has_a_claim_and_the_others_continue_after_it():
    claims, called = ChainClaims(), []
    assert claims.claim(ONE, lambda: called.append("first"))
    assert not claims.claim(ONE, lambda: called.append("second"))
    assert claims.claim(TWO, lambda: None)
    assert claims.is_claimed(ONE)
    assert called == []
    claims.release(ONE)
    assert called == ["second"]
    assert not claims.is_claimed(ONE)
    assert claims.claim(ONE, lambda: None)


def test_only_what_nobody_else_needs_is_forgotten():
    claims, forgotten = ChainClaims(), []
    claims.need([ONE, TWO])
    claims.need([ONE])
    claims.done([ONE, TWO], forgotten.extend)
    assert forgotten == [TWO]
    claims.done([ONE], forgotten.extend)
    assert forgotten == [TWO, ONE]


def test_nothing_is_forgotten_unless_asked():
    claims, forgotten = ChainClaims(), []
    claims.need([ONE])
    claims.done([ONE])
    claims.need([ONE])
    claims.done([], forgotten.extend)
    assert forgotten == []
