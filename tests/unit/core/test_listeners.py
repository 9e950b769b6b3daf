"""Subscribers of an event are called until they unsubscribe."""

from airside.core.listeners import Listeners


def test_every_subscriber_is_called_in_order_until_it_unsubscribes():
    listeners, calls = Listeners(), []
    listeners.notify()
    leave = listeners.subscribe(lambda: calls.append("first"))
    listeners.subscribe(lambda: calls.append("second"))
    listeners.notify()
    assert calls == ["first", "second"]
    leave()
    leave()
    listeners.notify()
    assert calls == ["first", "second", "second"]


def test_a_subscriber_may_unsubscribe_while_it_is_called():
    listeners, calls = Listeners(), []

    def once():
        calls.append("once")
        leave()

    leave = listeners.subscribe(once)
    listeners.subscribe(lambda: calls.append("always"))
    listeners.notify()
    listeners.notify()
    assert calls == ["once", "always", "always"]
