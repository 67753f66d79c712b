from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum_tasks.report.plan.trend import BLOCKS, sparkline, summarise, trend_change

NUMBERS = st.floats(-1e12, 1e12)


def test_a_summary_names_last_extremes_and_median() -> None:
    found = summarise([3.0, 9.0, 1.0, 4.0])
    assert (found.n, found.last, found.low, found.median, found.high) == (4, 4.0, 1.0, 3.5, 9.0)


def test_a_rising_series_is_drawn_rising_from_the_least_block_to_the_greatest() -> None:
    assert sparkline(list(range(8)), width=8) == BLOCKS
    assert sparkline([5, 5, 5], width=8) == "▁▁▁"
    assert sparkline([], width=8) == ""


def test_what_is_unknown_is_left_blank() -> None:
    assert sparkline([1, None, 2], width=8) == "▁ █"
    assert sparkline([None, None], width=8) == "  "


def test_a_single_peak_survives_being_squeezed() -> None:
    values = [1.0] * 1000
    values[613] = 50.0
    assert sparkline(values, width=10).index("█") == 6


@given(st.lists(st.none() | NUMBERS, max_size=200), st.integers(1, 60))
def test_a_line_is_never_wider_than_asked_and_drawn_of_blocks_only(values: list[float | None], width: int) -> None:
    drawn = sparkline(values, width=width)
    assert len(drawn) == min(width, len(values))
    assert set(drawn) <= {*BLOCKS, " "}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([10, 10, 15, 15], 0.5),
        ([10, 10, 99, 5, 5], -0.5),
        ([10, 20, 30], None),
        ([], None),
        ([0, 0, 5, 5], None),
    ],
)
def test_the_change_compares_the_medians_of_both_halves(values: list[float], expected: float | None) -> None:
    assert trend_change(values) == expected
