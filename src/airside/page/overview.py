"""The first page: all is well, or what to do; then what happens now. Pure."""

from collections.abc import Sequence
from typing import Any

from airside.core.logs import printable
from airside.diagnostics.quantities import duration_text, size_text
from airside.diagnostics.verdict import Concern, Verdict
from airside.page.archive_list import archives_table
from airside.page.element import Element, Node, h, name_of
from airside.page.layout import View, facts, link, page, section
from airside.page.runtimes import runtime_list
from airside.page.storage import space_text


def overview(
    view: View,
    status: dict[str, Any],
    verdict: Verdict,
    arrivals: Sequence[dict[str, Any]],
    *parts: Node,
) -> str:
    """Returns the document. `parts`: sections after what is being imported."""
    words = view.words
    last: Node = h("p", words("arrivals.none"), class_="dim")
    if arrivals:
        last = archives_table(view, arrivals)
    return page(
        view,
        "overview",
        words("overview"),
        verdict_box(view, verdict),
        section("running", words("running"), running(view, status), live=True),
        parts,
        section("arrivals", words("arrivals"), last, live=True),
        section("missing", words("missing"), missing_list(view, status), live=True),
        section("runtimes", words("nav.runtimes"), runtime_list(view, status), live=True),
        section("numbers", words("numbers"), _numbers(view, status), live=True),
    )


def verdict_box(view: View, verdict: Verdict) -> Element:
    """Returns the sentence, and the further concerns."""
    more = [h("li", _concern(view, each), class_=f"is-{each.severity}") for each in verdict.others]
    return h(
        "section",
        h("p", _concern(view, verdict.first), class_="verdict"),
        h("ul", more) if more else None,
        id="verdict",
        class_=f"is-{verdict.first.severity}",
        aria_label=view.words("verdict"),
        data_live=True,
    )


def _concern(view: View, concern: Concern) -> Node:
    words, values = view.words, dict(concern.values)
    counted = ", ".join(f"{n} {words.state(each)}" for each, n in concern.counts.items())
    values |= {key: counted for key in ("states", "work") if key in values}
    sign = h("span", words(f"severity.{concern.severity}"), class_="sign")
    key = f"verdict.{concern.code}.one" if concern.is_one else f"verdict.{concern.code}"
    found = words(key, **values)
    advice = words(f"verdict.{concern.code}.do", **values)
    if not advice:
        return (sign, " ", name_of(found, tag="strong"), _see(view, concern))
    what = name_of(found.rstrip(". ") + words("verdict.stop"), tag="strong")
    told = name_of(advice[:1].upper() + advice[1:], tag="span")
    return (sign, " ", what, " ", told, _see(view, concern))


def _see(view: View, concern: Concern) -> Node:
    """Returns a link to the part of the page that shows more; None if there is none."""
    where = _SHOWN_AT.get(concern.code)
    if concern.code == "unpublished":
        where = link("/ui/image", name=concern.values["reference"])
    text = view.words("verdict.see")
    return (" ", h("a", text, href=where, class_="target")) if where else None


_SHOWN_AT = {
    "archives": "/ui/archives?only=problems",
    "missing": "#missing",
    "full": "/ui/storage",
    "low-space": "/ui/storage",
    "runtime-away": "/ui/runtimes",
    "other-agent": "/ui/runtimes",
    "streams": "/ui/runtimes",
    "unreadable": "/ui/runtimes#directories",
    "absent": "/ui/runtimes#directories",
}


def running(view: View, status: dict[str, Any]) -> Node:
    """Returns the imports that run, with bytes, rate and time left, and what waits."""
    words = view.words
    activity = status.get("activity") or {}
    keys = ("settling", "queued", "publishing", "waiting")
    waiting = [words(f"activity.{key}", n=activity[key]) for key in keys if activity.get(key)]
    items = [h("li", _import(view, each)) for each in status["imports"]]
    if not items and not waiting:
        return h("p", words("running.none"), class_="dim")
    return (
        h("ul", items, class_="plain") if items else None,
        h("p", ", ".join(waiting)) if waiting else None,
    )


def _import(view: View, item: dict[str, Any]) -> Node:
    words, done, total = view.words, item["done_bytes"], item["total_bytes"]
    rate = item["rate_bytes_per_second"]
    said = [f"{size_text(done)} / {size_text(total)}" if total else size_text(done)]
    said += [f"{size_text(rate)}/s"] if rate else []
    if total and done >= total:
        said.append(words("running.recording"))
    elif total and rate:
        left = duration_text(max(total - done, 0) / rate)
        said.append(words("running.left", time=left))
    name = item["path"].rpartition("/")[2]
    return (
        h("div", name_of(name), title=printable(item["path"])),
        h("progress", value=done, max=total, aria_label=name) if total else None,
        h("div", " · ".join(said), class_="dim"),
    )


def missing_list(view: View, status: dict[str, Any]) -> Node:
    """Returns the images that pods of this node want and that are nowhere here."""
    words = view.words
    missing = status.get("missing") or {"count": 0, "items": []}
    if not missing["count"]:
        return h("p", words("missing.none"), class_="dim")
    items = [
        h("li", name_of(each["reference"]), " · ", words(f"missing.{each['because']}"))
        for each in missing["items"]
    ]
    return h("ul", items)


def _numbers(view: View, status: dict[str, Any]) -> Element:
    words = view.words
    states = [f"{n} {words.state(state)}" for state, n in sorted(status["archives"].items())]
    return facts(
        (words("numbers.images"), str(status["images"])),
        (words("numbers.repositories"), str(status["repositories"])),
        (words("numbers.blobs"), f"{status['blobs']} ({size_text(status['blob_bytes'])})"),
        (words("numbers.archives"), ", ".join(states) or words("none")),
        (words("numbers.space"), space_text(view, status.get("space"))),
    )
