import html
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airside.page.element import h, name_of, render


class Parsed(HTMLParser):
    """What a reader of HTML finds: elements with attributes, and the text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.text = [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@given(st.text(max_size=60))
def test_a_text_stays_text_whatever_it_holds(text):
    found = Parsed(render(h("p", name_of(text), title=text)))
    assert [tag for tag, _ in found.elements] == ["p", "bdi"]
    assert set(found.elements[0][1]) == {"title"}


@pytest.mark.parametrize(
    "name",
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "&lt;b&gt;"],
)
def test_markup_in_a_name_is_shown(name):
    found = Parsed(render(h("td", name, title=name)))
    assert found.text == name
    assert found.elements == [("td", {"title": name})]


def test_control_and_direction_characters_of_a_name_are_seen():
    assert html.unescape(render(name_of("a\x00\x1b[31m\u202egnp.exe"))) == (
        "<bdi>a\\x00\\x1b[31m\\u202egnp.exe</bdi>"
    )


def test_what_html_cannot_have_is_replaced():
    assert render(h("p", "a\x00b\udc80c")) == "<p>a\ufffdb\ufffdc</p>"


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", "//evil.example/", "https://evil.example/"],
)
def test_an_address_of_elsewhere_is_refused(address):
    with pytest.raises(ValueError, match="leads elsewhere"):
        h("a", "x", href=address)


@pytest.mark.parametrize("name", ["onclick", "style", "x y", "a>b"])
def test_an_attribute_that_runs_or_is_none_is_refused(name):
    with pytest.raises(ValueError, match="no attribute"):
        h("a", **{name: "x"})


def test_inline_scripts_and_styles_cannot_be_made():
    for tag in ("script", "style"):
        with pytest.raises(ValueError, match="no element"):
            h(tag, "alert(1)")


def test_no_value_is_no_attribute_and_true_is_one_without_a_value():
    assert render(h("input", disabled=True, checked=False, value=None, name="a")) == (
        '<input disabled name="a">'
    )
