"""The events, newest first. Pure."""

import json
from typing import Any

from airside.page.element import Node, h, name_of
from airside.page.image_list import image_link
from airside.page.layout import View, link, page, table
from airside.page.texts import english, time_of

PER_PAGE = 100


def log(view: View, items: list[dict[str, Any]], *, is_newest: bool) -> str:
    """Returns the document. `is_newest`: the page is refreshed while it is open."""
    words = view.words
    columns = words("log.columns").split("|")
    rows = [_row(view, each) for each in items]
    found = table(words("nav.log"), columns, rows) if rows else h("p", words("none"), class_="dim")
    older = items[-1]["id"] if len(items) == PER_PAGE else None
    links = [
        h("li", h("a", words("log.newest"), href=view.path)) if not is_newest else None,
        h("li", h("a", words("log.older"), href=link(view.path, before=older))) if older else None,
    ]
    return page(
        view,
        "log",
        words("nav.log"),
        h("div", found, id="list", data_live=is_newest or None),
        h("nav", h("ul", links, class_="pages"), aria_label=words("pages")) if any(links) else None,
    )


def _row(view: View, item: dict[str, Any]) -> list[Node]:
    path = item["path"]
    what: list[Node] = []
    if item["reference"]:
        what.append(h("div", image_link(item["reference"])))
    if path:
        where = link("/ui/archive", path=path)
        named = name_of(path.rpartition("/")[2])
        what.append(h("div", h("a", named, href=where) if path.startswith("/") else name_of(path)))
    detail = item["detail"]
    shown = detail if isinstance(detail, str) else json.dumps(detail, ensure_ascii=False)
    return [time_of(item["at"]), view.words.state(item["kind"]), what, english(shown[:500])]
