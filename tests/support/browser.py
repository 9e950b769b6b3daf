"""Debian's Chromium without a window, driven by Playwright, and what every page of ours promises.

`Watched` fails a test at its end for an error on the console, a violation of the content security
policy, or a request to another host.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

PROGRAM = "chromium-headless-shell"
_FLAGS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-proxy-server")
PHONE = {"width": 360, "height": 740}


@contextmanager
def browsing() -> Iterator[Browser]:
    """A browser for the tests of a file."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which(PROGRAM), args=list(_FLAGS), handle_sighup=False
        )
        try:
            yield browser
        finally:
            browser.close()


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
