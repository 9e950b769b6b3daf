"""Images of Docker before 1.10: each layer is an image, and names its parent. Pure.

A chain of them is converted into an image config of today. Left to others: the layers.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airside.core.errors import ManifestInvalidError
from airside.oci.digest import Digest
from airside.oci.strict_json import load_json

_DROPPED = frozenset({"id", "parent", "Size", "parent_id", "layer_id", "throwaway"})
_DEEPEST = 512
_HTML = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


@dataclass(frozen=True, slots=True)
class V1Image:
    """One `<id>/json`: the whole object, and the ID of the layer below."""

    id: str
    parent: str
    fields: Mapping[str, Any]

    @property
    def layer(self) -> str:
        return f"{self.id}/layer.tar"

    @property
    def is_empty(self) -> bool:
        """True for a build step that changed no file, which may have no layer."""
        return self.fields.get("throwaway") is True


@dataclass(frozen=True, slots=True)
class Fault:
    """The reason why an image's chain is incomplete; `missing` is true if more bytes may help."""

    reason: str
    blob: str
    missing: bool = False


class Chains:
    """The v1 images of an archive, valid and invalid, with the state of the chain below each."""

    def __init__(self) -> None:
        self.images: dict[str, V1Image] = {}
        self._bad: dict[str, Fault] = {}
        self._heights: dict[str, int] = {}

    def add(self, v1_id: str, raw: bytes) -> None:
        """Parse the `json` of an image; an invalid one becomes a fault of the chains above it."""
        try:
            self.images[v1_id] = _parse(raw, v1_id)
        except ManifestInvalidError as exc:
            self._bad[v1_id] = Fault(exc.message, f"{v1_id}/json")

    def leaves(self) -> list[str]:
        """Returns the images that are no other image's parent, in order of their IDs."""
        parents = {v1.parent for v1 in self.images.values()}
        return [v1_id for v1_id in sorted({*self.images, *self._bad}) if v1_id not in parents]

    def chain(self, v1_id: str) -> tuple[V1Image, ...]:
        """Returns the images from the lowest to this one, whose chain must be complete."""
        found: list[V1Image] = []
        while v1_id:
            found.append(self.images[v1_id])
            v1_id = found[-1].parent
        return tuple(reversed(found))

    def fault(self, v1_id: str) -> Fault | None:
        """Returns why the chain of this image is incomplete; None if it is complete.

        The result for each image of the chain is cached.
        """
        way: dict[str, None] = {}
        while v1_id and v1_id not in self._bad and v1_id not in self._heights:
            if v1_id in way:
                self._bad[v1_id] = Fault("the image is its own parent", f"{v1_id}/json")
            elif v1_id not in self.images:
                member = f"{v1_id[:100]}/json"
                reason = f"the archive has no member {member!r}, which the image needs"
                self._bad[v1_id] = Fault(reason, member, missing=True)
            else:
                way[v1_id] = None
                v1_id = self.images[v1_id].parent
        fault, height = self._bad.get(v1_id), self._heights.get(v1_id, 0)
        for each in reversed(way):
            height += 1
            if fault is None and height > _DEEPEST:
                fault = Fault(f"the image has more than {_DEEPEST} layers", f"{each}/json")
            if fault is None:
                self._heights[each] = height
            else:
                self._bad[each] = fault
        return fault


def _parse(raw: bytes, v1_id: str) -> V1Image:
    what = f"{v1_id}/json"
    value = load_json(raw, what)
    if not isinstance(value, dict):
        raise ManifestInvalidError(f"{what} is not an object")
    if value.get("id", v1_id) != v1_id:
        raise ManifestInvalidError(f"{what} has the ID {value['id']!r:.80}: it is damaged")
    parent = value.get("parent") or ""
    if not isinstance(parent, str):
        raise ManifestInvalidError(f"{what}: parent is not a string")
    return V1Image(v1_id, parent, value)


def make_config(chain: tuple[V1Image, ...], diff_ids: Mapping[str, Digest]) -> bytes:
    """Returns the image config of a chain; `diff_ids` are those of its layers by ID, lowest first.

    It has the topmost image's fields, `rootfs` and `history`, as Docker 1.10 and later write them
    when they load such an archive: keys sorted at the top, values unchanged. For an image that was
    made by Docker 1.8.3 or later the bytes are the same, and so is the image ID.
    """
    fields = {key: value for key, value in chain[-1].fields.items() if key not in _DROPPED}
    fields["rootfs"] = {"type": "layers", "diff_ids": [str(d) for d in diff_ids.values()]}
    fields["history"] = [dict(_history(v1, empty=v1.id not in diff_ids)) for v1 in chain]
    text = json.dumps(dict(sorted(fields.items())), separators=(",", ":"), ensure_ascii=False)
    return text.translate(_HTML).encode()


def _history(v1: V1Image, *, empty: bool) -> Iterator[tuple[str, Any]]:
    """Yields the items of one entry of `history` (config.md), without empty values."""
    container = v1.fields.get("container_config")
    command = container.get("Cmd") if isinstance(container, dict) else None
    if isinstance(command, list):
        command = " ".join(word for word in command if isinstance(word, str))
    found = {
        "created": v1.fields.get("created"),
        "author": v1.fields.get("author"),
        "created_by": command,
        "comment": v1.fields.get("comment"),
    }
    yield from ((key, value) for key, value in found.items() if value and isinstance(value, str))
    if empty:
        yield "empty_layer", True
