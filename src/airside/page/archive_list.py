"""The archives and lists: their states, and what is wrong in words. Pure."""

from collections.abc import Sequence
from typing import Any

from airside.core.logs import printable
from airside.diagnostics.quantities import duration_text, size_text
from airside.page.element import Element, Node, h, name_of
from airside.page.image_list import image_link, pages, search_form
from airside.page.layout import View, facts, link, page, section, table
from airside.page.texts import english, size_of, time_of

MOST_IMAGES = 200
"""Images of one archive that are listed; the list of images has all."""
KINDS = ("", "problems", "removed", "ignored")
_CLASSES = {
    "imported": "good",
    "partial": "poor",
    "incomplete": "poor",
    "waiting": "poor",
    "rejected": "bad",
    "failed": "bad",
    "unreadable": "bad",
}


def archive_list(view: View, report: dict[str, Any], number: int) -> str:
    """Returns the document. `number`: of the page, from 1."""
    words, total = view.words, report["total"]
    parts: list[Node] = [
        search_form(view, "archives", KINDS),
        h("p", words.count("archives.found", total), role="status"),
    ]
    if report["items"]:
        found = archives_table(view, report["items"])
        parts.append(h("div", found, id="list", data_live=True))
    parts.append(pages(view, number, total))
    return page(view, "archives", words("archives"), parts)


def archives_table(view: View, items: Sequence[dict[str, Any]]) -> Element:
    """Returns the archives as a table, each with its state and the reason."""
    words = view.words
    columns = words("archives.columns").split("|")
    return table(words("archives"), columns, [_row(view, each) for each in items])


def _row(view: View, item: dict[str, Any]) -> list[Node]:
    path = item["path"]
    name = h(
        "a",
        name_of(path.rpartition("/")[2]),
        href=link("/ui/archive", path=path),
        title=printable(path),
    )
    state = h("span", view.words.state(item["state"]), class_=_CLASSES.get(item["state"], "dim"))
    more = len(item["problems"]) - 1
    return [
        name,
        state,
        size_of(item["size_bytes"]),
        str(item["images"]),
        time_of(item["imported_at"] or item["settled_at"]),
        (english(item["reason"]), view.words("archives.more", n=more) if more > 0 else None),
    ]


def archive_detail(view: View, answer: dict[str, Any]) -> str:
    """Returns the document for an answer of `explain` about a path."""
    words = view.words
    title = str(answer.get("path", answer["what"])).rpartition("/")[2]
    advice = [h("li", english(each)) for each in answer.get("advice", ())]
    told = section("advice", words("advice"), h("ul", advice)) if advice else None
    if answer["kind"] != "archive":
        return page(view, "archives", title, h("p", words("archive.absent"), class_="bad"), told)
    problems = [
        h("li", name_of(each["image"]), " ", h("code", each["blob"]), " ", english(each["reason"]))
        for each in answer["problems"]
    ]
    notes = [h("li", english(each)) for each in answer["notes"]]
    images = [
        h("li", image_link(each["reference"]), " · ", english(each["role"]))
        for each in answer["images"][:MOST_IMAGES]
    ]
    more = len(answer["images"]) - len(images)
    rest = h("p", words("archive.more", n=more), class_="dim") if more > 0 else None
    return page(
        view,
        "archives",
        title,
        _facts(view, answer),
        told,
        section("problems", words("problems"), h("ul", problems)) if problems else None,
        section("notes", words("archive.notes"), h("ul", notes)) if notes else None,
        section("images", words("images"), h("ul", images) if images else words("none"), rest),
    )


def _facts(view: View, answer: dict[str, Any]) -> Element:
    words, state = view.words, answer["state"]
    packed = "" if answer["compression"] in {"", "none"} else f" ({answer['compression']})"
    pairs: list[tuple[str, Node]] = [
        (words("archive.path"), name_of(answer["path"])),
        (words("archive.state"), h("span", words.state(state), class_=_CLASSES.get(state, "dim"))),
        (words("archive.reason"), english(answer["reason"])),
        (words("archive.format"), name_of(answer["format"] + packed)),
        (words("images.size"), size_text(answer["size_bytes"])),
        (words("archive.imported"), time_of(answer["imported_at"])),
        (words("archive.seconds"), duration_text(answer["seconds"])),
    ]
    return facts(*[(name, value) for name, value in pairs if value not in (None, "")])
