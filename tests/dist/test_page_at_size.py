"""The page over 10,000 images, and axe on every page in every look. In a real Chromium."""

import time

import pytest
from playwright.sync_api import expect

from support.agent import Agent
from support.browser import PHONE, PROGRAM, browsing, check_accessible, visiting
from support.images import image_of, oci_archive, random_layer
from support.waiting import LIMIT_SECONDS

pytestmark = [pytest.mark.system, pytest.mark.needs(PROGRAM)]

IMAGES, ARCHIVES = 10_000, 10
MOST_NODES = 6_000
"""Elements of a document: Lighthouse warns above 1,400, browsers stay quick up to many more."""
MOST_BYTES = 600_000
PAGES = (
    *("/ui/", "/ui/images", "/ui/images?page=2", "/ui/images?q=n77", "/ui/archives"),
    *("/ui/image?name=registry.example/many/n7-7:1", "/ui/storage", "/ui/runtimes", "/ui/log"),
)
LOOKS = (
    *(("en-GB", "light", "wide"), ("en-GB", "dark", "phone")),
    *(("zh-CN", "light", "phone"), ("zh-CN", "dark", "wide")),
)
"""Each pair of language, scheme and width."""


@pytest.fixture(scope="module")
def browser():
    with browsing() as found:
        expect.set_options(timeout=LIMIT_SECONDS * 1000)
        yield found


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    place = tmp_path_factory.mktemp("many")
    (place / "images").mkdir()
    layer = random_layer("one for all", layer_bytes=100)
    for archive in range(ARCHIVES):
        names = range(IMAGES // ARCHIVES)
        images = {
            f"registry.example/many/n{archive}-{n}:1": image_of([layer], label=f"{archive} {n}")
            for n in names
        }
        oci_archive(place / "images" / f"many-{archive}.tar", images)
    with Agent(place / "images", place / "data") as running:
        running.wait_imported(*(place / "images" / f"many-{n}.tar" for n in range(ARCHIVES)))
        yield running


@pytest.mark.parametrize("path", PAGES)
def test_a_page_over_10_000_images_stays_small(agent, browser, path):
    with visiting(browser, agent.registry) as (page, _):
        begun = time.monotonic()
        answer = page.goto(f"http://{agent.registry}{path}", timeout=LIMIT_SECONDS * 1000)
        seconds = time.monotonic() - begun
        count, nodes = len(answer.body()), page.evaluate("document.querySelectorAll('*').length")
        print(f"{path}: {count} bytes, {nodes} elements, {seconds:.2f} s")
        assert answer.status == 200
        assert nodes < MOST_NODES
        assert count < MOST_BYTES


def test_one_of_10_000_images_is_found_and_opened(agent, browser):
    with visiting(browser, agent.registry) as (page, _):
        page.set_default_timeout(LIMIT_SECONDS * 1000)
        page.goto(f"http://{agent.registry}/ui/images")
        expect(page.locator("main")).to_contain_text("of 200")  # pages
        field = page.locator("main input[type=search], main input[type=text]").first
        field.fill("many/n7-77")
        field.press("Enter")
        link = page.get_by_role("link", name="many/n7-77:1", exact=False).first
        expect(link).to_be_visible()
        link.click()
        expect(page.locator("h1")).to_contain_text("n7-77")


@pytest.mark.parametrize("look", LOOKS, ids=" ".join)
def test_axe_finds_nothing_on_any_page_in_each_look(agent, browser, look):
    language, scheme, width = look
    options = {"locale": language, "color_scheme": scheme}
    if width == "phone":
        options["viewport"] = PHONE
    with visiting(browser, agent.registry, **options) as (page, _):
        for path in PAGES:
            page.goto(f"http://{agent.registry}{path}", timeout=LIMIT_SECONDS * 1000)
            check_accessible(page, path)
