"""The documentation site, as `make docs` builds it: it asks nobody for anything, and is whole."""

import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Page, sync_playwright

SITE = Path(__file__).parents[2] / "build/site"
CHROMIUM = "chromium-headless-shell"
LOADED = {
    *(("script", "src"), ("img", "src"), ("img", "srcset"), ("iframe", "src"), ("embed", "src")),
    *(("source", "src"), ("source", "srcset"), ("video", "src"), ("audio", "src"), ("use", "href")),
    *(("object", "data"), ("input", "src"), ("image", "href"), ("form", "action")),
}
"""What a browser loads without being asked, by tag and attribute; of `link` see `Read`."""
ONLY_NAMED = {"alternate", "canonical", "next", "prev", "author", "license"}
"""Kinds of `link` that load nothing."""


class Read(HTMLParser):
    """What a page loads, where its links lead, and the anchors that it has."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[key] for key in ("id", "name") if key in found}
        self.loads += [found[key] for of, key in LOADED if of == tag and key in found]
        self.loads += re.findall(r"url\(([^)]*)\)", found.get("style", ""))
        if tag == "link" and not ONLY_NAMED & set(found.get("rel", "").split()):
            self.loads.append(found.get("href", ""))
        if tag == "a" and "href" in found:
            self.links.append(found["href"])


@pytest.fixture(scope="module")
def pages() -> dict[Path, Read]:
    found = {file: Read(file) for file in sorted(SITE.rglob("*.html"))}
    assert len(found) > 50, f"{SITE} has no documentation: run `make docs`"
    return found


def test_no_page_loads_anything_from_elsewhere(pages):
    foreign = [
        f"{file.relative_to(SITE)}: {target}"
        for file, page in pages.items()
        for target in page.loads
        if urlsplit(target).scheme not in {"", "data"} or target.startswith("//")
    ]
    assert not foreign


def test_no_stylesheet_loads_anything_from_elsewhere():
    found = sorted(SITE.rglob("*.css"))
    assert found
    for file in found:
        assert not re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^)\"']*", file.read_text())


def test_what_a_page_loads_and_links_to_is_there(pages):
    anchors = {file: page.anchors for file, page in pages.items()}
    broken = []
    for file, page in pages.items():
        if file.name == "404.html":
            continue  # it is served in place of any other
        for target in (*page.loads, *page.links):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            to = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not to.is_file() or (
                parts.fragment and unquote(parts.fragment) not in anchors.get(to, {""})
            ):
                broken.append(f"{file.relative_to(SITE)}: {target}")
    assert not broken


@pytest.fixture(scope="module")
def reader() -> Iterator[Page]:
    """A browser that no request of which may leave the files."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which(CHROMIUM),
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-proxy-server"],
            handle_sighup=False,
        )
        try:
            yield browser.new_page()
        finally:
            browser.close()


@pytest.mark.needs(CHROMIUM)
@pytest.mark.parametrize(
    ("start", "words", "place"),
    [
        ("index.html", "rollback", "updates.html"),
        ("how-it-works.html", "ImagePullBackOff", "troubleshooting.html"),
        ("zh/index.html", "归档", "zh/quick-start.html"),
    ],
)
def test_search_works_from_files_and_asks_nobody(reader, start, words, place):
    asked: list[str] = []
    reader.on("request", lambda request: asked.append(request.url))
    reader.goto((SITE / start).as_uri())
    reader.fill(".md-search__input", words)
    reader.press(".md-search__input", "End")  # the page looks at what was typed when a key goes up
    reader.wait_for_selector(f'.md-search-result__link[href*="/site/{place}"]', state="attached")
    assert {urlsplit(url).scheme for url in asked} == {"file"}


@pytest.mark.needs(CHROMIUM)
def test_a_page_leads_to_itself_in_the_other_language(reader):
    reader.goto((SITE / "quick-start.html").as_uri())
    other = reader.get_attribute("a[hreflang=zh]", "href")
    assert other == "zh/quick-start.html"
    reader.goto((SITE / other).as_uri())
    assert reader.inner_text("h1").startswith("快速上手")
    assert reader.get_attribute("html", "lang") == "zh"
