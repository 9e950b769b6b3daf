"""The page in a real browser: Debian's Chromium without a window, one for this file, and one agent.

Each visit fails for an error on the console, a violation of the content security policy, a failing
script, or a request to another host (`support.browser.Watched`). Accessibility is judged by axe:
every page in English, light and wide, and in Chinese, dark and as wide as a phone. What takes
longer (all combinations, 10,000 images) is in `tests/dist/test_page_at_size.py`.
"""

import base64

import pytest
from playwright.sync_api import expect

from support.agent import Agent
from support.browser import PHONE, PROGRAM, browsing, check_accessible, visiting
from support.cut_proxy import cut_proxy
from support.images import docker_archive, oci_archive, random_image
from support.waiting import LIMIT_SECONDS, wait_until

pytestmark = [pytest.mark.system, pytest.mark.needs(PROGRAM)]

MIB = 1 << 20
HOSTILE = ("<img src=x onerror=alert(1)>.tar", "\u202egnp.tar", "x" * 250 + ".tar", "a&amp;<b>.tar")
PAGES = {
    "overview": "/ui/",
    "images": "/ui/images",
    "image": "/ui/image?name=vendor/first:1",
    "archives": "/ui/archives",
    "archive": "/ui/archive?path={images}/first.tar",
    "storage": "/ui/storage",
    "runtimes": "/ui/runtimes",
    "events": "/ui/log",
    "absent": "/ui/image?name=vendor/none:1",
}
LOOKS = {
    "English, light, wide": {"locale": "en-GB", "color_scheme": "light"},
    "Chinese, dark, phone": {"locale": "zh-CN", "color_scheme": "dark", "viewport": PHONE},
}


@pytest.fixture(scope="module")
def browser():
    with browsing() as found:
        expect.set_options(timeout=LIMIT_SECONDS * 1000)
        yield found


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    place = tmp_path_factory.mktemp("page")
    (place / "images").mkdir()
    with Agent(place / "images", place / "data") as running:
        oci_archive(running.watched / "first.tar", {"vendor/first:1": random_image("first")})
        running.wait_imported(running.watched / "first.tar")
        for name in HOSTILE:
            (running.watched / name).write_bytes(b"no archive")
        running.wait_idle()
        yield running


def open_page(page, agent, path="/ui/", host=""):
    page.set_default_timeout(LIMIT_SECONDS * 1000)
    page.goto(f"http://{host or agent.registry}{path.format(images=agent.watched)}")


def archive(tmp_path, name, reference):
    docker_archive(tmp_path / name, {reference: random_image(name)})
    return tmp_path / name


def large_archive(tmp_path, name, reference):
    """16 MB: several pieces."""
    oci_archive(tmp_path / name, {reference: random_image(name, layer_bytes=16 * MIB, layers=1)})
    return tmp_path / name


def row(page, name):
    return page.locator("#upload-list li").filter(has_text=name)


DROP = """async ([name, text]) => {
  const bytes = Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  const event = {bubbles: true, cancelable: true, dataTransfer: transfer};
  for (const kind of ["dragenter", "dragover", "drop"])
    document.body.dispatchEvent(new DragEvent(kind, event));
}"""


ANNOUNCED = """() => {
  const said = document.getElementById("said");
  window.announced = [];
  const note = () => window.announced.push(said.textContent);
  new MutationObserver(note).observe(said, { childList: true, characterData: true, subtree: true });
}"""
"""Keeps all that is read out to people: the next news may come at once."""


def test_a_dropped_archive_is_shown_as_an_image(agent, browser, tmp_path):
    file = archive(tmp_path, "dropped.tar", "vendor/dropped:1")
    with visiting(browser, agent.registry) as (page, _):
        open_page(page, agent)
        text = base64.b64encode(file.read_bytes()).decode()
        page.evaluate(ANNOUNCED)
        page.evaluate(DROP, ["dropped.tar", text])
        done = row(page, "dropped.tar")
        expect(done).to_have_attribute("data-state", "done")
        expect(done).to_contain_text("imported: docker.io/vendor/dropped:1")
        wait_until(lambda: any("dropped.tar" in each for each in page.evaluate("announced")))
        expect(page.locator("#arrivals")).to_contain_text("dropped.tar")  # live, without a reload
        open_page(page, agent, "/ui/images")
        expect(page.locator("main")).to_contain_text("vendor/dropped")


def test_a_rejected_archive_tells_why(agent, browser, tmp_path):
    (tmp_path / "wrong.tar").write_bytes(b"<img src=x onerror=alert(1)>" * 100)
    with visiting(browser, agent.registry) as (page, _):
        open_page(page, agent)
        page.set_input_files("#upload-form input[type=file]", tmp_path / "wrong.tar")
        failed = row(page, "wrong.tar")
        expect(failed).to_have_attribute("data-state", "failed")
        expect(failed).to_contain_text("rejected: the file is not a tar archive")
        open_page(page, agent, "/ui/archives")
        expect(page.locator("main")).to_contain_text("the file is not a tar archive")


