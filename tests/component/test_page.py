"""The page of an agent: headers, access, languages, and the numbers of `airside status`."""

import http.client
from html.parser import HTMLParser

import pytest

from support.agent import Agent
from support.guarded import basic, htpasswd
from support.images import docker_archive, random_image

VOID = {"input", "link", "meta", "br", "hr", "img"}
HOSTILE = "<img src=x onerror=alert(1)>"
PATHS = ["/ui/"]


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
    docker_archive(images / "team.tar", {"registry.example/team:1": random_image("page")})
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
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"


def test_the_sentence_is_that_of_the_status(agent):
    found = Document(Answer(agent).text)
    assert "1 of 2 archives are not imported completely" in found.text
    assert agent.status()["archives"] == {"imported": 1, "rejected": 1}


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


def test_a_page_of_another_site_gets_nothing(agent):
    assert Answer(agent, headers={"Sec-Fetch-Site": "cross-site"}).status == 403
    assert Answer(agent, headers={"Host": "rebound.example"}).status == 421


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
        assert Answer(agent, headers=basic("ann", "hunter2")).status == 200
        upload = Answer(agent, "/ui/uploads", "POST", headers=basic("ann", "hunter2"))
        assert upload.status == 403


def test_no_page_is_served_where_it_is_switched_off(tmp_path):
    (tmp_path / "images").mkdir()
    with Agent(tmp_path / "images", tmp_path / "data", config="page = false\n") as agent:
        assert Answer(agent).status == 404
