"""The pictures of the documentation, taken of a running agent: `build/screenshots/*.png`.

`make docs` runs this first and shows on `docs/page.md` what was written. Binaries are not committed.
"""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from support.agent import Agent
from support.browser import PHONE, PROGRAM, browsing, visiting
from support.images import docker_archive, oci_archive, random_image, truncate
from support.waiting import LIMIT_SECONDS

pytestmark = [pytest.mark.system, pytest.mark.needs(PROGRAM)]

PICTURES = Path(__file__).parents[2] / "build/screenshots"
WIDE = {"width": 1100, "height": 700}
VIEWS = {
    "overview": ("/ui/", {"viewport": WIDE}),
    "overview-dark": ("/ui/", {"viewport": WIDE, "color_scheme": "dark"}),
    "overview-phone": ("/ui/", {"viewport": PHONE}),
    "images": ("/ui/images", {"viewport": WIDE}),
    "image": ("/ui/image?name=registry.site/shop/web:1.4", {"viewport": WIDE}),
    "archives": ("/ui/archives", {"viewport": WIDE}),
    "storage": ("/ui/storage", {"viewport": WIDE}),
    "events": ("/ui/log", {"viewport": WIDE}),
}


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    place = tmp_path_factory.mktemp("screenshots")
    (place / "images").mkdir()
    with Agent(place / "images", place / "data") as running:
        names = ("shop/web:1.4", "shop/cart:2.0", "base/postgres:16")
        for number, name in enumerate(names):
            file = running.watched / f"{name.partition(':')[0].replace('/', '-')}.tar"
            oci_archive(file, {f"registry.site/{name}": random_image(number)})
        oci_archive(running.watched / "broken.tar", {"registry.site/shop/old:1": random_image(9)})
        truncate(running.watched / "broken.tar", 30_000)
        (running.watched / "notes.tar").write_text("no archive\n" * 200)
        running.wait_idle()
        yield running


def test_pictures_are_taken_of_the_running_page(agent, tmp_path):
    PICTURES.mkdir(parents=True, exist_ok=True)
    docker_archive(tmp_path / "metrics.tar", {"registry.site/ops/metrics:3": random_image("m")})
    expect.set_options(timeout=LIMIT_SECONDS * 1000)
    with browsing() as browser:
        for name, (path, options) in VIEWS.items():
            with visiting(browser, agent.registry, **options) as (page, _):
                page.set_default_timeout(LIMIT_SECONDS * 1000)
                page.goto(f"http://{agent.registry}{path}")
                if name == "overview":
                    page.set_input_files("#upload-form input[type=file]", tmp_path / "metrics.tar")
                    uploaded = page.locator("#upload-list li")
                    expect(uploaded).to_have_attribute("data-state", "done")
                page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
    for name in VIEWS:
        assert (PICTURES / f"{name}.png").read_bytes().startswith(b"\x89PNG")
