"""Times, texts of the agent, and things to copy, as elements. Pure."""

from datetime import UTC, datetime

from airside.core.logs import printable
from airside.diagnostics.quantities import size_text
from airside.page.element import Element, h
from airside.page.words import Words


def english(text: str) -> Element:
    """Returns a text of the agent, which speaks English and quotes strangers' names."""
    return h("span", printable(text), lang="en", dir="auto")


def size_of(size_bytes: float) -> Element:
    """Returns a size that stays on one line."""
    return h("span", size_text(size_bytes), class_="size")


def time_of(value: str | None) -> Element | None:
    """Returns a time of a report in the agent's time zone; None for none."""
    if not value:
        return None
    try:
        shown = datetime.fromisoformat(value).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return h("span", printable(value))
    return h("time", shown, datetime=value)


def zone_text() -> str:
    """Returns the time zone of `time_of`, such as `UTC+08:00`."""
    offset = datetime.now(UTC).astimezone().isoformat(timespec="seconds")[-6:]
    return "UTC" if offset == "+00:00" else f"UTC{offset}"


def copied(words: Words, text: str, what: str) -> Element:
    """Returns a text to copy. The button appears with the script; `what` names it to a reader."""
    button = h(
        "button",
        words("copy"),
        type="button",
        data_copy=True,
        hidden=True,
        aria_label=words("copy.of", what=what),
    )
    return h("div", h("code", printable(text), translate="no"), " ", button, class_="copied")
