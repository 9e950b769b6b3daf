"""Image names: refused with our error only, or in a normal form that the specification allows."""

import re
from collections.abc import Iterator

from airside.core.errors import ReferenceInvalidError
from airside.oci.reference import fits_ref_name, parse_reference
from fuzz.target import Target, require

# distribution-spec, "Pulling manifests"
NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*\Z")
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\Z")


def check(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    fits_ref_name(text)
    try:
        reference = parse_reference(text)
    except ReferenceInvalidError:
        return
    require(NAME.match(reference.repository.path), "the specification refuses the path")
    require(not reference.tag or TAG.match(reference.tag), "the specification refuses the tag")
    require(reference.tag or reference.digest, "neither a tag nor a digest")
    require(parse_reference(str(reference)) == reference, "the normal form parses differently")
    require(str(reference).isascii() and "\n" not in str(reference), "not a line of ASCII")


def seeds() -> Iterator[bytes]:
    digest = "ab" * 32
    for text in (
        "busybox",
        "a.b:5000/c/d__e:V1.0_x",
        f"[2001:db8::1]:443/x@sha256:{digest}",
        f"localhost/x-y:1@sha512:{digest * 2}",
        "index.docker.io/library/x",
        "A.B/c---d",
    ):
        yield text.encode()


TARGET = Target("references", check, seeds, max_bytes=400)
