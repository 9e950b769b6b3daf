"""The page of an agent: headers, access, languages, and the numbers of `airside status`."""

import http.client
from html.parser import HTMLParser
from urllib.parse import quote, urlencode

import pytest

from airside.diagnostics.quantities import size_text
from support.agent import Agent
from support.guarded import basic, htpasswd
from support.images import docker_archive, random_image
from support.waiting import LIMIT_SECONDS

VOID = {"input", "link", "meta", "br", "hr", "img"}
HOSTILE = "<img src=x onerror=alert(1)>"
NAME = "registry.example/team:1"
PATHS = [
    "/ui/",
    "/ui/images",
    "/ui/images?q=TEAM&only=images&page=1",
    f"/ui/image?name={NAME}",
    "/ui/image?name=registry.example/team",
    "/ui/archives",
    "/ui/archives?only=problems",
    "/ui/storage",
    "/ui/runtimes",
    "/ui/log",
]


class Answer:
    """One answer of the registry's server."""

    def __init__(self, agent, path="/ui/", method="GET", body=None, headers=None):
        connection = http.client.HTTPConnection(agent.registry, timeout=20)
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        self.status, self.headers = response.status, response.headers
        self.text = response.read().decode()
        connection.close()


class Document(HTMLParser):
    """Elements, identities and text of a document; fails where an element is not closed."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []
        identities = [each["id"] for _, each in self.elements if "id" in each]
        assert len(identities) == len(set(identities))

    def handle_starttag(self, tag, attrs):
        if tag in {"p", "div", "ul", "ol", "dl", "table", "form", "section", "nav"}:
            assert "p" not in self.open, f"<{tag}> within <p>"  # a browser ends the paragraph
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for each, attributes in self.elements if each == tag]


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    place = tmp_path_factory.mktemp("page")
    images = place / "images"
    images.mkdir()
    docker_archive(images / "team.tar", {NAME: random_image("page")})
    (images / f"{HOSTILE}.tar").write_bytes(b"no archive" * 100)
    with Agent(images, place / "data") as found:
        found.wait_idle()
        yield found


@pytest.mark.parametrize("path", PATHS)
def test_a_document_is_whole_without_scripts(agent, path):
    answer = Answer(agent, path)
    assert answer.status == 200
    assert answer.text.startswith("<!doctype html>")
    found = Document(answer.text)
    assert len(found.all("h1")) == len(found.all("main")) == len(found.all("nav")) == 1
    assert found.all("html") == [{"lang": "en"}]
    for each in found.all("script"):
        assert each["src"].startswith("/ui/assets/")


@pytest.mark.parametrize("path", PATHS)
def test_a_document_runs_nothing_that_it_holds(agent, path):
    headers = Answer(agent, path).headers
    policy = headers["Content-Security-Policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"


def test_the_sentence_is_that_of_the_status(agent):
    found = Document(Answer(agent).text)
    assert "1 archive of 2 is not imported completely" in found.text
    assert agent.status()["archives"] == {"imported": 1, "rejected": 1}


def test_the_sentence_and_its_advice_read_as_two_sentences(agent):
    english = Document(Answer(agent).text).text
    assert "(1 rejected). Run airside archives" in english
    chinese = Document(Answer(agent, headers={"Accept-Language": "zh"}).text).text
    assert "。 运行 airside archives" in chinese


def test_the_time_zone_of_the_times_is_told(agent):
    assert "Times are those of the node, UTC" in Document(Answer(agent).text).text


def test_it_speaks_the_language_of_the_browser_or_the_chosen_one(agent):
    chinese = Answer(agent, headers={"Accept-Language": "zh-CN,zh;q=0.9"})
    assert 'lang="zh-Hans"' in chinese.text
    chosen = Answer(agent, "/ui/?lang=zh")
    assert 'lang="zh-Hans"' in chosen.text
    kept = chosen.headers["Set-Cookie"].partition(";")[0]
    assert 'lang="zh-Hans"' in Answer(agent, headers={"Cookie": kept}).text
    assert "SameSite=Strict" in chosen.headers["Set-Cookie"]


def test_assets_are_kept_for_ever_under_the_name_of_their_bytes(agent):
    page = Document(Answer(agent).text)
    style = next(each["href"] for each in page.all("link") if each["rel"] == "stylesheet")
    first = Answer(agent, style)
    assert first.status == 200
    assert first.headers["Content-Type"] == "text/css; charset=utf-8"
    assert "immutable" in first.headers["Cache-Control"]
    again = Answer(agent, style, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.text) == (304, "")
    assert Answer(agent, "/ui/assets/page.0000000000000000.css").status == 404
    assert Answer(agent, "/ui/assets/..%2froutes.py").status == 404


def test_the_numbers_are_those_of_the_status(agent):
    status, page = agent.status(), Document(Answer(agent).text)
    numbers = page.text[page.text.index("In numbers") :]
    size = size_text(status["blob_bytes"])
    assert f"Images{status['images']}" in numbers
    assert f"Repositories{status['repositories']}" in numbers
    assert f"Blobs{status['blobs']} ({size})" in numbers
    assert "Archives1 imported, 1 rejected" in numbers
    assert f"Blobs{status['blobs']} ({size})" in Document(Answer(agent, "/ui/storage").text).text


@pytest.mark.parametrize("path", ["/ui/", "/ui/archives", "/ui/log"])
def test_a_hostile_name_is_text(agent, path):
    found = Document(Answer(agent, path).text)
    assert f"{HOSTILE}.tar" in found.text
    assert found.all("img") == []


def test_the_reason_of_a_rejected_archive_is_told(agent):
    [path] = [str(each) for each in agent.archives() if HOSTILE in str(each)]
    found = Document(Answer(agent, f"/ui/archive?path={quote(path)}").text)
    [reason] = [each["reason"] for each in agent.archives().values() if each["reason"]]
    assert reason in found.text
    assert "rejected" in found.text


def test_an_image_is_shown_as_it_is_explained(agent):
    answer = agent.ask(f"/v1/explain?what={NAME}")
    found = Document(Answer(agent, f"/ui/image?name={NAME}").text)
    assert answer["digest"] in found.text
    for each in answer["pull"]:
        assert each["command"] in found.text
    assert f"image: {NAME}" in found.text
    assert "oras copy --from-plain-http" in found.text


def test_what_is_absent_is_404_with_advice(agent):
    absent = Answer(agent, "/ui/image?name=registry.example/teem:1")
    assert absent.status == 404
    assert NAME in Document(absent.text).text
    assert Answer(agent, "/ui/archive?path=/nowhere.tar").status == 404
    assert Answer(agent, "/ui/nothing").status == 404
    for bad in ("", "?name=", "?name=%00", "?name=A%20B"):
        assert Answer(agent, f"/ui/image{bad}").status == 400
    assert Answer(agent, "/ui/images?page=99999999999999&q=%00%ff").status == 200


def test_a_test_pull_times_each_step(agent):
    shown = Document(Answer(agent, f"/ui/image?name={NAME}").text)
    form = {
        each["name"]: each["value"] for each in shown.all("input") if each.get("type") == "hidden"
    }
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    done = Answer(agent, "/ui/test", "POST", urlencode(form), kind)
    assert done.status == 200
    found = Document(done.text)
    assert "The pull fails" not in found.text
    size = agent.ask(f"/v1/explain?what={NAME}")["size_bytes"]
    assert f"{size_text(size)} in " in found.text
    assert len(found.all("tr")) >= 4


def test_a_test_pull_needs_a_form_of_this_page(agent):
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    for body in ("", f"name={NAME}", f"name={NAME}&form=guessed"):
        assert Answer(agent, "/ui/test", "POST", body, kind).status == 403
    foreign = kind | {"Origin": "http://evil.example"}
    assert Answer(agent, "/ui/test", "POST", f"name={NAME}", foreign).status == 403


class Stream:
    """The events of an open page."""

    def __init__(self, agent):
        self.connection = http.client.HTTPConnection(agent.registry, timeout=LIMIT_SECONDS)
        self.connection.request("GET", "/ui/events")
        self.response = self.connection.getresponse()
        assert self.response.headers["Content-Type"] == "text/event-stream"
        assert self.line().startswith("retry:")

    def line(self):
        return self.response.readline().decode().rstrip("\n")

    def wait_change(self):
        while self.line() != "event: change":
            pass

    def close(self):
        self.connection.close()


def test_an_open_page_is_told_of_a_change_and_its_stream_ends_with_the_agent(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    with Agent(images, tmp_path / "data") as agent:
        stream = Stream(agent)
        docker_archive(images / "late.tar", {"registry.example/late:1": random_image("late")})
        stream.wait_change()
        agent.wait_idle()
        assert "registry.example/late:1" in Answer(agent, "/ui/images").text
        agent.stop()
        assert stream.response.read() is not None
        stream.close()


def test_a_page_of_another_site_gets_nothing(agent):
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert Answer(agent, headers=foreign).status == 403
    embedded = foreign | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    assert Answer(agent, headers=embedded).status == 403
    assert Answer(agent, headers={"Host": "rebound.example"}).status == 421


def test_a_link_of_another_site_leads_to_it(agent):
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    link |= {"Sec-Fetch-Dest": "document", "Accept": "text/html,*/*;q=0.8"}
    assert Answer(agent, f"/ui/image?name={NAME}", headers=link).status == 200
    refused = Answer(agent, "/v2/_catalog", headers=link)
    assert (refused.status, refused.headers["Content-Type"]) == (403, "application/json")


def test_a_refusal_is_told_to_a_browser_in_words(agent):
    browser = {"Accept": "text/html", "Accept-Language": "zh"}
    refused = Answer(agent, headers=browser | {"Host": "rebound.example"})
    assert (refused.status, "allowed_hosts" in Document(refused.text).text) == (421, True)
    assert 'lang="zh-Hans"' in refused.text
    assert refused.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_only_who_may_pull_everything_sees_it(tmp_path):
    (tmp_path / "users").write_text(htpasswd(ann="hunter2", bob="swordfish"))
    (tmp_path / "access.toml").write_text(
        '[users.ann]\nrules = [{ repositories = ["**"], actions = ["pull"] }]\n'
        '[users.bob]\nrules = [{ repositories = ["docker.io/**"], actions = ["pull"] }]\n'
    )
    config = f'htpasswd = "{tmp_path}/users"\naccess = "{tmp_path}/access.toml"\n'
    (tmp_path / "images").mkdir()
    with Agent(tmp_path / "images", tmp_path / "data", config=config) as agent:
        for path in ("/ui/", "/%75i/", "/ui/assets/page.css"):
            anonymous = Answer(agent, path)
            assert anonymous.status == 401
            assert anonymous.headers["WWW-Authenticate"].startswith("Basic ")
            assert Answer(agent, path, headers=basic("bob", "swordfish")).status == 403
        told = Answer(agent, headers={"Accept": "text/html", **basic("bob", "swordfish")})
        assert told.status == 403
        assert "it needs the right to pull all images" in Document(told.text).text
        asked = Answer(agent, headers={"Accept": "text/html"})
        assert (asked.status, asked.headers["WWW-Authenticate"][:6]) == (401, "Basic ")
        assert Answer(agent, headers=basic("ann", "hunter2")).status == 200
        upload = Answer(agent, "/ui/uploads", "POST", headers=basic("ann", "hunter2"))
        assert upload.status == 403


def test_no_page_is_served_where_it_is_switched_off(tmp_path):
    (tmp_path / "images").mkdir()
    with Agent(tmp_path / "images", tmp_path / "data", config="page = false\n") as agent:
        assert Answer(agent).status == 404
