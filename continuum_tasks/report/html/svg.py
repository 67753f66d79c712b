"""Charts as SVG that we draw ourselves: bars, ages, drills and levels, coloured by classes of the page's style. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TypeAlias

from continuum_tasks.report.html import scale
from continuum_tasks.report.html.parts import Html, join, tag
from continuum_tasks.report.html.scale import LEFT, RIGHT, TOP, WIDTH, Horizontal, Tick, Vertical

Pair: TypeAlias = tuple[float | None, float | None]

LABEL_HEIGHT = 15.0
LEAST_HEIGHT = 3.0  # one failed run among a hundred good ones must be seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Title:
    """What a chart is called for who cannot see it: `name` short, `summary` what it shows; `key` is unique on the page."""

    key: str
    name: str
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """One bar: its parts from the bottom up as (class, value), and what it says when pointed at."""

    parts: tuple[tuple[str, float], ...]
    note: str


def stacks(title: Title, bars: Sequence[Stack], *, period: Horizontal, height: float = 150.0) -> Html:
    """Draw counts over the period, one stack per equal slice of it."""
    end, ticks = scale.count_axis(max((sum(value for _, value in bar.parts) for bar in bars), default=0.0))
    axis = Vertical(height=height, low=0.0, high=end)
    width = (WIDTH - LEFT - RIGHT) / max(1, len(bars))
    drawn = [
        _stack(bar, LEFT + i * width + 1, width - 2, axis=axis) for i, bar in enumerate(bars) if any(v for _, v in bar.parts)
    ]
    return _chart(title, axis, [_levels(ticks, axis), *drawn, _times(period, axis)])


def age_chart(title: Title, values: Sequence[float | None], *, target: float, period: Horizontal, notes: Sequence[str]) -> Html:
    """Draw the age of the recovery point per slice of the period on a logarithmic axis; what is over the target stands out."""
    known = [value for value in values if value is not None]
    low, high, ticks = scale.age_axis([*known, target] if target else known)
    axis = Vertical(height=170.0, low=low, high=high, logarithmic=True)
    width = (WIDTH - LEFT - RIGHT) / max(1, len(values))
    base = axis.y(low)
    bars = []
    for i, value in enumerate(values):
        if value is not None:
            top = min(axis.y(value), base - 1)
            box: dict[str, str | int | float] = {"x": LEFT + i * width, "y": top, "width": width + 0.1, "height": base - top}
            kind = "bad" if 0 < target < value else "good"
            bars.append(tag("rect", {"class": f"{kind} slice", **box}, tag("title", None, notes[i])))
    line = [_target(target, axis)] if target else []
    return _chart(title, axis, [_levels(ticks, axis), *bars, *line, _times(period, axis)])


def lags(title: Title, values: Sequence[Pair], *, period: Horizontal, notes: Sequence[str]) -> Html:
    """Draw two durations per slice of the period on a logarithmic axis, the lesser in front of the greater."""
    low, high, ticks = scale.age_axis([value for pair in values for value in pair if value is not None], scale.LAGS)
    axis = Vertical(height=150.0, low=low, high=high, logarithmic=True)
    width = (WIDTH - LEFT - RIGHT) / max(1, len(values))
    drawn = []
    for i, pair in enumerate(values):
        boxes = [
            _slice(kind, LEFT + i * width, width, top=axis.y(value), base=axis.y(low))
            for kind, value in zip(("good", "area"), pair, strict=True)
            if value is not None
        ]
        if boxes:
            drawn.append(tag("g", None, tag("title", None, notes[i]), *reversed(boxes)))
    return _chart(title, axis, [_levels(ticks, axis), *drawn, _times(period, axis)])


def strip(title: Title, kinds: Sequence[str], *, period: Horizontal, notes: Sequence[str]) -> Html:
    """Draw one state per slice of the period as a band of colours; an empty one leaves a blank."""
    axis = Vertical(height=52.0, low=0.0, high=1.0)
    width = (WIDTH - LEFT - RIGHT) / max(1, len(kinds))
    drawn = [
        tag(
            "g",
            None,
            tag("title", None, notes[i]),
            _slice(kind, LEFT + i * width, width, top=axis.y(1.0), base=axis.y(0.0)),
        )
        for i, kind in enumerate(kinds)
        if kind
    ]
    return _chart(title, axis, [*drawn, _times(period, axis)])


def columns(title: Title, bars: Sequence[tuple[str, float, str]], *, labels: Sequence[str], notes: Sequence[str]) -> Html:
    """Draw durations side by side, one column each: (class, seconds, the words above it), labelled below."""
    end, ticks = scale.seconds_axis(1.15 * max((value for _, value, _ in bars), default=0.0))
    axis = Vertical(height=170.0, low=0.0, high=end)
    slot = (WIDTH - LEFT - RIGHT) / max(6, len(bars))
    drawn = []
    for i, (kind, value, words) in enumerate(bars):
        middle, top = LEFT + (i + 0.5) * slot, min(axis.y(value), axis.y(0) - 1)
        box: dict[str, str | int | float] = {"x": middle - slot * 0.3, "y": top, "width": slot * 0.6, "height": axis.y(0) - top}
        drawn.append(tag("rect", {"class": kind, "rx": 2, **box}, tag("title", None, notes[i])))
        drawn.append(_words(words, middle, top - 4, place="middle", kind="value"))
        drawn.append(_words(labels[i], middle, axis.height - 7, place="middle"))
    return _chart(title, axis, [_levels(ticks, axis), *drawn])


def level(title: Title, points: Sequence[tuple[datetime, int]], *, period: Horizontal) -> Html:
    """Draw how many bytes there were as a filled line that steps from point to point; the last one holds to the end."""
    end, ticks = scale.sizes(1.1 * max((n_bytes for _, n_bytes in points), default=0))
    axis = Vertical(height=130.0, low=0.0, high=end)
    base = axis.y(0)
    path = ""
    if points:
        places = [(period.x(at), axis.y(n_bytes)) for at, n_bytes in points]
        steps = "".join(f"H{x:.1f}V{y:.1f}" for (x, y) in places[1:])
        path = f"M{places[0][0]:.1f} {places[0][1]:.1f}{steps}H{WIDTH - RIGHT:.1f}"
    area = [tag("path", {"class": "area", "d": f"{path}V{base:.1f}H{period.x(points[0][0]):.1f}Z"})] if points else []
    line = [tag("path", {"class": "line", "d": path})] if points else []
    return _chart(title, axis, [_levels(ticks, axis), *area, *line, _times(period, axis)])


def proportion(title: Title, parts: Sequence[tuple[str, float, str]]) -> Html:
    """Draw shares of a whole as one horizontal bar: (class, value, what it says when pointed at)."""
    total = sum(value for _, value, _ in parts) or 1.0
    ends = [0.0]
    for _, value, _ in parts:
        ends.append(ends[-1] + 100 * value / total)
    boxes = [
        tag("rect", {"class": kind, "x": begin, "y": 0, "width": end - begin, "height": 8}, tag("title", None, note))
        for (kind, _, note), (begin, end) in zip(parts, pairwise(ends), strict=True)
    ]
    return _svg(title, boxes, view="0 0 100 8", kind="proportion")


def _slice(kind: str, x: float, width: float, *, top: float, base: float) -> Html:
    """Build one slice of a row without gaps; what is almost nothing is still seen."""
    top = min(top, base - 1)
    return tag("rect", {"class": f"{kind} slice", "x": x, "y": top, "width": width + 0.1, "height": base - top})


def _stack(bar: Stack, x: float, width: float, *, axis: Vertical) -> Html:
    bottom, boxes = axis.y(0), list[Html]()
    for kind, value in bar.parts:
        if value:
            height = max(LEAST_HEIGHT, axis.y(0) - axis.y(value))
            bottom = max(TOP, bottom - height)
            boxes.append(tag("rect", {"class": kind, "x": x, "y": bottom, "width": width, "height": height}))
    return tag("g", None, tag("title", None, bar.note), *boxes)


def _target(target: float, axis: Vertical) -> Html:
    y = axis.y(target)
    return tag("line", {"class": "target", "x1": LEFT, "x2": WIDTH - RIGHT, "y1": y, "y2": y})


def _levels(ticks: Iterable[Tick], axis: Vertical) -> Html:
    lines, labelled = list[Html](), axis.height + LABEL_HEIGHT
    for tick in ticks:
        y = axis.y(tick.value)
        lines.append(tag("line", {"class": "grid", "x1": LEFT, "x2": WIDTH - RIGHT, "y1": y, "y2": y}))
        if labelled - y >= LABEL_HEIGHT:
            lines.append(_words(tick.label, LEFT - 8, y + 4, place="end"))
            labelled = y
    return join(lines)


def _times(period: Horizontal, axis: Vertical) -> Html:
    bottom = axis.y(axis.low)
    drawn = []
    for at, label in period.ticks():
        x = period.x(at)
        drawn.append(tag("line", {"class": "grid", "x1": x, "x2": x, "y1": bottom, "y2": bottom + 4}))
        place = "end" if x > WIDTH - 40 else "start" if x < LEFT + 20 else "middle"
        drawn.append(_words(label, x, axis.height - 4, place=place))
    return join(drawn)


def _words(words: str, x: float, y: float, *, place: str, kind: str = "label") -> Html:
    return tag("text", {"class": kind, "x": x, "y": y, "text-anchor": place}, words)


def _chart(title: Title, axis: Vertical, parts: Iterable[Html]) -> Html:
    return tag("div", {"class": "scroll"}, _svg(title, parts, view=f"0 0 {WIDTH:.0f} {axis.height:.0f}", kind="chart"))


def _svg(title: Title, parts: Iterable[Html], *, view: str, kind: str) -> Html:
    name, summary = f"{title.key}-name", f"{title.key}-summary"
    attributes: dict[str, str | int | float] = {
        "class": kind,
        "viewBox": view,
        "role": "img",
        "aria-labelledby": f"{name} {summary}",
    }
    if kind == "proportion":
        attributes["preserveAspectRatio"] = "none"
    return tag("svg", attributes, tag("title", {"id": name}, title.name), tag("desc", {"id": summary}, title.summary), *parts)
