"""Documents that are hard to parse: how long they keep other threads waiting."""

import contextlib
import gc
import json
import time

import pytest

from airside.agent.memory import keep_started
from airside.core.errors import ManifestInvalidError
from airside.oci.model import parse_bare_document
from airside.oci.strict_json import MAX_ESCAPES, load_json
from support.gil import longest_hold

STRINGS = b"[%s]" % b",".join(b'"%x"' % n for n in range(100_000))
MOST_TIMES = 16
"""The longest hold, as a multiple of what `STRINGS` takes to decode beside it: 6 ms where the worst
of the documents takes 60. Both become slower where other programs use the processor's caches."""
TRIES = 5
SURROGATES = b'"s":"\\ud83d\\ude00"'
DOCUMENTS = {
    "floats beside a surrogate": b'{%s,"a":[%s]}'
    % (SURROGATES, b",".join([b"1.2345678e-100"] * 240_000)),
    "empty lists": b'{"a":[%s]}' % b",".join([b"[]"] * 124_000),
    "keys": b"{%s}" % b",".join(b'"%x":[]' % n for n in range(80_000)),
    "escapes": b'{"a":"%s"}' % (b'\\"' * (MAX_ESCAPES - 10)),
    "quotes without end": b'"' + b'\\"' * 2_000_000,
    "descriptors": b'{"schemaVersion":2,"manifests":[%s]}'
    % b",".join(
        b'{"mediaType":"m","size":1,"digest":"sha256:%064x","annotations":{"a":"b"}}' % n
        for n in range(13_000)
    ),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_document_keeps_other_threads_from_running(name):
    def parse():
        with contextlib.suppress(ManifestInvalidError):
            parse_bare_document(DOCUMENTS[name], "it")

    times = (longest_hold(parse) / _decoding_seconds() for _ in range(TRIES))
    assert any(each < MOST_TIMES for each in times)


def _decoding_seconds() -> float:
    begun = time.thread_time()
    json.loads(STRINGS)
    return time.thread_time() - begun


def test_more_escapes_than_the_limit_never_reach_the_parser():
    raw = b'{"a":"%s"}' % (b'\\"' * (MAX_ESCAPES + 1))
    with pytest.raises(ManifestInvalidError, match="escaped characters"):
        load_json(raw, "it")
    assert load_json(raw, "ours", max_tokens=None)["a"] == '"' * (MAX_ESCAPES + 1)


@pytest.mark.parametrize(
    "text", ['{"a":"\\ud83d"}', '{"\\ude00":1}', '[{"a":["\\ud83d\\ude00","\\uDC00"]}]']
)
def test_a_lone_surrogate_is_refused_wherever_it_is(text):
    with pytest.raises(ManifestInvalidError, match="not valid JSON"):
        load_json(text.encode(), "it")


def test_collections_do_not_visit_what_exists_when_the_agent_has_started():
    try:
        keep_started()
        assert gc.get_freeze_count() > 1_000
    finally:
        gc.unfreeze()
