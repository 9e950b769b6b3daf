from dataclasses import dataclass
from typing import cast

from airside.ports.content import Puller, RuntimeContent, RuntimeCopies
from airside.ports.early_layers import EarlyUnpacking
from airside.ports.runtime_set import RuntimeSet


@dataclass
class Runtime:
    content: RuntimeContent | None = None
    copies: RuntimeCopies | None = None
    puller: Puller | None = None
    early: EarlyUnpacking | None = None


class Part:
    """A content, copies or puller, told apart by identity alone."""


FIRST, SECOND = cast("RuntimeContent", Part()), cast("RuntimeContent", Part())
COPIES, PULLER = cast("RuntimeCopies", Part()), cast("Puller", Part())


def test_parts_are_listed_in_the_order_of_connecting() -> None:
    runtimes = RuntimeSet()
    runtimes.add("/b.sock", Runtime(content=FIRST))
    runtimes.add("/a.sock", Runtime(content=SECOND))
    assert runtimes.contents() == [FIRST, SECOND]
    assert runtimes.contents_by_socket() == [("/b.sock", FIRST), ("/a.sock", SECOND)]


def test_what_a_runtime_lacks_is_not_listed() -> None:
    runtimes = RuntimeSet()
    runtimes.add("/a.sock", Runtime(copies=COPIES))
    runtimes.add("/b.sock", Runtime(puller=PULLER))
    assert runtimes.contents() == []
    assert runtimes.copies() == [COPIES]
    assert runtimes.pullers() == [PULLER]


def test_a_runtime_replaces_one_of_the_same_socket() -> None:
    runtimes = RuntimeSet()
    runtimes.add("/a.sock", Runtime(content=FIRST))
    runtimes.add("/a.sock", Runtime(content=SECOND))
    assert runtimes.contents() == [SECOND]


def test_a_removed_runtime_is_in_no_later_answer() -> None:
    runtimes = RuntimeSet()
    runtimes.add("/a.sock", Runtime(FIRST, COPIES, PULLER))
    before = runtimes.contents()
    runtimes.remove("/a.sock")
    runtimes.remove("/a.sock")
    assert before == [FIRST]
    assert (runtimes.contents(), runtimes.copies(), runtimes.pullers()) == ([], [], [])
