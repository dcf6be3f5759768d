"""The roofline as a picture: attainable FLOP/s over intensity, both logarithmic, and runs as points under it.

After Williams, Waterman and Patterson (2009), "Roofline", Communications of the ACM 52(4). Written out as SVG by
hand, so it needs no library, scales, and is readable as text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from ridgeway.roofline.machine import Machine
from ridgeway.roofline.report import Phase

_WIDTH, _HEIGHT = 760, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 104, 24, 56, 60
_ROOF, _RUN, _GRID, _TEXT, _FAINT = "#b45309", "#0f766e", "#e5e7eb", "#111827", "#6b7280"
_FONT = "font-family='system-ui, sans-serif'"


@dataclass(frozen=True)
class Point:
    """intensity in FLOP/byte; rate in FLOP/s; predicted points are drawn hollow."""

    label: str
    intensity: float
    rate: float
    predicted: bool = False

    @classmethod
    def of(cls, label: str, phase: Phase) -> "Point":
        """Where the steps of a phase stand."""
        return cls(label, phase.cost.intensity, phase.flops_per_second)


@dataclass(frozen=True)
class _Axes:
    """Decades of both axes, and where on the picture a value lies."""

    x: tuple[int, int]
    y: tuple[int, int]

    def across(self, intensity: float) -> float:
        share = (log10(intensity) - self.x[0]) / (self.x[1] - self.x[0])
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def down(self, rate: float) -> float:
        share = (log10(rate) - self.y[0]) / (self.y[1] - self.y[0])
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def roofline_svg(
    machine: Machine,
    arithmetic: str,
    points: Sequence[Point],
    title: str = "",
    working_set: int | None = None,
) -> str:
    """An SVG document.

    working_set: bytes of a weight stream, whose read rate is the slant; None: main memory's.
    Raises MachineError if the machine has no rate for `arithmetic`.
    """
    peak = machine.compute(arithmetic)
    bandwidth = machine.memory_bandwidth if working_set is None else machine.bandwidth(working_set)
    points = [point for point in points if point.intensity > 0 and point.rate > 0]
    axes = _axes(peak, bandwidth, points)
    parts = [
        *_frame(title or machine.name, axes),
        *_roof(machine, arithmetic, peak, bandwidth, axes),
        *_points(points, axes),
    ]
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' {_FONT} "
        f"aria-label='{escape(title or machine.name, quote=True)}'>"
    )
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def _axes(peak: float, bandwidth: float, points: Sequence[Point]) -> _Axes:
    """Whole decades around the ridge and all points."""
    ridge = peak / bandwidth
    intensities = [ridge / 100, ridge * 10, *(point.intensity for point in points)]
    x = floor(log10(min(intensities) * 0.9)), ceil(log10(max(intensities) * 1.1))
    lowest = min([bandwidth * 10.0 ** x[0], *(point.rate for point in points)])
    return _Axes(x, (floor(log10(lowest * 0.9)), ceil(log10(peak * 1.2))))


def _frame(title: str, axes: _Axes) -> Iterator[str]:
    yield f"<rect width='{_WIDTH}' height='{_HEIGHT}' fill='#ffffff'/>"
    yield _label(_LEFT, 30, title, size=17, weight=600)
    for decade in range(axes.x[0], axes.x[1] + 1):
        x = axes.across(10.0**decade)
        yield f"<path d='M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}' stroke='{_GRID}'/>"
        yield _label(x, _HEIGHT - _BOTTOM + 20, f"{10.0**decade:g}", colour=_FAINT, anchor="middle")
    for decade in range(axes.y[0], axes.y[1] + 1):
        y = axes.down(10.0**decade)
        yield f"<path d='M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}' stroke='{_GRID}'/>"
        yield _label(_LEFT - 8, y + 4, _flops(10.0**decade), colour=_FAINT, anchor="end")
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    yield _label(middle, _HEIGHT - 16, "arithmetic intensity (FLOPs per byte of memory traffic)", anchor="middle")


def _roof(machine: Machine, arithmetic: str, peak: float, bandwidth: float, axes: _Axes) -> Iterator[str]:
    ridge = peak / bandwidth
    start = max(10.0 ** axes.x[0], 10.0 ** axes.y[0] / bandwidth)
    foot = f"{axes.across(start):.1f} {axes.down(bandwidth * start):.1f}"
    x, y = axes.across(ridge), axes.down(peak)
    bottom, end = axes.down(10.0 ** axes.y[0]), axes.across(10.0 ** axes.x[1])
    yield f"<path d='M{foot}L{x:.1f} {y:.1f}H{end:.1f}' fill='none' stroke='{_ROOF}' stroke-width='2.5'/>"
    yield f"<path d='M{x:.1f} {y:.1f}V{bottom:.1f}' stroke='{_ROOF}' stroke-dasharray='3 5'/>"
    yield _label(end - 4, y - 8, f"{arithmetic} {_flops(peak)}, {machine.source}", colour=_ROOF, anchor="end")
    yield _label(x + 6, bottom - 8, f"ridge {ridge:.3g}", colour=_ROOF)
    middle = (start * ridge) ** 0.5
    across, down = axes.across(middle), axes.down(bandwidth * middle)
    slope = (axes.down(bandwidth * ridge) - axes.down(bandwidth * start)) / (x - axes.across(start))
    turn = f"rotate({_degrees(slope):.1f} {across:.1f} {down:.1f})"
    rate = f"{bandwidth / 1e9:,.3g} GB/s" if bandwidth < 1e12 else f"{bandwidth / 1e12:.3g} TB/s"
    said = f"memory {rate}, {machine.source}"
    yield _label(across, down - 8, said, colour=_ROOF, anchor="middle", transform=turn)


def _points(points: Sequence[Point], axes: _Axes) -> Iterator[str]:
    """Labels stand right of their points, left of them near the right edge, below one that would hide them."""
    taken: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda point: (point.intensity, point.rate)):
        x, y = axes.across(point.intensity), axes.down(point.rate)
        fill = "#ffffff" if point.predicted else _RUN
        said = point.label + (" (predicted)" if point.predicted else "")
        yield (
            f"<circle cx='{x:.1f}' cy='{y:.1f}' r='5.5' fill='{fill}' stroke='{_RUN}' stroke-width='2'>"
            f"<title>{escape(said)}: {point.intensity:.3g} FLOP/B, {_flops(point.rate)}</title></circle>"
        )
        at_edge = x > _WIDTH * 0.8
        line = y + 4
        while any(abs(line - other) < 14 and abs(x - beside) < 160 for beside, other in taken):
            line += 14
        taken.append((x, line))
        yield _label(x - 10 if at_edge else x + 10, line, said, anchor="end" if at_edge else "start")


def _label(
    x: float,
    y: float,
    text: str,
    *,
    colour: str = _TEXT,
    anchor: str = "start",
    size: int = 13,
    weight: int = 400,
    transform: str = "",
) -> str:
    turn = f" transform='{transform}'" if transform else ""
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' fill='{colour}' text-anchor='{anchor}' font-size='{size}' "
        f"font-weight='{weight}'{turn}>{escape(text)}</text>"
    )


def _flops(rate: float) -> str:
    for unit, size in (("PFLOP/s", 1e15), ("TFLOP/s", 1e12), ("GFLOP/s", 1e9), ("MFLOP/s", 1e6)):
        if rate >= size:
            return f"{rate / size:.3g} {unit}"
    return f"{rate:.3g} FLOP/s"


def _degrees(slope: float) -> float:
    from math import atan, degrees

    return degrees(atan(slope))
