"""Builds HTML that cannot be broken by its texts. Pure.

What always holds: a text and the value of an attribute are escaped, whoever wrote them; names of
elements and attributes come from our code; an address leads to this server only. So a name of a
stranger's archive is text wherever it stands.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from typing import TypeAlias

from airside.core.logs import printable

Node: TypeAlias = "Element | str | Iterable[Node] | None"
Attribute: TypeAlias = str | int | float | bool | None
"""True: the attribute without a value; False and None: no attribute."""

_NAME = re.compile(r"[a-z][a-z0-9-]*\Z")
_VOID = frozenset({"input", "link", "meta", "br", "hr", "img"})
_ADDRESSES = frozenset({"href", "src", "action", "formaction"})
_LOCAL = re.compile(r"(?:/(?!/)|\?|#|\Z)")
_RAW = frozenset({"script", "style"})


@dataclass(frozen=True, slots=True)
class Element:
    """An element with its attributes and children."""

    tag: str
    attributes: tuple[tuple[str, str | None], ...] = ()
    children: tuple[Node, ...] = ()

    def __str__(self) -> str:
        return render(self)


def h(tag: str, /, *children: Node, **attributes: Attribute) -> Element:
    """Makes an element. `_` in an attribute is `-`, one at its end is left out (`class_`).

    Raises ValueError for a name that is none, and for an address of another server.
    """
    if not _NAME.match(tag) or (tag in _RAW and children):
        raise ValueError(f"no element: {tag!r}")
    return Element(tag, tuple(_attributes(attributes)), children)


def _attributes(attributes: dict[str, Attribute]) -> Iterator[tuple[str, str | None]]:
    for key, value in attributes.items():
        name = key.rstrip("_").replace("_", "-")
        if value is None or value is False:
            continue
        if not _NAME.match(name) or name.startswith("on") or name == "style":
            raise ValueError(f"no attribute: {name!r}")
        if name in _ADDRESSES and not _LOCAL.match(str(value)):
            raise ValueError(f"{name} leads elsewhere: {str(value)[:80]!r}")
        yield name, None if value is True else str(value)


def name_of(text: str, *, tag: str = "bdi") -> Element:
    """Returns a stranger's name: control and direction characters are seen, not obeyed."""
    return h(tag, printable(text))


def render(node: Node) -> str:
    """Returns the HTML of a node."""
    return "".join(_pieces(node))


def document(html: Element) -> str:
    """Returns a whole document."""
    return f"<!doctype html>\n{html}\n"


def _pieces(node: Node) -> Iterator[str]:
    if node is None:
        return
    if isinstance(node, str):
        yield _text(node)
    elif isinstance(node, Element):
        yield f"<{node.tag}"
        for name, value in node.attributes:
            yield f" {name}" if value is None else f' {name}="{_text(value)}"'
        yield ">"
        if node.tag not in _VOID:
            yield from _pieces(node.children)
            yield f"</{node.tag}>"
    else:
        for each in node:
            yield from _pieces(each)


def _text(text: str) -> str:
    """Escapes a text; what HTML cannot have becomes U+FFFD."""
    if not text.isprintable():
        text = "".join(c if _is_allowed(c) else "\ufffd" for c in text)
    return escape(text)


def _is_allowed(char: str) -> bool:
    code = ord(char)
    if code < 0x20:
        return char in "\t\n\r"
    return not (0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000 or code & 0xFFFE == 0xFFFE)
