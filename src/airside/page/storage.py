"""What the store uses, by repository, and when the disk will be full. Pure."""

from collections.abc import Sequence
from typing import Any

from airside.catalog.storage_use import StorageUse
from airside.diagnostics.quantities import duration_text, size_text
from airside.diagnostics.space_forecast import Forecast, Sample
from airside.page.element import Element, Node, h, name_of
from airside.page.layout import View, facts, link, page, section, table
from airside.page.plot import free_space_plot
from airside.page.texts import size_of

SHOWN = 50


def storage(
    view: View,
    status: dict[str, Any],
    use: StorageUse,
    samples: Sequence[Sample],
    forecast: Forecast,
) -> str:
    """Returns the document."""
    words, space = view.words, status.get("space")
    numbers = facts(
        (words("numbers.blobs"), f"{status['blobs']} ({size_text(status['blob_bytes'])})"),
        (words("storage.shared"), size_text(use.shared_bytes)),
        (words("numbers.space"), space_text(view, space)),
        (words("storage.full"), _when(view, forecast)),
    )
    plot = free_space_plot(words, samples, space["min_free_bytes"]) if space else None
    return page(
        view,
        "storage",
        words("storage"),
        h("div", numbers, id="numbers", data_live=True),
        section("plot", words("storage.plot"), plot, live=True),
        section("repositories", words("storage.repositories"), _repositories(view, use), live=True),
    )


def space_text(view: View, space: dict[str, Any] | None) -> Node:
    """Returns the free space of the store's file system, and whether it is low."""
    words = view.words
    if not space:
        return words("unknown")
    free, total = size_text(space["free_bytes"]), size_text(space["total_bytes"])
    text = words("storage.free", free=free, total=total)
    if space["free_bytes"] < space["min_free_bytes"]:
        return h("span", text, " · ", words("storage.none-left"), class_="bad")
    return h("span", text, " · ", words("storage.low"), class_="poor") if space["low"] else text


def _when(view: View, forecast: Forecast) -> Node:
    words = view.words
    if forecast.seconds is None:
        return words(f"storage.forecast.{forecast.reason}")
    if forecast.seconds <= 0:
        return h("span", words("storage.forecast.now"), class_="bad")
    rate = size_text(-forecast.bytes_per_second * 86400)
    text = words("storage.forecast.in", time=duration_text(forecast.seconds), rate=rate)
    return h("span", text, class_="poor") if forecast.seconds < 7 * 86400 else text


def _repositories(view: View, use: StorageUse) -> Node:
    words = view.words
    if not use.largest:
        return h("p", words("none"), class_="dim")
    most = max(each.size_bytes for each in use.largest) or 1
    rows: list[list[Node]] = [
        [
            h("a", name_of(str(each.repository)), href=link("/ui/images", q=str(each.repository))),
            str(each.blobs),
            size_of(each.size_bytes),
            size_of(each.own_bytes),
            _bar(each.own_bytes, each.size_bytes, most),
        ]
        for each in use.largest
    ]
    found = table(
        words("storage.repositories"), words("storage.repositories.columns").split("|"), rows
    )
    more = use.repositories - len(use.largest)
    return (found, h("p", words("storage.more", n=more), class_="dim") if more > 0 else None)


def _bar(own: int, size: int, most: int) -> Element:
    """Returns bytes of its own in full colour, shared ones in outline; said by the numbers."""
    whole = max(round(160 * size / most), 1)
    return h(
        "svg",
        h("rect", width=whole, height=10, class_="rest"),
        h("rect", width=round(160 * own / most), height=10, class_="bar"),
        width=160,
        height=10,
        aria_hidden="true",
    )
