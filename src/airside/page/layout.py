"""The frame of every document of the page: head, navigation, main part, footer. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from airside import __version__
from airside.page.element import Element, Node, document, h
from airside.page.texts import zone_text
from airside.page.words import LANGUAGES, NAMES, TAGS, Words

ROOT = "/ui/"
SECTIONS = (
    ("overview", ROOT),
    ("images", "/ui/images"),
    ("archives", "/ui/archives"),
    ("storage", "/ui/storage"),
    ("runtimes", "/ui/runtimes"),
    ("log", "/ui/log"),
)
"""The pages in the navigation: the key of the name, and the address."""


@dataclass(frozen=True, slots=True)
class View:
    """What a document is made for: the reader's language, and what is asked of it.

    `assets`: the address of each asset. `token`: proves that a form is ours.
    """

    words: Words
    path: str = ROOT
    query: Mapping[str, str] = field(default_factory=dict)
    assets: Mapping[str, str] = field(default_factory=dict)
    token: str = ""

    def link(self, **changes: object) -> str:
        """Returns the address of this document with other values in the query."""
        return link(self.path, **{**self.query, **changes})


def link(path: str, /, **query: object) -> str:
    """Returns an address; an empty value is left out."""
    found = {key: str(value) for key, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(found, errors='surrogateescape')}" if found else path


def page(view: View, section: str, title: str, *parts: Node) -> str:
    """Returns a whole document. `section`: of `SECTIONS`."""
    return document(
        h(
            "html",
            _head(view, title),
            h(
                "body",
                h("a", view.words("skip"), href="#main", class_="skip"),
                _header(view, section),
                h("main", h("h1", title), parts, id="main", tabindex="-1"),
                _footer(view),
                h("div", role="status", aria_live="polite", id="said", class_="unseen"),
                data_said=view.words("live.changed"),
                data_copied=view.words("copied"),
            ),
            lang=view.words.tag,
        )
    )


def _head(view: View, title: str) -> Element:
    assets = view.assets
    scripts = [assets[name] for name in ("idiomorph.js", "page.js", "upload.js") if name in assets]
    return h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        h("title", f"{title} · Airside"),
        h("link", rel="stylesheet", href=assets.get("page.css", "")),
        h("link", rel="icon", href=assets.get("icon.svg", ""), type="image/svg+xml"),
        [h("script", src=each, defer=True) for each in scripts],
    )


def _header(view: View, section: str) -> Element:
    words = view.words
    items = [
        h("li", h("a", words(f"nav.{key}"), href=where, aria_current=key == section and "page"))
        for key, where in SECTIONS
    ]
    return h(
        "header",
        h("a", "Airside", href=ROOT, class_="brand"),
        h("nav", h("ul", items), aria_label=words("nav")),
    )


def _footer(view: View) -> Element:
    others = [
        h(
            "a",
            NAMES[each],
            href=view.link(lang=each),
            lang=TAGS[each],
            hreflang=TAGS[each],
            rel="alternate",
        )
        for each in LANGUAGES
        if each != view.words.language
    ]
    told = view.words("times", zone=zone_text())
    return h("footer", h("p", f"Airside {__version__} · ", told, " · ", others))


def section(identity: str, title: str, *parts: Node, live: bool = False) -> Element:
    """Returns a part of a document under its own heading. `live`: refreshed while it is open."""
    return h(
        "section",
        h("h2", title, id=f"{identity}-title"),
        parts,
        id=identity,
        aria_labelledby=f"{identity}-title",
        data_live=live or None,
    )


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Node]]) -> Element:
    """Returns a table whose first column names the row; on a phone each row is a card."""
    head = h("thead", h("tr", [h("th", each, scope="col") for each in columns]))
    body = [
        h(
            "tr",
            h("th", row[0], scope="row", data_label=columns[0]),
            [
                h("td", cell, data_label=label)
                for cell, label in zip(row[1:], columns[1:], strict=True)
            ],
        )
        for row in rows
    ]
    whole = h("table", h("caption", caption, class_="unseen"), head, h("tbody", body))
    return h("div", whole, class_="table", role="group", tabindex="0", aria_label=caption)


def facts(*pairs: tuple[str, Node]) -> Element:
    """Returns a list of names and values."""
    return h("dl", [h("div", h("dt", name), h("dd", value)) for name, value in pairs])
