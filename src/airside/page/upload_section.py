"""The part of the page that uploads archives: a form, which works without its script. Pure."""

import json

from airside.diagnostics.verdict import BAD_STATES
from airside.page.element import Element, h, name_of
from airside.page.layout import View, page, section
from airside.page.texts import english
from airside.page.uploads.form_result import FormResult
from airside.page.words import LANGUAGES
from airside.registry.rules.access import PAGE_UPLOADS

_OF_SCRIPT = "upload.js."
_STATES = (*BAD_STATES, "ignored", "removed")
"""States of an archive that the script tells."""


def upload_section(view: View, refusal: str) -> Element:
    """Returns the section. `refusal`: why nothing can be uploaded; empty if it can."""
    words = view.words
    if refusal:
        off = h("p", words("upload.off"), " ", english(refusal))
        return section("upload", words("upload"), off)
    form = h(
        "form",
        h("label", words("upload.file"), h("input", type="file", name="file", multiple=True)),
        h("button", words("upload.send"), type="submit"),
        method="post",
        action=PAGE_UPLOADS,
        enctype="multipart/form-data",
        id="upload-form",
        data_texts=_texts(view),
    )
    return section(
        "upload",
        words("upload"),
        h("p", words("upload.how"), id="upload-how"),
        _with_replace(view, form),
        h("ul", id="upload-list", aria_label=words("upload.list"), hidden=True),
    )


def _with_replace(view: View, form: Element) -> Element:
    """Puts the choice before the files: fields count for the files after them."""
    box = h("input", type="checkbox", name="replace", value="1")
    choice = h("label", box, " ", view.words("upload.replace"), class_="choice")
    return Element(form.tag, form.attributes, (choice, *form.children))


def _texts(view: View) -> str:
    texts = LANGUAGES[view.words.language]
    found = {
        key.removeprefix(_OF_SCRIPT): texts[key] for key in texts if key.startswith(_OF_SCRIPT)
    }
    found |= {f"state.{each}": view.words.state(each) for each in _STATES}
    return json.dumps(found, ensure_ascii=False)


def failed_form(view: View, result: FormResult) -> str:
    """Returns the document that says why a form stored nothing, or not all."""
    words = view.words
    names = h("ul", [h("li", name_of(each)) for each in result.stored])
    stored = h("div", h("p", words("upload.stored")), names)
    return page(
        view,
        "",
        words("upload.failed"),
        h("p", english(result.problem), role="alert"),
        stored if result.stored else None,
        h("p", h("a", words("upload.back"), href="/ui/#upload", class_="target")),
    )
