"""Parses what an address of the page asks for. Pure.

A value that is none is refused with RequestInvalidError or counts as absent, as each function says.
"""

from collections.abc import Mapping

from airside.catalog.images import ImagePage
from airside.catalog.sources import ArchiveSearch
from airside.core.errors import RequestInvalidError
from airside.page import archive_list, image_list

_MOST_PAGES = 1_000_000
_TEXT_CHARS = 4096
_SEARCH_CHARS = 200


def number_in(query: Mapping[str, str], key: str, default: int) -> int:
    """Returns a whole number from 0 on; the default if there is none."""
    text = query.get(key, "")
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        return default
    return max(int(text), default)


def text_in(query: Mapping[str, str], key: str) -> str:
    """Returns a name or path. Raises RequestInvalidError."""
    text = query.get(key, "")
    if not text or "\0" in text or len(text) > _TEXT_CHARS:
        raise RequestInvalidError(f"{key} must be a name of at most {_TEXT_CHARS} characters")
    return text


def image_page(query: Mapping[str, str]) -> ImagePage:
    """Returns the page of images; an unknown filter shows all."""
    only, per_page = query.get("only", ""), image_list.PER_PAGE
    return ImagePage(
        _search(query), only if only in image_list.KINDS else "", per_page, _offset(query, per_page)
    )


def archive_search(query: Mapping[str, str], per_page: int = image_list.PER_PAGE) -> ArchiveSearch:
    """Returns the page of archives; an unknown filter shows all."""
    only = query.get("only", "")
    only = only if only in archive_list.KINDS else ""
    return ArchiveSearch(_search(query), only, per_page, _offset(query, per_page))


def _search(query: Mapping[str, str]) -> str:
    return query.get("q", "").strip()[:_SEARCH_CHARS].replace("\0", "")


def _offset(query: Mapping[str, str], per_page: int) -> int:
    return (min(number_in(query, "page", 1), _MOST_PAGES) - 1) * per_page
