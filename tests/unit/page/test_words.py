from string import Formatter

import pytest

from airside.diagnostics.verdict import SENTENCES
from airside.page.words import LANGUAGES, NAMES, TAGS, Words, choose_language


def names_in(text):
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_every_text_with_the_same_values(language):
    english, other = LANGUAGES["en"], LANGUAGES[language]
    assert set(other) == set(english)
    for key, text in english.items():
        assert names_in(other[key]) == names_in(text), key
        assert bool(other[key]) == bool(text), key


def test_each_language_has_a_name_and_a_tag():
    assert set(NAMES) == set(TAGS) == set(LANGUAGES)


def test_each_concern_is_a_text_of_the_page():
    for code in SENTENCES:
        assert Words()(f"verdict.{code}", **dict.fromkeys(names_in(SENTENCES[code][0]), "x"))


@pytest.mark.parametrize(
    ("chosen", "kept", "accepted", "language"),
    [
        ("", "", "", "en"),
        ("", "", "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("", "", "en-GB,en;q=0.9,zh;q=0.8", "en"),
        ("", "", "de,fr;q=0.5", "en"),
        ("", "", "de,zh-TW;q=0.3", "zh"),
        ("", "zh", "en", "zh"),
        ("en", "zh", "zh", "en"),
        ("xx", "yy", "zh;q=x", "en"),
        ("", "", "zh;q=0", "en"),
    ],
)
def test_the_language_is_the_chosen_one_else_that_of_the_browser(chosen, kept, accepted, language):
    assert choose_language(chosen, kept, accepted) == language
