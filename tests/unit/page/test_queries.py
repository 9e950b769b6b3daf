import pytest

from airside.core.errors import RequestInvalidError
from airside.page.image_list import PER_PAGE
from airside.page.queries import archive_search, image_page, number_in, text_in


@pytest.mark.parametrize("text", ["", "-1", "x", "1e3", "٣", "1" * 40])
def test_what_is_no_number_is_the_default(text):
    assert number_in({"page": text}, "page", 1) == 1


def test_a_page_is_an_offset():
    assert image_page({"page": "3"}).offset == 2 * PER_PAGE
    assert image_page({}).offset == archive_search({}).offset == 0


def test_an_unknown_filter_shows_all_and_a_text_is_bounded():
    assert image_page({"only": "'; DROP TABLE tag"}).only == ""
    assert archive_search({"only": "problems"}).only == "problems"
    assert len(image_page({"q": "x" * 9999}).text) <= 200


@pytest.mark.parametrize("text", ["", "a\0b", "x" * 5000])
def test_a_name_that_cannot_be_one_is_refused(text):
    with pytest.raises(RequestInvalidError):
        text_in({"name": text}, "name")
