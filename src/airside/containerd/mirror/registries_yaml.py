"""Puts our endpoint first into the `registries.yaml` of K3s and RKE2. Pure.

K3s generates containerd's `certs.d` from this file at each start, so a `hosts.toml` would not last.
Our endpoint becomes the first of the `endpoint` list of each registry. The file is *read* by a YAML
parser and *written* by lines: added where the YAML is in block style; in flow style (JSON) a line
is changed and the old one stays beside it as a comment. No other value is rewritten. The result is
parsed again and must say what was meant; else the change is refused.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from airside.containerd.mirror.cri_config import Version
from airside.containerd.mirror.endpoint import of_k3s
from airside.containerd.mirror.hosts_toml import refuse_brackets
from airside.containerd.mirror.managed_block import Foreign, split_lines, with_lines
from airside.core.errors import ConflictError

DEFAULT = "*"
"""K3s's name for registries that are not listed."""
_FLOW = re.compile(r"(?:\s*#[^\n]*\n)*\s*\{")
_CORRECT = "correct it, and run the command again"


def with_mirrors(
    foreign: Foreign,
    url: str,
    registries: Iterable[str],
    *,
    reader: Version | None = None,
    made: int | None = None,
) -> str:
    """Returns the text with our endpoint first for these registries. Raises ConflictError.

    A registry for which somebody else put it first stays as it is. `reader`: the containerd of this
    K3s, None if unknown: K3s writes each endpoint as a table into its file. `made` as in
    `managed_block`.
    """
    registries = list(registries)
    refuse_brackets(url, reader)
    data = _data(foreign.text)
    _refuse_to_hide(data["mirrors"], registries)
    wanted = [name for name in registries if not is_there(foreign.text, name, url)]
    edits = _edits(foreign.text, url, wanted)
    text = foreign.text
    for number, edit in enumerate(sorted(edits, key=_Edit.order, reverse=True)):
        text = edit.applied(text, made if number == len(edits) - 1 else None)
    if not _says(text, _expected(data, url, wanted)):
        raise ConflictError(
            "no endpoint can be added to it, the way it is written",
            hint=f"put {json.dumps(url)} first under mirrors, the registry, endpoint by hand",
        )
    return text


def all_registries(text: str) -> list[str]:
    """Returns the names that mirror every registry: those with an entry of their own, and `*`."""
    data = _data(text)
    named = [*data["mirrors"], *data["configs"]]
    return [DEFAULT, *dict.fromkeys(str(name) for name in named if name != DEFAULT)]


def rewritten(text: str) -> list[str]:
    """Returns registries whose repository names K3s rewrites for all endpoints, ours included."""
    return [str(name) for name, mirror in _data(text)["mirrors"].items() if mirror.get("rewrite")]


def configured(text: str) -> list[str]:
    """Returns registries with `configs`, of which K3s always asks the default endpoint too."""
    return [str(name) for name in _data(text)["configs"]]


def is_there(text: str, registry: str, url: str) -> bool:
    """Returns True if our endpoint is the first. Raises ConflictError if it comes later."""
    endpoints = _data(text)["mirrors"].get(registry, {}).get("endpoint") or []
    wanted = of_k3s(url)
    ours = [wanted is not None and wanted.means(of_k3s(str(each))) for each in endpoints]
    if any(ours) and not ours[0]:
        raise ConflictError(
            f"{url} is an endpoint of {registry} already, but not the first",
            hint="remove it, or make it the first one, and run the command again",
        )
    return any(ours)


def asked(text: str, registry: str, *, is_end: bool) -> list[str]:
    """Returns the endpoints that are asked for a registry, in order; "" is the registry itself.

    `is_end`: K3s adds no default endpoint, but for registries with `configs` of their own. Raises
    ConflictError.
    """
    data = _data(text)
    own = data["mirrors"].get(registry, {}).get("endpoint")
    name = registry if own or registry in data["configs"] else DEFAULT
    found = [str(each) for each in data["mirrors"].get(name, {}).get("endpoint") or []]
    return found if found and is_end and name not in data["configs"] else [*found, ""]


def _refuse_to_hide(mirrors: dict[str, Any], registries: Sequence[str]) -> None:
    """Raises ConflictError if a new entry would hide what others wrote for all registries.

    K3s uses no default for a registry that has an entry of its own.
    """
    hidden = [name for name in registries if name not in mirrors and name != DEFAULT]
    if hidden and mirrors.get(DEFAULT) and DEFAULT not in registries:
        raise ConflictError(
            f"an entry for {hidden[0]} would hide what somebody else wrote for all registries "
            f'under "{DEFAULT}"',
            hint="write --all puts Airside first there too",
        )


def _says(text: str, expected: dict[str, Any]) -> bool:
    try:
        return _data(text) == expected
    except ConflictError:
        return False