def test_a_taken_name_is_replaced_only_by_choice(agent, browser, tmp_path):
    file = archive(tmp_path, "first.tar", "vendor/replaced:1")
    with visiting(browser, agent.registry) as (page, watched):
        watched.forgiven = ("409 (Conflict)",)
        open_page(page, agent)
        page.set_input_files("#upload-form input[type=file]", file)
        refused = row(page, "first.tar")
        expect(refused).to_contain_text("already")
        expect(refused).to_have_attribute("data-state", "refused")
        refused.get_by_role("button", name="Cancel").click()
        expect(refused).to_have_attribute("data-state", "cancelled")
    assert (agent.watched / "first.tar").read_bytes() != file.read_bytes()


def test_an_upload_goes_on_after_the_connection_broke(agent, browser, tmp_path):
    file = large_archive(tmp_path, "cut.tar", "vendor/cut:1")
    with cut_proxy(agent.registry) as proxy, visiting(browser, proxy.address) as (page, watched):
        watched.forgiven = ("net::ERR_", "409 (Conflict)")  # Chromium may repeat a request itself
        open_page(page, agent, host=proxy.address)
        begun = proxy.passed
        proxy.cut_after = lambda _piece: proxy.passed - begun > 9 * MIB
        page.set_input_files("#upload-form input[type=file]", file)
        expect(row(page, "cut.tar")).to_have_attribute("data-state", "done")
        assert proxy.cuts == 1
        assert proxy.passed - begun < file.stat().st_size + 12 * MIB
    assert (agent.watched / "cut.tar").read_bytes() == file.read_bytes()


def test_a_name_that_is_taken_during_the_upload_is_told_and_replaced_by_choice(
    agent, browser, tmp_path
):
    file = large_archive(tmp_path, "taken.tar", "vendor/taken:1")
    with cut_proxy(agent.registry) as proxy, visiting(browser, proxy.address) as (page, watched):
        watched.forgiven = ("net::ERR_", "409 (Conflict)")
        open_page(page, agent, host=proxy.address)
        proxy.go_down_after(9 * MIB)
        page.set_input_files("#upload-form input[type=file]", file)
        taken = row(page, "taken.tar")
        expect(taken).to_have_attribute("data-state", "broken")
        (agent.watched / "taken.tar").write_bytes(b"of somebody else")
        proxy.cut_after, proxy.is_down = None, False
        expect(taken).to_have_attribute("data-state", "refused")
        expect(taken).to_contain_text("already")
        assert (agent.watched / "taken.tar").read_bytes() == b"of somebody else"
        taken.get_by_role("button", name="Replace").click()
        expect(taken).to_have_attribute("data-state", "done")
    assert (agent.watched / "taken.tar").read_bytes() == file.read_bytes()
    assert not [path for path in agent.watched.iterdir() if path.name.startswith(".airside-")]


def test_an_upload_that_finds_no_space_is_kept_until_there_is_some(agent, browser, tmp_path):
    file = archive(tmp_path, "no-space.tar", "vendor/no-space:1")
    with visiting(browser, agent.registry) as (page, watched):
        watched.forgiven = ("507",)
        open_page(page, agent)
        begun, full = [], [True]

        def answer(route):
            if route.request.method == "POST":
                begun.append(route.request.url)
            if route.request.method == "PATCH" and full:
                full.clear()
                route.fulfill(status=507, body="no room")
            else:
                route.continue_()

        page.route("**/ui/uploads**", answer)
        page.set_input_files("#upload-form input[type=file]", file)
        expect(row(page, "no-space.tar")).to_contain_text("no room")
        row(page, "no-space.tar").get_by_role("button", name="Resume").click()
        expect(row(page, "no-space.tar")).to_have_attribute("data-state", "done")
        assert len(begun) == 1


def test_a_reloaded_page_goes_on_with_the_upload_when_the_file_is_chosen_again(
    agent, browser, tmp_path
):
    file = large_archive(tmp_path, "reload.tar", "vendor/reload:1")
    with cut_proxy(agent.registry) as proxy, visiting(browser, proxy.address) as (page, watched):
        watched.forgiven = ("net::ERR_", "409 (Conflict)")  # Chromium may repeat a request itself
        open_page(page, agent, host=proxy.address)
        proxy.go_down_after(9 * MIB)
        page.set_input_files("#upload-form input[type=file]", file)
        broken = row(page, "reload.tar")
        expect(broken).to_have_attribute("data-state", "broken")
        broken.get_by_role("button", name="Pause").click()
        expect(broken).to_have_attribute("data-state", "paused")
        proxy.is_down = False
        page.reload()
        expect(row(page, "reload.tar")).to_contain_text("choose the file again")
        page.set_input_files("#upload-form input[type=file]", file)
        expect(row(page, "reload.tar")).to_have_count(1)
        expect(row(page, "reload.tar")).to_have_attribute("data-state", "done")
    assert (agent.watched / "reload.tar").read_bytes() == file.read_bytes()


