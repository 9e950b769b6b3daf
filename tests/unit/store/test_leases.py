from airside.store.leases import Asked
from support.images import sha256

ONE, TWO, THREE = (sha256(text) for text in (b"1", b"2", b"3"))


def test_what_was_asked_about_lately_is_remembered_for_a_while():
    now = [0.0]
    asked = Asked(10.0, clock=lambda: now[0])
    assert asked.ask(ONE)
    now[0] = 5.0
    asked.ask(TWO)
    assert asked.recent() == {ONE, TWO}
    now[0] = 11.0
    assert asked.recent() == {TWO}
    asked.ask(ONE)
    now[0] = 16.0
    assert asked.recent() == {ONE}


def test_no_more_than_so_many_are_remembered():
    asked = Asked(10.0, most=2, clock=lambda: 0.0)
    for digest in (ONE, TWO, ONE, THREE):
        asked.ask(digest)
    assert asked.recent() == {ONE, THREE}


def test_either_the_collection_leaves_it_or_the_client_is_told_that_it_is_gone():
    asked = Asked(10.0, clock=lambda: 0.0)
    asked.ask(ONE)
    assert asked.condemn([ONE, TWO]) == {ONE}
    assert asked.ask(ONE)
    assert not asked.ask(TWO)
    assert asked.recent() == {ONE}
    assert asked.condemn(()) == frozenset()
    assert asked.ask(TWO)
