"""How numbers are said to people."""

from __future__ import annotations

import pytest

from continuum_tasks.cli.frame.output import duration


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *((0.0, "0.00 s"), (59.0, "59.00 s"), (60.0, "1 min 0 s"), (3_600.0, "1 h 0 min"), (86_399.0, "23 h 59 min")),
        *((86_400.0, "1 d 0 h"), (31 * 86_400 + 3_700.0, "31 d 1 h")),
    ],
)
def test_durations_take_two_units_that_fit_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said
