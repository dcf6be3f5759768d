"""Lines over numbers as SVG, written by hand: losses over steps, quality over tokens per forward."""

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10

_WIDTH, _HEIGHT = 760, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 180, 50, 56
_COLOURS = ("#0f766e", "#b45309", "#1d4ed8", "#be185d", "#4d7c0f", "#6b7280")
_FONT = "font-family='system-ui, sans-serif' font-size='12'"

Points = Sequence[tuple[float, float]]


def curves_svg(
    title: str,
    x_label: str,
    y_label: str,
    series: Mapping[str, Points],
    *,
    marks: bool = False,
    rules: Mapping[str, float] | None = None,
    bottom: float | None = None,
) -> str:
    """series: name -> points. marks: draw the points too. rules: name -> height of a dashed line. bottom: of the scale,
    if it is not to be near the lowest point.
    """
    rules = rules or {}
    xs = [x for points in series.values() for x, _ in points] or [0.0, 1.0]
    ys = [y for points in series.values() for _, y in points] + list(rules.values()) or [0.0, 1.0]
    x_ticks = _ticks(min(xs), max(xs))
    y_ticks = _ticks(min(ys) if bottom is None else bottom, max(ys))

    def across(x: float) -> float:
        share = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def down(y: float) -> float:
        share = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f"<text x='{_LEFT}' y='22' {_FONT} font-weight='bold'>{escape(title)}</text>",
        f"<text x='{_LEFT}' y='40' {_FONT} fill='#6b7280'>{escape(y_label)}</text>",
        f"<text x='{(_LEFT + _WIDTH - _RIGHT) / 2}' y='{_HEIGHT - 12}' text-anchor='middle' {_FONT}>"
        f"{escape(x_label)}</text>",
    ]
    for y in y_ticks:
        parts.append(f"<path d='M{_LEFT} {down(y):.1f}H{_WIDTH - _RIGHT}' stroke='#e5e7eb'/>")
        parts.append(f"<text x='{_LEFT - 8}' y='{down(y) + 4:.1f}' text-anchor='end' {_FONT}>{y:g}</text>")
    for x in x_ticks:
        place = f"x='{across(x):.1f}' y='{_HEIGHT - _BOTTOM + 18}'"
        parts.append(f"<text {place} text-anchor='middle' {_FONT}>{x:g}</text>")
    for number, (name, points) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        line = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in points)
        parts.append(f"<polyline points='{line}' fill='none' stroke='{colour}' stroke-width='2'/>")
        if marks:
            parts += [f"<circle cx='{across(x):.1f}' cy='{down(y):.1f}' r='3' fill='{colour}'/>" for x, y in points]
        parts += _legend(number, name, colour)
    for name, y in rules.items():
        parts.append(
            f"<path d='M{_LEFT} {down(y):.1f}H{_WIDTH - _RIGHT}' stroke='#111827' stroke-dasharray='4 3'/>"
            f"<text x='{_WIDTH - _RIGHT + 8}' y='{down(y) + 4:.1f}' {_FONT}>{escape(name)}</text>"
        )
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {_HEIGHT}' width='{_WIDTH}' "
        f"height='{_HEIGHT}'><rect width='100%' height='100%' fill='white'/>{''.join(parts)}</svg>\n"
    )


def _legend(number: int, name: str, colour: str) -> list[str]:
    x, y = _WIDTH - _RIGHT + 12, _TOP + 8 + 18 * number
    return [
        f"<rect x='{x}' y='{y - 9}' width='10' height='10' fill='{colour}'/>",
        f"<text x='{x + 16}' y='{y}' {_FONT}>{escape(name)}</text>",
    ]


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from below `low` to above `high`, four to nine of them."""
    if high <= low:
        high = low + 1
    step = 10.0 ** floor(log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 7)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]
