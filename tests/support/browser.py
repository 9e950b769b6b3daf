"""Debian's Chromium without a window, driven by Playwright, and what every page of ours promises.

`Watched` fails a test at its end for an error on the console, a violation of the content security
policy, or a request to another host.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

PROGRAM = "chromium-headless-shell"
_FLAGS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-proxy-server")
_RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
PHONE = {"width": 360, "height": 740}


@contextmanager
def browsing(program: Path | None = None) -> Iterator[Browser]:
    """A browser for the tests of a file. `program` starts another one than the installed one."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program or shutil.which(PROGRAM),
            args=list(_FLAGS),
            handle_sighup=False,
        )
        try:
            yield browser
        finally:
            browser.close()


def check_accessible(page: Page, what: str) -> None:
    """Fails if axe finds something, or if the page is wider than its window."""
    found = Axe().run(page, options=_RULES)
    assert found.violations_count == 0, (what, found.generate_report())
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, f"{what} is {wide} pixels wider than the window"


class Watched:
    """What the pages of a context did that ours must not do."""

    def __init__(self, context: BrowserContext, hosts: set[str]) -> None:
        self._hosts, self.errors = hosts, list[str]()
        self.forgiven: tuple[str, ...] = ()
        """Parts of errors that a test causes on purpose, such as a broken connection."""
        context.on("page", self._watch)
        context.on("request", self._asked)

    def _watch(self, page: Page) -> None:
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.errors.append(f"script: {error}"))

    def _said(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(f"console: {message.text} {message.location.get('url', '')}")

    def _asked(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in {"data", "blob", "about"} and parts.netloc not in self._hosts:
            self.errors.append(f"request to {request.url}")

    def check(self) -> None:
        wrong = [e for e in self.errors if not any(part in e for part in self.forgiven)]
        assert not wrong, "\n".join(wrong)


@contextmanager
def visiting(browser: Browser, *hosts: str, **options: Any) -> Iterator[tuple[Page, Watched]]:
    """A page in a context of its own: no cookies, no storage, no cache of others."""
    context = browser.new_context(**options)
    watched = Watched(context, set(hosts))
    try:
        page = context.new_page()
        yield page, watched
    finally:
        context.close()
    watched.check()
