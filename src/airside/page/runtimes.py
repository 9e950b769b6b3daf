"""The container runtimes, and the watched directories. Pure."""

from typing import Any

from airside.page.element import Element, Node, h, name_of
from airside.page.layout import View, facts, page, section, table
from airside.page.texts import english


def runtimes(view: View, status: dict[str, Any]) -> str:
    """Returns the document."""
    words = view.words
    access = status.get("access") or {}
    registry = facts(
        (words("registry.address"), name_of(str(status.get("listen") or "-"))),
        (words("registry.tls"), words("yes" if access.get("tls") else "no")),
        (words("registry.anonymous"), ", ".join(access.get("anonymous", ())) or words("none")),
        (words("registry.through"), name_of(str(status.get("read_through")))),
    )
    return page(
        view,
        "runtimes",
        words("nav.runtimes"),
        h("div", runtime_list(view, status), id="connected", data_live=True),
        section("directories", words("directories"), _directories(view, status), live=True),
        section("registry", words("registry"), registry),
    )


def runtime_list(view: View, status: dict[str, Any]) -> Node:
    """Returns the runtimes with what was published to them."""
    words = view.words
    items = [_runtime(view, each) for each in status["runtimes"]]
    return items or h("p", words("runtimes.none"), class_="dim")


def _runtime(view: View, item: dict[str, Any]) -> Element:
    words = view.words
    head = h("h3", name_of(item["socket"]))
    if not item["connected"]:
        state = h("p", words("runtimes.away"), ": ", english(item["reason"]), class_="bad")
        return h("div", head, state)
    counts = [f"{n} {words.state(state)}" for state, n in sorted(item["images"].items())]
    ways = [f"{n} {words.state(way)}" for way, n in sorted(item["blobs"].items())]
    slow = item["streams_because"] or item["copies_because"]
    pairs: list[tuple[str, Node]] = [
        (words("runtimes.version"), f"containerd {item['version']}"),
        (words("runtimes.images"), ", ".join(counts) or words("none")),
        (words("runtimes.unpacks"), item["snapshotter"] if item["unpacks"] else words("no")),
        (words("runtimes.blobs"), ", ".join(ways) or words("none")),
        (words("runtimes.slow"), english(slow) if slow else None),
    ]
    other = h("p", english(item["reason"]), class_="bad") if item["other_agent"] else None
    return h("div", head, other, facts(*[pair for pair in pairs if pair[1] is not None]))


def _directories(view: View, status: dict[str, Any]) -> Element:
    words = view.words
    rows: list[list[Node]] = [
        [
            name_of(each["path"]),
            words.state(each["mode"]),
            str(each["files"]),
            english(each["reason"] or ""),
        ]
        for each in status["directories"]
    ]
    return table(words("directories"), words("directories.columns").split("|"), rows)
