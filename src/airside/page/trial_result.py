"""The button that tests a pull, and its result. Pure."""

from airside.diagnostics.quantities import duration_text, size_text
from airside.page.element import Element, Node, h, name_of
from airside.page.forms import FormKey
from airside.page.image_list import image_link
from airside.page.layout import View, page, section, table
from airside.page.pull_trial import MOST_BYTES, Trial
from airside.page.texts import english

ADDRESS = "/ui/test"


def trial_form(view: View, reference: str) -> Element:
    """Returns the form that starts a test pull."""
    words = view.words
    return section(
        "test",
        words("test"),
        h("p", words("test.explain")),
        h(
            "form",
            h("input", type="hidden", name=FormKey.FIELD, value=view.token),
            h("input", type="hidden", name="name", value=reference),
            h("button", words("test.run"), type="submit"),
            method="post",
            action=ADDRESS,
        ),
    )


def trial_result(view: View, reference: str, trial: Trial) -> str:
    """Returns the document."""
    words = view.words
    size, seconds = trial.size_bytes, duration_text(trial.seconds)
    rate = size_text(size / trial.seconds) if trial.seconds else ""
    total: Node = h("p", words("test.total", size=size_text(size), time=seconds, rate=rate))
    if trial.failure:
        total = h("p", words("test.failed"), ": ", english(trial.failure), class_="bad")
    rows: list[list[Node]] = [
        [
            words(f"test.{each.kind}"),
            h("code", name_of(each.digest), class_="digest"),
            size_text(each.size_bytes),
            duration_text(each.seconds),
            f"{size_text(each.size_bytes / each.seconds)}/s" if each.seconds else "",
        ]
        for each in trial.steps
    ]
    cut = h("p", words("test.cut", size=size_text(MOST_BYTES))) if trial.is_cut else None
    return page(
        view,
        "images",
        words("test"),
        h("p", image_link(reference)),
        h("div", total, cut, role="status"),
        table(words("test.steps"), words("test.columns").split("|"), rows) if rows else None,
        trial_form(view, reference),
    )
