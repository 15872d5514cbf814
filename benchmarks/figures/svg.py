"""A plot of few points as plain SVG: what the pages show, and no more.

No library: the four plots that there are need a hundred lines, a browser and
Sphinx show them as they are, and a diff of them can be read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

__all__ = ["Series", "plot", "ticks"]

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 40, 52
COLOURS = ("#777777", "#1f6fb4", "#c4501b", "#2c8a3d")


class Series(NamedTuple):
    """Points (x, y) with a name; *dashed* for what others published."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from *low* to *high*, *most* or fewer, two at least."""
    span = (high - low) or 1.0
    step = 10.0 ** math.floor(math.log10(span / most))
    for factor in (1, 2, 5, 10, 20):
        if span / (step * factor) <= most - 1:
            step *= factor
            break
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def plot(title: str, x_name: str, y_name: str, series: Sequence[Series], log_x: bool = False) -> str:
    """A whole SVG file.

    :param log_x: x in powers of two, marked at the points of the first series.
    """
    points = [point for one in series for point in one.points]
    xs = [math.log2(x) if log_x else x for x, _ in points]
    low_x, high_x = min(xs), max(xs)
    high_y = max(max(y for _, y in points) * 1.08, 1e-9)
    across = (WIDTH - LEFT - RIGHT) / ((high_x - low_x) or 1.0)
    up = (HEIGHT - TOP - BOTTOM) / high_y

    def at(x: float, y: float) -> tuple[float, float]:
        return LEFT + ((math.log2(x) if log_x else x) - low_x) * across, HEIGHT - BOTTOM - y * up

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(WIDTH / 2, 22, title, anchor="middle", size=14),
        _text(WIDTH / 2, HEIGHT - 12, x_name, anchor="middle"),
        f'<g transform="translate(16 {HEIGHT / 2:.0f}) rotate(-90)">{_text(0, 0, y_name, anchor="middle")}</g>',
    ]
    for y in ticks(0.0, high_y):
        _, where = at(points[0][0], y)
        parts.append(_line(LEFT, where, WIDTH - RIGHT, where, "#e4e4e4"))
        parts.append(_text(LEFT - 6, where + 4, f"{y:g}", anchor="end"))
    marks = [x for x, _ in series[0].points] if log_x else ticks(low_x, high_x)
    for x in marks:
        where, _ = at(x, 0)
        parts.append(_line(where, HEIGHT - BOTTOM, where, HEIGHT - BOTTOM + 4, "#333333"))
        parts.append(_text(where, HEIGHT - BOTTOM + 18, f"{x:g}", anchor="middle"))
    parts.append(_line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "#333333"))
    parts.append(_line(LEFT, TOP, LEFT, HEIGHT - BOTTOM, "#333333"))
    for number, one in enumerate(series):
        parts += _series(one, [at(x, y) for x, y in one.points], COLOURS[number % len(COLOURS)], number)
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _series(one: Series, places: Sequence[tuple[float, float]], colour: str, number: int) -> list[str]:
    dash = ' stroke-dasharray="6 4"' if one.dashed else ""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"{dash}/>']
    fill = "#ffffff" if one.dashed else colour
    parts += [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{5 if one.dashed else 3}" fill="{fill}" stroke="{colour}"/>'
        for x, y in places
    ]
    high = TOP + 14 + 18 * number
    parts.append(f'<line x1="{LEFT + 12}" y1="{high}" x2="{LEFT + 40}" y2="{high}" stroke="{colour}"{dash}/>')
    parts.append(_text(LEFT + 46, high + 4, one.name))
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
