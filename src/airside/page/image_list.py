"""The list of images: search, filter, pages. Pure."""

from collections.abc import Sequence
from typing import Any

from airside.page.element import Element, Node, h, name_of
from airside.page.layout import View, link, page, table
from airside.page.texts import english, size_of, time_of

PER_PAGE = 50
KINDS = ("", "images", "artifacts", "unbacked")
_SHORT = len("sha256:") + 12


def image_list(view: View, report: dict[str, Any], number: int) -> str:
    """Returns the document. `number`: of the page, from 1."""
    words, total = view.words, report["total"]
    parts: list[Node] = [
        search_form(view, "images", KINDS, 200),
        h("p", words.count("images.found", total), role="status"),
    ]
    if report["items"]:
        columns = [words(f"images.{key}") for key in ("name", "digest", "platforms", "size")]
        columns += [words("images.runtime"), words("images.from")]
        rows = [_row(view, item) for item in report["items"]]
        parts.append(h("div", table(words("images"), columns, rows), id="list", data_live=True))
    parts.append(pages(view, number, total))
    return page(view, "images", words("images"), parts)


def search_form(
    view: View, of: str, kinds: Sequence[str], most_characters: int | None = None
) -> Element:
    """Returns the form that searches a list and filters it by kind. `of`: of the list's texts."""
    words, chosen = view.words, view.query.get("only", "")
    text = view.query.get("q", "")
    options = [
        h("option", words(f"{of}.only.{each or 'all'}"), value=each, selected=each == chosen)
        for each in kinds
    ]
    field = h("input", type="search", name="q", value=text, maxlength=most_characters)
    return h(
        "form",
        h("label", words(f"{of}.search"), field),
        h("label", words("images.only"), h("select", options, name="only")),
        h("button", words("search"), type="submit"),
        role="search",
        method="get",
        action=view.path,
    )


def image_link(reference: str) -> Element:
    """Returns a link to the page of an image."""
    return h("a", name_of(reference), href=link("/ui/image", name=reference))


def _row(view: View, item: dict[str, Any]) -> list[Node]:
    reference, digest = item["reference"], item["digest"]
    platforms = item["artifact_type"] or ", ".join(item["platforms"])
    return [
        image_link(reference),
        h("code", digest[:_SHORT], class_="digest"),
        name_of(platforms),
        size_of(item["size_bytes"]),
        runtime_states(view, item["runtimes"]),
        _origin(view, item),
    ]


def runtime_states(view: View, runtimes: list[dict[str, Any]]) -> Node:
    """Returns the state in each runtime, once if it is the same in all."""
    words = view.words
    found: list[Node] = []
    for each in {(r["state"], r["reason"]): r for r in runtimes}.values():
        state = h("span", words.state(each["state"]), class_=_CLASSES.get(each["state"], "dim"))
        reason = each["reason"] if each["state"] in _CLASSES else ""
        found.append(h("div", state, (": ", english(reason)) if reason else None))
    return found or h("span", "-", class_="dim")


_CLASSES = {
    "published": "good",
    "failed": "bad",
    "conflict": "bad",
    "incomplete": "bad",
    "waiting": "poor",
    "unknown": "poor",
}


def _origin(view: View, item: dict[str, Any]) -> Node:
    words = view.words
    if item["unbacked_since"]:
        return h(
            "span", words("images.unbacked"), " ", time_of(item["unbacked_since"]), class_="poor"
        )
    if item["origin"]:
        how = "images.peer" if item["source"] == "peer" else "images.pushed"
        return (words(how), " ", name_of(item["origin"]))
    files = [path.rpartition("/")[2] for path in item["archives"]]
    mixed = h("span", words("images.mixed"), class_="poor") if item["mixed"] else None
    return (name_of(", ".join(files) or item["source"]), mixed)


def pages(view: View, number: int, total: int, per_page: int = PER_PAGE) -> Element | None:
    """Returns links to the other pages of a list; None if there are none."""
    words, last = view.words, max((total + per_page - 1) // per_page, 1)
    if last == 1:
        return None
    items = []
    for key, target in (
        ("first", 1),
        ("previous", number - 1),
        ("next", number + 1),
        ("last", last),
    ):
        if 1 <= target <= last and target != number:
            rel = {"previous": "prev", "next": "next"}.get(key)
            where = view.link(page=target if target > 1 else "")
            items.append(h("li", h("a", words(f"pages.{key}"), href=where, rel=rel)))
    return h(
        "nav",
        h("p", words("pages.of", n=number, last=last)),
        h("ul", items, class_="pages"),
        aria_label=words("pages"),
    )
