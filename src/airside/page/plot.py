"""The free space over time as SVG, with a text that says the same. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime

from airside.diagnostics.quantities import size_text
from airside.diagnostics.space_forecast import Sample
from airside.page.element import Element, Node, h
from airside.page.words import Words

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 220, 76, 24, 10


def free_space_plot(words: Words, samples: Sequence[Sample], min_free_bytes: int) -> Node:
    """Returns the plot. `min_free_bytes`: the line under which imports wait."""
    if len(samples) < 2:
        return h("p", words("storage.plot.later"), class_="dim")
    first, last = samples[0], samples[-1]
    top = max(each.total_bytes for each in samples) or 1
    span = max(last.at - first.at, 1.0)

    def x(at: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - 10) * (at - first.at) / span

    def y(size: float) -> float:
        return _TOP + (_HEIGHT - _BOTTOM - _TOP) * (1 - size / top)

    points = " ".join(f"{x(each.at):.1f},{y(each.free_bytes):.1f}" for each in samples)
    said = words(
        "storage.plot.text",
        first=size_text(first.free_bytes),
        last=size_text(last.free_bytes),
        start=_day(first.at),
        end=_day(last.at),
    )
    limit = y(min_free_bytes)
    drawing = h(
        "svg",
        h("title", said, id="plot-text"),
        [_rule(y(part * top / 4), size_text(part * top / 4)) for part in range(5)],
        h("line", x1=_LEFT, x2=_WIDTH - 10, y1=f"{limit:.1f}", y2=f"{limit:.1f}", class_="limit"),
        h("polyline", points=points, class_="curve"),
        h("text", _day(first.at), x=_LEFT, y=_HEIGHT - 6),
        h("text", _day(last.at), x=_WIDTH - 10, y=_HEIGHT - 6, text_anchor="end"),
        viewbox=f"0 0 {_WIDTH} {_HEIGHT}",
        width=_WIDTH,
        height=_HEIGHT,
        role="img",
        aria_labelledby="plot-text",
        class_="plot",
    )
    return (drawing, h("p", said))


def _rule(y: float, label: str) -> list[Element]:
    return [
        h("line", x1=_LEFT, x2=_WIDTH - 10, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="rule"),
        h("text", label, x=_LEFT - 6, y=f"{y + 4:.1f}", text_anchor="end"),
    ]


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d")
