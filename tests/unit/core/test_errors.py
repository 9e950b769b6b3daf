"""Exceptions: whose fault it is, and what goes with it."""

import pickle
import re

import pytest

import airside.core.errors
from airside.core.errors import AirsideError, ArchiveError, InputError, StoreError, UnavailableError

CLASSES = [
    each
    for each in vars(airside.core.errors).values()
    if isinstance(each, type) and issubclass(each, AirsideError)
]


def test_every_class_has_a_code_of_its_own():
    codes = [each.code for each in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_only_what_may_pass_is_tried_again(kind):
    if issubclass(kind, InputError):
        assert not kind.retryable
    if issubclass(kind, StoreError | UnavailableError):
        assert kind.retryable


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_keeps_message_and_context_through_a_pickle(kind):
    error = pickle.loads(pickle.dumps(kind("what happened", path=1, blob=None, image="x")))
    assert type(error) is kind
    assert error.message == str(error) == "what happened"
    assert error.context == {"path": "1", "image": "x"}


def test_a_subclass_keeps_the_code_of_its_parent_unless_it_has_one():
    class OddError(ArchiveError):
        pass

    assert OddError.code == "archive"


def test_what_an_error_tells_can_be_stored_and_printed():
    error = ArchiveError("bad \udce9", member="caf\udce9", path=None)
    error.add_context(member="other", after="x\ud800", image=None)
    assert error.message == str(error) == "bad \\udce9"
    assert error.context == {"member": "caf\\udce9", "after": "x\\ud800"}
