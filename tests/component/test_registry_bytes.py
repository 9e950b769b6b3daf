"""Whatever bytes come to the registry's port: HTTP in answer, no harm, no word in the log."""

import gc

from hypothesis import given, settings
from hypothesis import strategies as st

from support.malformed import SEEDS, Victim, mutated, victim
from support.pushing import PUSHED
from support.size import sized
from support.wire import request

EXAMPLES = sized(60, 1000)
UPLOADS = f"/v2/{PUSHED.text}/blobs/uploads/"

CHUNKED = ("Transfer-Encoding", "chunked")
FOUND: tuple[tuple[str, bytes, list[int]], ...] = (
    (
        "a body that is not what Content-Encoding says was a failure of ours",
        request("PUT", "/v2/a/manifests/1", [("Content-Encoding", "gzip")], b"{}"),
        [400],
    ),
    (
        "so was a chunk without a length",
        request("PATCH", f"{UPLOADS}@UP@", [CHUNKED], b"5\r\nhello\r\nx\r\n"),
        [400],
    ),
    (
        "an expectation that is no text",
        request("GET", "/v2/", [("Expect", "7\udcc8")]),
        [417],
    ),
    ("a target that is no path", request("OPTIONS", "*", [("Expect", "7\udcc8")]), [417]),
    ("CONNECT without a target, whose answer never came", b"CONNECT \r\n\r\n", [405]),
    ("and behind another", request("GET", "/v2/") + b"CONNECT \r\n\r\n", [200, 405]),
)


def test_what_was_found_stays_mended(tmp_path):
    with victim(tmp_path) as registry:
        for what, payload, statuses in FOUND:
            replies = registry.bear(payload, len(statuses))
            assert [reply.status for reply in replies][: len(statuses)] == statuses, what


def test_no_bytes_harm_the_registry(tmp_path):
    with victim(tmp_path) as registry:
        for payload in SEEDS:
            assert registry.bear(payload, 1)
        _try_many(registry)
        gc.collect()  # tasks that failed tell it when they go
        assert registry.log.take() == ""


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """One request or two, with up to three things wrong."""
    rng = draw(st.randoms())
    payload = rng.choice(SEEDS)
    if rng.randint(0, 4) == 0:
        payload += rng.choice(SEEDS)
    for _ in range(rng.randint(0, 3)):
        payload = mutated(payload, rng)
    return payload


def _try_many(registry: Victim) -> None:
    @settings(max_examples=EXAMPLES, print_blob=True)
    @given(payloads())
    def bears(payload: bytes) -> None:
        registry.bear(payload)

    bears()
