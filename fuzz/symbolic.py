"""Archives as JSON in which members refer to one another, so that digests stay true in mutations.

`{"files": [[name, kind, value], ...], "links": {name: target}}`. `@3` is the sha256 of file 3 in
hexadecimal, `sha512:@3` its sha512, `"#3"` its size. The value of kind `text` is the content,
that of `base64` encodes it. A change of a file changes all files that refer to it.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from random import Random
from typing import Any

from fuzz.target import Mutate
from support.members import Members

_MARK = re.compile(r"(sha512[:/])?@(\d{1,3})|\"#(\d{1,3})\"")
_HEX = re.compile(r"[0-9a-f]{64}")
_NOT_KNOWN = b"a file that names itself"


def resolve(data: bytes) -> Members | None:
    """Returns the archive that the JSON describes; None for invalid JSON."""
    try:
        value = json.loads(data)
        files = [(str(n), str(k), str(v)) for n, k, v in value["files"]]
        links = {str(n): str(t) for n, t in value["links"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    resolving = _Resolving(files)
    names = {resolving.text(name): number for number, (name, _, _) in enumerate(files)}
    return Members({n: resolving.raw(number) for n, number in names.items()}, links)


class _Resolving:
    def __init__(self, files: list[tuple[str, str, str]]) -> None:
        self._files = files
        self._raw: dict[int, bytes] = {}

    def raw(self, number: int) -> bytes:
        if number not in self._raw:
            self._raw[number] = _NOT_KNOWN
            _, kind, value = self._files[number]
            if kind == "base64":
                self._raw[number] = _unpacked(value)
            else:
                self._raw[number] = self.text(value).encode("utf-8", "surrogatepass")
        return self._raw[number]

    def text(self, text: str) -> str:
        return _MARK.sub(self._meant, text)

    def _meant(self, match: re.Match[str]) -> str:
        number = int(match[2] or match[3])
        raw = self.raw(number) if number < len(self._files) else b""
        if match[3]:
            return str(len(raw))
        prefix = match[1] or ""
        return prefix + hashlib.new("sha512" if prefix else "sha256", raw).hexdigest()


def _unpacked(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        return b""


def symbolic(members: Members) -> bytes:
    """Returns the archive in this form; its documents are as `json` writes them without spaces."""
    order = list(members.files)
    numbers = {hashlib.sha256(members.files[name]).hexdigest(): n for n, name in enumerate(order)}
    sizes = {f"sha256:@{n}": len(members.files[order[n]]) for n in numbers.values()}

    def marked(text: str) -> str:
        return _HEX.sub(lambda m: f"@{numbers[m[0]]}" if m[0] in numbers else m[0], text)

    files = []
    for name in order:
        raw = members.files[name]
        try:
            value = json.loads(raw)
        except ValueError:
            files.append([marked(name), "base64", base64.b64encode(raw).decode()])
            continue
        text = marked(json.dumps(value, separators=(",", ":")))
        for mark, size in sizes.items():
            known = f'"digest":"{mark}","size":'
            text = text.replace(f"{known}{size}", f'{known}"#{mark[8:]}"')
        files.append([marked(name), "text", text])
    links = dict(members.links)
    return json.dumps({"files": files, "links": links}, separators=(",", ":")).encode()


# Mutating


_VALUES = (
    None, True, False, 0, 1, -1, 2, 1.5, 2**31, 2**63 - 1, 2**63, "", "x", "latest", [], {}, [None],
    "sha256:@0", "sha256:@1", "#0", "sha256:" + "0" * 64, "sha512:" + "0" * 128, "a.b/c:1",
    "../x", "/x", "blobs/sha256/@1", "linux", "arm64", "v8", "unknown", "\ud800", "\u0130",
    "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
)  # fmt: skip
_KEYS = (
    "mediaType", "digest", "size", "platform", "annotations", "artifactType", "subject",
    "manifests", "config", "layers", "schemaVersion", "os", "architecture", "variant",
    "os.version", "urls", "os.features", "rootfs", "diff_ids", "Config", "Layers", "RepoTags",
    "LayerSources", "parent", "id", "throwaway", "container_config", "created", "Cmd",
    "history", "latest", "a.b/c", "io.containerd.image.name",
    "org.opencontainers.image.ref.name", "vnd.docker.reference.type",
    "vnd.docker.reference.digest",
)  # fmt: skip
_NAMES = ("index.json", "manifest.json", "repositories", "oci-layout", "version", "blobs/sha256/@1")
_NUMBER = re.compile(r"(?<=[:,\[])-?[0-9]+(?=[,\]}])|null|\"#[0-9]+\"")
_NUMBERS = ("1e999", "-0", "2.0", "1e2", "9" * 400, "NaN", '"\\ud800"', '"\\u0000"', "[[]]", "{}")
_DEPTHS = (1, 3, 50, 99, 100, 101, 400, 990)


def mutate(data: bytes, rng: Random, blindly: Mutate) -> bytes:
    try:
        value = json.loads(data)
        files = value["files"]
        for _ in range(rng.choice((1, 1, 2, 4))):
            _change_archive(value, files, rng, blindly)
        return json.dumps(value, separators=(",", ":")).encode()
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return blindly(data)


def _change_archive(value: dict[str, Any], files: list[Any], rng: Random, blindly: Mutate) -> None:
    chance = rng.random()
    number = rng.randrange(len(files))
    name, kind, text = files[number]
    if chance < 0.05:
        del files[number]
    elif chance < 0.1:
        files.append([rng.choice(files)[0] + rng.choice(("", "x", ".json")), kind, text])
    elif chance < 0.15:
        files[number][0] = rng.choice((*_NAMES, files[rng.randrange(len(files))][0]))
    elif chance < 0.2:
        value["links"][name] = rng.choice(files)[0]
    elif chance < 0.3:
        files[number][2] = blindly(text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
    elif kind == "text" and chance < 0.4:
        files[number][2] = _NUMBER.sub(lambda _: rng.choice(_NUMBERS), text, count=1)
    elif kind == "text":
        changed = [json.loads(text)]
        _change(changed, rng)
        files[number][2] = json.dumps(changed[0], separators=(",", ":"))


def _change(root: list[Any], rng: Random) -> None:
    """Make one change somewhere in a document, which is the only item of `root`."""
    places = list(_iter_places(root))
    place, key = rng.choice(places)
    chance = rng.random()
    if chance < 0.35:
        place[key] = rng.choice(_VALUES)
    elif chance < 0.55:
        other, at = rng.choice(places)
        place[key] = json.loads(json.dumps(other[at]))
    elif chance < 0.65 and place is not root:
        del place[key]
    elif chance < 0.7:
        for _ in range(rng.choice(_DEPTHS)):
            place[key] = [place[key]] if rng.random() < 0.5 else {"x": place[key]}
    elif isinstance(place[key], dict):
        place[key][rng.choice(_KEYS)] = rng.choice(_VALUES)
    elif isinstance(place[key], list):
        place[key].insert(rng.randrange(len(place[key]) + 1), rng.choice((*_VALUES, *place[key])))
    elif isinstance(place[key], str):
        at = rng.randrange(len(place[key]) + 1)
        place[key] = (
            place[key][:at]
            + rng.choice("a0@#:/.-_ A\0é{\u2028")
            + place[key][at + rng.randrange(2) :]
        )
    elif isinstance(place[key], int):
        place[key] += rng.choice((-1, 1, 1000))


def _iter_places(root: Any) -> Iterator[tuple[Any, Any]]:
    """Yields every place of a document as (container, key), without recursion."""
    todo = [root]
    while todo:
        each = todo.pop()
        for key in list(each) if isinstance(each, dict) else range(len(each)):
            yield each, key
            if isinstance(each[key], (dict, list)):
                todo.append(each[key])
