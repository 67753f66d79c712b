from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum_tasks.report.html import scale
from continuum_tasks.report.html.scale import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Horizontal, Tick, Vertical
from tests.unit.retention.plan.rows import NOW

PERIOD = Horizontal(since=NOW - timedelta(days=7), until=NOW)


def labels(found: tuple[float, list[Tick]]) -> list[str]:
    return [tick.label for tick in found[1]]


@pytest.mark.parametrize(
    ("highest", "expected"),
    [(0, ["0", "1"]), (1, ["0", "1"]), (3, ["0", "1", "2", "3"]), (93, ["0", "50", "100"]), (101, ["0", "50", "100", "150"])],
)
def test_counts_have_whole_numbers_on_their_axis(highest: float, expected: list[str]) -> None:
    assert labels(scale.count_axis(highest)) == expected


def test_sizes_and_durations_have_round_numbers_of_their_unit() -> None:
    assert labels(scale.sizes(5.2 * 1024**3)) == ["0 GiB", "2 GiB", "4 GiB", "6 GiB"]
    assert labels(scale.sizes(0)) == ["0 B", "0.5 B", "1 B"]
    assert labels(scale.seconds_axis(32)) == ["0 s", "10 s", "20 s", "30 s", "40 s"]
    assert labels(scale.seconds_axis(7 * 60)) == ["0 min", "2 min", "4 min", "6 min", "8 min"]
    assert labels(scale.seconds_axis(3 * 3600))[-1] == "3 h"
    assert scale.seconds_axis(0)[0] > 0


@given(st.floats(0, 1e15), st.sampled_from([scale.count_axis, scale.sizes, scale.seconds_axis]))
def test_an_axis_holds_its_highest_value_and_names_few_numbers(highest: float, make: object) -> None:
    end, ticks = make(highest)  # type: ignore[operator]
    assert end >= highest * 0.999
    assert ticks[0].value == 0 and ticks[-1].value == pytest.approx(end)
    assert 2 <= len(ticks) <= 6


@given(st.lists(st.floats(0, 1e9), max_size=20))
def test_the_axis_of_ages_has_two_bounds_that_hold_the_values(values: list[float]) -> None:
    low, high, ticks = scale.age_axis(values)
    assert low < high and len(ticks) >= 2
    assert high >= min(max(values, default=0), 365 * 86_400)
    axis = Vertical(height=170, low=low, high=high, logarithmic=True)
    assert all(TOP <= axis.y(value) <= 170 - BOTTOM for value in values)


def test_higher_is_further_up_and_later_further_right() -> None:
    for axis in (Vertical(height=100, low=0, high=10), Vertical(height=100, low=1, high=10, logarithmic=True)):
        places = [axis.y(value) for value in (1, 2, 5, 10, 99)]
        assert places[:4] == sorted(places[:4], reverse=True) and places[4] == places[3] == TOP
    xs = [PERIOD.x(NOW - timedelta(days=d)) for d in (9, 7, 3, 0, -1)]
    assert xs == sorted(xs) and (xs[0], xs[-1]) == (LEFT, WIDTH - RIGHT)


@pytest.mark.parametrize(("days", "first", "n"), [(1, "15:00", 8), (7, "Tue 17 Nov", 7), (30, "Wed 28 Oct", 7)])
def test_the_times_named_are_round_and_few(days: int, first: str, n: int) -> None:
    ticks = Horizontal(since=NOW - timedelta(days=days, minutes=-10), until=NOW).ticks()
    assert (ticks[0][1], len(ticks)) == (first, n)
    assert all(NOW - timedelta(days=days) <= at <= NOW for at, _ in ticks)
