"""The three times of a look: one measures, one is told with commits, one says until when nothing is missing."""

from __future__ import annotations

from continuum_tasks.capture.plan.timers import LookTimes

TIMES = LookTimes(looked=10.0, observed_us=5_000_000, watched_until_us=4_000_000)


def test_how_long_nobody_looked_is_measured_on_the_monotonic_clock_alone() -> None:
    assert TIMES.unseen_us(10.25) == 250_000
    assert TIMES.at(10.25, 99_000_000).unseen_us(10.25) == 0
    assert TIMES.unseen_us(9.0) == 0


def test_a_look_says_nothing_about_until_when_it_was_watched() -> None:
    assert TIMES.at(11.0, 6_000_000) == LookTimes(looked=11.0, observed_us=6_000_000, watched_until_us=4_000_000)


def test_what_is_durable_was_watched_until_it_was_observed() -> None:
    assert TIMES.watched() == LookTimes(looked=10.0, observed_us=5_000_000, watched_until_us=5_000_000)


def test_until_when_it_was_watched_does_not_go_back_where_that_is_asked() -> None:
    behind = LookTimes(observed_us=3_000_000, watched_until_us=4_000_000)
    assert behind.watched().watched_until_us == 3_000_000
    assert behind.watched(at_least_us=behind.watched_until_us).watched_until_us == 4_000_000
