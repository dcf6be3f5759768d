"""Bars with intervals, and lines, as SVG written by hand: benchmarks need no plotting library."""

from collections.abc import Mapping, Sequence
from html import escape

_COLOURS = ("#0f766e", "#b45309", "#1d4ed8", "#be185d", "#4d7c0f", "#6b7280", "#7c3aed", "#0891b2", "#a16207")
_FONT = "font-family='system-ui, sans-serif' font-size='12'"
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 860, 420, 60, 170, 50, 80

Interval = tuple[float, float, float]  # middle, low, high


def bars(title: str, unit: str, series: Mapping[str, Mapping[str, Interval]], baseline: float = 1.0) -> str:
    """series: name -> group -> value with its interval. A line marks the baseline."""
    groups = list(dict.fromkeys(group for values in series.values() for group in values))
    top = 1.1 * max([baseline, *(value[2] for values in series.values() for value in values.values())])
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(groups))
    width = 0.8 * step / max(1, len(series))
    parts = _frame(title, unit, top, list(series))
    for number, (_, values) in enumerate(series.items()):
        for group, (middle, low, high) in values.items():
            x = _LEFT + step * groups.index(group) + 0.1 * step + width * number
            parts.append(
                f"<rect x='{x:.1f}' y='{_down(middle, top):.1f}' width='{0.9 * width:.1f}' "
                f"height='{_down(0, top) - _down(middle, top):.1f}' fill='{_COLOURS[number % len(_COLOURS)]}'/>"
                f"<path d='M{x + 0.45 * width:.1f} {_down(low, top):.1f}V{_down(high, top):.1f}' stroke='#111827'/>"
            )
    for place, group in enumerate(groups):
        x = _LEFT + step * (place + 0.5)
        parts.append(
            f"<text x='{x:.1f}' y='{_HEIGHT - _BOTTOM + 16}' text-anchor='end' {_FONT} "
            f"transform='rotate(-25 {x:.1f} {_HEIGHT - _BOTTOM + 16})'>{escape(group)}</text>"
        )
    return _document([*parts, _rule(baseline, top)])


def lines(title: str, unit: str, series: Mapping[str, Sequence[tuple[float, Interval]]], baseline: float = 1.0) -> str:
    """series: name -> points (x, value with its interval); x is evenly spaced in the order given."""
    xs = list(dict.fromkeys(x for points in series.values() for x, _ in points))
    top = 1.1 * max([baseline, *(value[2] for points in series.values() for _, value in points)])
    parts = _frame(title, unit, top, list(series))

    def across(x: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (xs.index(x) + 0.5) / len(xs)

    for number, points in enumerate(series.values()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{across(x):.1f},{_down(value[0], top):.1f}" for x, value in points)
        parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
        for x, (middle, low, high) in points:
            parts.append(
                f"<circle cx='{across(x):.1f}' cy='{_down(middle, top):.1f}' r='3' fill='{colour}'/>"
                f"<path d='M{across(x):.1f} {_down(low, top):.1f}V{_down(high, top):.1f}' stroke='{colour}'/>"
            )
    for x in xs:
        place = f"x='{across(x):.1f}' y='{_HEIGHT - _BOTTOM + 18}'"
        parts.append(f"<text {place} text-anchor='middle' {_FONT}>{x:g}</text>")
    return _document([*parts, _rule(baseline, top)])


def _down(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / top


def _rule(value: float, top: float) -> str:
    return (
        f"<path d='M{_LEFT} {_down(value, top):.1f}H{_WIDTH - _RIGHT}' stroke='#6b7280' stroke-dasharray='4 3'/>"
        f"<text x='{_LEFT - 6}' y='{_down(value, top) + 4:.1f}' text-anchor='end' {_FONT}>{value:g}</text>"
    )


def _frame(title: str, unit: str, top: float, names: Sequence[str]) -> list[str]:
    parts = [
        f"<text x='{_LEFT}' y='24' {_FONT} font-weight='bold'>{escape(title)}</text>",
        f"<text x='{_LEFT}' y='40' {_FONT} fill='#6b7280'>{escape(unit)}</text>",
        f"<path d='M{_LEFT} {_TOP}V{_HEIGHT - _BOTTOM}H{_WIDTH - _RIGHT}' fill='none' stroke='#111827'/>",
        f"<text x='{_LEFT - 6}' y='{_TOP + 4}' text-anchor='end' {_FONT}>{top:.2g}</text>",
    ]
    for number, name in enumerate(names):
        y = _TOP + 18 * number
        parts.append(
            f"<rect x='{_WIDTH - _RIGHT + 12}' y='{y - 9}' width='10' height='10' "
            f"fill='{_COLOURS[number % len(_COLOURS)]}'/>"
            f"<text x='{_WIDTH - _RIGHT + 28}' y='{y}' {_FONT}>{escape(name)}</text>"
        )
    return parts


def _document(parts: Sequence[str]) -> str:
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {_HEIGHT}' width='{_WIDTH}' "
        f"height='{_HEIGHT}'><rect width='100%' height='100%' fill='white'/>{''.join(parts)}</svg>"
    )
