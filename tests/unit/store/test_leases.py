from airside.store.leases import BlobLeases
from support.images import sha256

ONE, TWO, THREE = (sha256(text) for text in (b"1", b"2", b"3"))


def test_what_was_asked_about_lately_is_remembered_for_a_while():
    now = [0.0]
    leases = BlobLeases(10.0, clock=lambda: now[0])
    assert leases.lease(ONE)
    now[0] = 5.0
    leases.lease(TWO)
    assert leases.active() == {ONE, TWO}
    now[0] = 11.0
    assert leases.active() == {TWO}
    leases.lease(ONE)
    now[0] = 16.0
    assert leases.active() == {ONE}


def test_no_more_than_so_many_are_remembered():
    leases = BlobLeases(10.0, most=2, clock=lambda: 0.0)
    for digest in (ONE, TWO, ONE, THREE):
        leases.lease(digest)
    assert leases.active() == {ONE, THREE}


def test_either_the_collection_leaves_it_or_the_client_is_told_that_it_is_gone():
    leases = BlobLeases(10.0, clock=lambda: 0.0)
    leases.lease(ONE)
    assert leases.condemn([ONE, TWO]) == {ONE}
    assert leases.lease(ONE)
    assert not leases.lease(TWO)
    assert leases.active() == {ONE}
    assert leases.condemn(()) == frozenset()
    assert leases.lease(TWO)
