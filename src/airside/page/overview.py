"""The first page: all is well, or what to do. Pure."""

from airside.diagnostics.verdict import Concern, Verdict
from airside.page.element import Element, Node, h, name_of
from airside.page.layout import View, page


def overview(view: View, verdict: Verdict, *parts: Node) -> str:
    """Returns the document. `parts`: sections below the verdict."""
    words = view.words
    return page(view, "overview", words("overview"), verdict_box(view, verdict), parts)


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
    words = view.words
    sign = h("span", words(f"severity.{concern.severity}"), class_="sign")
    found = words(f"verdict.{concern.code}", **concern.values)
    advice = words(f"verdict.{concern.code}.do", **concern.values)
    what = name_of(found, tag="strong")
    return (sign, " ", what, (". ", name_of(advice, tag="span")) if advice else "")