def _expected(data: dict[str, Any], url: str, registries: Iterable[str]) -> dict[str, Any]:
    mirrors = dict(data["mirrors"])
    for name in registries:
        mirror = mirrors.get(name, {})
        mirrors[name] = {**mirror, "endpoint": [url, *(mirror.get("endpoint") or [])]}
    return {**data, "mirrors": mirrors}


def _data(text: str) -> dict[str, Any]:
    """Returns the parsed file, with mirrors and configs. Raises ConflictError."""
    try:
        data = dict(yaml.safe_load(_readable(text)) or {})
        data["mirrors"] = {k: dict(v or {}) for k, v in (data.get("mirrors") or {}).items()}
        data["configs"] = dict(data.get("configs") or {})
    except yaml.YAMLError as exc:
        details = " ".join(str(exc).split())
        raise ConflictError(f"it is not valid YAML: {details}", hint=_CORRECT) from exc
    except (AttributeError, TypeError, ValueError, RecursionError) as exc:
        raise ConflictError(
            "it is not what K3s reads: `mirrors` and `configs`, each by registry", hint=_CORRECT
        ) from exc
    if any(not isinstance(v.get("endpoint") or [], list) for v in data["mirrors"].values()):
        raise ConflictError("it has an `endpoint` that is not a list", hint=_CORRECT)
    return data


def _readable(text: str) -> str:
    """Replaces the tabs of a JSON file by spaces: K3s's parser accepts them, ours does not."""
    return text.replace("\t", " ") if _FLOW.match(text) else text


@dataclass(slots=True)
class _Edit:
    """Lines to insert before `line`, or pieces to insert between these columns of `line`."""

    line: int
    registries: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    pieces: list[tuple[int, int, str]] = field(default_factory=list)

    def order(self) -> tuple[int, bool]:
        return self.line, bool(self.pieces)

    def applied(self, text: str, made: int | None) -> str:
        new, last = self.lines, None
        if self.pieces:
            line, last = split_lines(text)[self.line].rstrip("\r\n"), self.line
            for start, end, piece in sorted(self.pieces, reverse=True):
                line = line[:start] + piece + line[end:]
            new = [line]
        return with_lines(
            text, new, first=self.line, last=last, registries=self.registries, made=made
        )


@dataclass(slots=True)
class _Addition:
    """An addition to one node of the file: a tree of mappings, or an endpoint for a list."""

    node: Any
    tree: dict[str, Any] = field(default_factory=dict)
    registries: list[str] = field(default_factory=list)


def _edits(text: str, url: str, registries: Iterable[str]) -> list[_Edit]:
    root = yaml.compose(_readable(text), Loader=yaml.SafeLoader)
    if isinstance(root, yaml.ScalarNode) and not root.value:
        root = None  # a document mark and nothing behind it
    additions: dict[int, _Addition] = {}
    for name in registries:
        node, rest = _deepest(root, ("mirrors", name, "endpoint"))
        addition = additions.setdefault(id(node), _Addition(node))
        addition.registries.append(name)
        tree = addition.tree
        for key in rest[:-1]:
            tree = tree.setdefault(key, {})
        if rest:
            tree[rest[-1]] = [url]
    edits: dict[tuple[int, bool], _Edit] = {}
    for addition in additions.values():
        edit = _edit(addition, url, len(split_lines(text)))
        joined = edits.setdefault(edit.order(), edit)
        if joined is not edit:
            joined.pieces += edit.pieces
            joined.registries += edit.registries
    return list(edits.values())


def _deepest(node: Any, path: Sequence[str]) -> tuple[Any, Sequence[str]]:
    """Returns the last node of the path that exists, and the rest of the path."""
    while path and isinstance(node, yaml.MappingNode):
        found = next((value for key, value in node.value if key.value == path[0]), None)
        if found is None:
            break
        node, path = found, path[1:]
    return node, path


def _edit(addition: _Addition, url: str, lines: int) -> _Edit:
    node, tree, names = addition.node, addition.tree, addition.registries
    if node is None:
        return _Edit(lines, names, _block_lines(tree, ""))
    start = node.start_mark
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        pad = " " * start.column
        new = _block_lines(tree, pad) if tree else [f"{pad}- {json.dumps(url)}"]
        return _Edit(start.line, names, new)
    if isinstance(node, yaml.CollectionNode):
        piece = (json.dumps(tree)[1:-1] if tree else json.dumps(url)) + ", " * bool(node.value)
        return _Edit(start.line, names, [], [(start.column + 1, start.column + 1, piece)])
    space = " " * (start.index == node.end_mark.index)  # a null, perhaps one of no characters
    piece = space + json.dumps(tree or [url])
    return _Edit(start.line, names, [], [(start.column, node.end_mark.column, piece)])


def _block_lines(tree: dict[str, Any], pad: str) -> list[str]:
    lines = []
    for key, value in tree.items():
        lines.append(f"{pad}{key if key.isalpha() else json.dumps(key)}:")
        if isinstance(value, dict):
            lines += _block_lines(value, pad + "  ")
        else:
            lines += [f"{pad}  - {json.dumps(each)}" for each in value]
    return lines