def test_without_scripts_everything_is_read_and_archives_are_uploaded(agent, browser, tmp_path):
    file = archive(tmp_path, "plain.tar", "vendor/plain:1")
    with visiting(browser, agent.registry, java_script_enabled=False) as (page, watched):
        watched.forgiven = ("404 (Not Found)", "409 (Conflict)")
        for path in PAGES.values():
            open_page(page, agent, path)
            expect(page.locator("h1")).to_be_visible()
        open_page(page, agent)
        expect(page.locator("#verdict")).to_be_visible()
        page.set_input_files("#upload-form input[type=file]", file)
        page.get_by_role("button", name="Upload", exact=True).click()
        expect(page.locator("#verdict")).to_be_visible()
        agent.wait_imported(agent.watched / "plain.tar")
        page.set_input_files("#upload-form input[type=file]", file)
        page.get_by_role("button", name="Upload", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("already")


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_on_any_page(agent, browser, look):
    with visiting(browser, agent.registry, **LOOKS[look]) as (page, watched):
        watched.forgiven = ("404 (Not Found)",)
        for name, path in PAGES.items():
            open_page(page, agent, path)
            check_accessible(page, f"{name}: {look}")


def test_names_of_strangers_are_text(agent, browser):
    with visiting(browser, agent.registry) as (page, _):
        page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
        open_page(page, agent, "/ui/archives")
        shown = page.locator("main")
        for text in (HOSTILE[0], HOSTILE[3], r"\u202egnp.tar"):
            expect(shown).to_contain_text(text)
        assert page.locator("main img, main b").count() == 0
        assert "\u202e" not in page.content()
        for link in page.locator("main a[href*='/ui/archive?']").all():
            address = link.get_attribute("href")
            other = page.context.new_page()
            open_page(other, agent, address.replace("{", "{{").replace("}", "}}"))
            assert other.locator("main img").count() == 0
            other.close()


def test_a_hostile_name_of_an_uploaded_file_is_text(agent, browser):
    names = ["<img src=x onerror=alert(1)>.tar", "\u202egnp.rat", "n" * 4096 + ".tar"]
    with visiting(browser, agent.registry) as (page, watched):
        watched.forgiven = ("400 (Bad Request)", "409 (Conflict)")
        page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
        open_page(page, agent)
        for name in names:
            page.evaluate(DROP, [name, "eA=="])
        items = page.locator("#upload-list li")
        expect(items).to_have_count(len(names))
        for item in items.all():
            expect(item).to_have_attribute("data-state", "refused")
        assert page.locator("main img").count() == 0
        assert "\u202e" not in page.inner_text("main")
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0


def test_everything_is_reached_and_used_with_the_keyboard_alone(agent, browser, tmp_path):
    file = archive(tmp_path, "keyboard.tar", "vendor/keyboard:1")
    with visiting(browser, agent.registry) as (page, _):
        open_page(page, agent)
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        interactive = page.locator(
            "main a:visible, main button:visible, main input:visible, main [tabindex='0']:visible"
        ).count()
        reached, has_file = set(), False
        for _ in range(interactive + 20):
            page.keyboard.press("Tab")
            where = page.evaluate(FOCUS)
            if not where or where["outside"]:
                break
            assert where["outlined"], f"the focus is not seen on {where['html']}"
            reached.add(where["index"])
            if where["html"].startswith("<input") and 'type="file"' in where["html"]:
                has_file = True
        assert len(reached) >= interactive, (len(reached), interactive)
        assert has_file
        choose_with_the_keyboard(page, file)
        expect(row(page, "keyboard.tar")).to_have_attribute("data-state", "done")


def choose_with_the_keyboard(page, file):
    """As people do it: press the key again when no dialog came (a busy Chromium drops one)."""
    choosers = []

    def opened(chooser):
        choosers.append(chooser)

    page.on("filechooser", opened)
    field = page.locator("#upload-form input[type=file]")
    field.focus()

    def has_chooser():
        expect(field).to_be_focused()
        page.keyboard.press("Space")
        page.wait_for_timeout(1000)  # events are handled in here
        return choosers

    wait_until(has_chooser, what="the dialog for files opens")
    choosers[0].set_files(file)


FOCUS = """() => {
  const at = document.activeElement;
  if (!at || at === document.body) return null;
  const style = getComputedStyle(at);
  return {
    outside: !document.querySelector("main").contains(at),
    index: [...document.querySelectorAll("*")].indexOf(at),
    outlined: parseFloat(style.outlineWidth) >= 2 && style.outlineStyle !== "none",
    html: at.outerHTML.slice(0, 200),
  };
}"""
