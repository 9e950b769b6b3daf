"""Documents and targets that mean ill."""

import json
from typing import Any

from hypothesis import strategies as st

from .distribution import CONFIG, INDEX, MANIFEST, digest_of

_SOME = {"mediaType": CONFIG, "digest": digest_of(b"{}"), "size": 2}


def _image(**changes: Any) -> bytes:
    value = {"schemaVersion": 2, "mediaType": MANIFEST, "config": _SOME, "layers": [_SOME]}
    return json.dumps({**value, **changes}).encode()


def _index(*manifests: Any, **changes: Any) -> bytes:
    value = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(manifests)}
    return json.dumps({**value, **changes}).encode()


_WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    1e300,
    10**30,
    "",
    "\ud800",
    "\0",
    [],
    {},
    [[]],
    "x" * 5000,
)

DOCUMENTS: tuple[bytes, ...] = (
    b"",
    b"\0",
    b"\xff\xfe{}",
    b"\xef\xbb\xbf{}",
    b"{",
    b"nul",
    b"NaN",
    b"[" * 100_000,
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b'{"schemaVersion":' + b"9" * 5000 + b"}",
    b'{"schemaVersion":2,"schemaVersion":2,"manifests":[]}',
    b'{"schemaVersion":2e0,"manifests":[]}',
    b'{"schemaVersion":2,"manifests":[],"x":1e999}',
    b'{"schemaVersion":2,"manifests":[],"annotations":{"a":"\\ud800"}}',
    b'{"schemaVersion":2,"manifests":[],"annotations":{"\\u0000":"\\u0000"}}',
    b'{"schemaVersion":2,"manifests":[],"artifactType":"\\u0000\\r\\nX: y"}',
    _index(),
    _index(*[_SOME] * 3000),
    _index(*({**_SOME, "digest": digest_of(b"%d" % n)} for n in range(3000))),
    _index({**_SOME, "mediaType": INDEX, "digest": digest_of(_index())}),
    _index(config=_SOME),
    _index(subject={**_SOME, "digest": digest_of(b"me")}),
    _index(subject=_SOME, artifactType="x" * 100_000),
    _image(layers=[_SOME] * 3000),
    *(_image(**{key: wrong}) for key in ("config", "layers", "subject") for wrong in _WRONG),
    *(_image(**{key: wrong}) for key in ("schemaVersion", "annotations") for wrong in _WRONG),
    *(_image(config={**_SOME, key: wrong}) for key in _SOME for wrong in _WRONG),
    *(_image(config={**_SOME, "platform": wrong, "data": wrong}) for wrong in _WRONG),
    *(_index({**_SOME, "platform": {"os": wrong, "architecture": wrong}}) for wrong in _WRONG),
)

_PIECES = (
    *("/", "//", "%2f", "%2F", "..", "..%2f", ".", "%5c", "\\", "%00", "%", "%zz", "%ff", "+"),
    *("blobs", "uploads", "manifests", "tags", "list", "referrers", "a", "A", "b.c", "9" * 300),
    *("/manifests/", "/blobs/uploads/", "/tags/list", "/referrers/", digest_of(b"{}"), "sha512:ab"),
    *("?", "&", "=", "ns=a.b", "ns=%00", "ns=[::1]:1", "n=-1", "n=1", "last=%ff", "digest="),
    *("mount=", "from=..", "tag=x", "tag=%0d%0a", "artifactType=%0d%0aX:y", "%0d%0aX:%20y", "#"),
    "A" * 3000,
)
TARGETS = st.lists(st.sampled_from(_PIECES), max_size=8).map("".join)
