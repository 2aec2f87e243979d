"""Bar charts as SVG, drawn without any library: no script, nothing loaded, readable in print."""

from collections.abc import Iterator
from html import escape
from typing import Final

from auditor.evidence.model import Chart

_WIDTH: Final = 720
_HEIGHT: Final = 220
_BAR, _INK, _GRID = "#1d5fa8", "#1b1b1b", "#c9ced6"
_LEFT: Final = 64
_TOP: Final = 12
_BOTTOM: Final = 34
_ROW: Final = 24
_LABEL_WIDTH: Final = 250
_VALUE_WIDTH: Final = 90
_MAX_LABEL: Final = 36
_TICKS: Final = 4
_MOST_LABELS: Final = 8


def draw_chart(chart: Chart, identity: str) -> str:
    """An `<svg>` element.

    Args:
        chart: What to draw; at least one value is above zero.
        identity: Unique in the document; title and description hang on it.
    """
    height = _HEIGHT if chart.is_series else _TOP + _ROW * len(chart.bars) + 4
    body = _draw_series(chart) if chart.is_series else _draw_rows(chart)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"'
        f' aria-labelledby="{identity}-title {identity}-text"><title id="{identity}-title">{escape(chart.caption)}</title>'
        f'<desc id="{identity}-text">{escape(_describe(chart))}</desc>{"".join(body)}</svg>'
    )


def _describe(chart: Chart) -> str:
    label, value = max(chart.bars, key=lambda bar: bar[1])
    return f"{len(chart.bars)} bars, in {chart.unit}; the largest is {label} with {format_number(value)}."


def format_number(value: float) -> str:
    """A number as charts and tables write it: groups of thousands, at most three decimals."""
    if float(value).is_integer():
        return f"{int(value):,}".replace(",", "\N{NO-BREAK SPACE}")
    return f"{value:,.3f}".rstrip("0").rstrip(".").replace(",", "\N{NO-BREAK SPACE}")


def _draw_rows(chart: Chart) -> Iterator[str]:
    """Lying bars, one under the other, each with its value."""
    largest = max(value for _, value in chart.bars)
    room = _WIDTH - _LABEL_WIDTH - _VALUE_WIDTH
    for number, (label, value) in enumerate(chart.bars):
        top = _TOP + number * _ROW
        width = max(value, 0) / largest * room
        shown = label if len(label) <= _MAX_LABEL else f"{label[: _MAX_LABEL - 1]}\N{HORIZONTAL ELLIPSIS}"
        yield _text(_LABEL_WIDTH - 8, top + 15, shown, "end")
        yield f'<rect x="{_LABEL_WIDTH}" y="{top + 3}" width="{width:.1f}" height="16" fill="{_BAR}"/>'
        yield _text(_LABEL_WIDTH + width + 6, top + 15, format_number(value), "start")


def _draw_series(chart: Chart) -> Iterator[str]:
    """Standing bars over a time axis."""
    top_value = _round_up(max(value for _, value in chart.bars))
    room, depth = _WIDTH - _LEFT - 8, _HEIGHT - _TOP - _BOTTOM
    for tick in range(_TICKS + 1):
        y = _TOP + depth - depth * tick / _TICKS
        yield f'<line x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_GRID}" stroke-width="1"/>'
        yield _text(_LEFT - 6, y + 4, format_number(top_value * tick / _TICKS), "end")
    step = room / len(chart.bars)
    every = -(-len(chart.bars) // _MOST_LABELS)
    for number, (label, value) in enumerate(chart.bars):
        height = max(value, 0) / top_value * depth
        x, y = _LEFT + number * step, _TOP + depth - height
        if height:
            width = min(max(step * 0.8, 0.6), 48)
            left = x + (step - width) / 2
            yield f'<rect x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{_BAR}"/>'
        if number % every == 0:
            yield _text(x + step / 2, _HEIGHT - 14, label, "middle")


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="12" fill="{_INK}">{escape(text)}</text>'


def _round_up(value: float) -> float:
    """The next 1, 2, 4 or 8 times a power of ten, so that four ticks are round."""
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value:
        power /= 10
    return next(power * factor for factor in (1, 2, 4, 8, 10) if power * factor >= value)
