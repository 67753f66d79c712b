"""When a capture has something to do, told by times that are given."""

from __future__ import annotations

import math

import pytest

from continuum_tasks.capture.plan.timers import CaptureTimers

TIMERS = CaptureTimers(interval_seconds=2.0).begun(100.0)


def test_at_first_all_is_due_but_no_second_look() -> None:
    first = CaptureTimers(interval_seconds=2.0)
    assert first.is_begin_due(0.0) and first.is_rotation_due(2.0) and first.is_place_due(10.0)
    assert first.again_at == math.inf


def test_a_rotation_is_due_an_interval_after_the_last_one() -> None:
    assert [TIMERS.is_rotation_due(now) for now in (101.9, 102.0)] == [False, True]
    assert TIMERS.rotate_at == 102.0


def test_without_an_event_it_is_looked_now_and_then() -> None:
    assert [TIMERS.is_look_due(now) for now in (109.9, 110.0)] == [False, True]
    assert [TIMERS.is_place_due(now) for now in (9.9, 10.0)] == [False, True]


def test_after_an_event_it_is_looked_once_more_an_interval_later() -> None:
    touched = TIMERS.touched(103.0)
    assert [touched.is_look_due(now) for now in (104.9, 105.0)] == [False, True]
    assert touched.looked_again(104.9) == touched
    assert touched.looked_again(105.0) == TIMERS


def test_a_pause_is_waited_before_it_is_begun_again() -> None:
    paused = TIMERS.paused(100.0, 5.0)
    assert [paused.is_begin_due(now) for now in (104.9, 105.0)] == [False, True]


def test_a_storage_that_fails_is_left_alone_longer_each_time_until_it_answers() -> None:
    timers, waits = TIMERS, []
    for _ in range(6):
        timers = timers.paused(100.0, None)
        waits.append(timers.begin_at - 100.0)
    assert waits == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert timers.storage_answered().paused(100.0, None).begin_at == 102.0


@pytest.mark.parametrize(("has_news", "seconds"), [(True, 0.5), (False, 5.0)])
def test_a_status_is_told_more_often_while_there_is_news(*, has_news: bool, seconds: float) -> None:
    assert not TIMERS.is_status_due(seconds - 0.1, has_news=has_news)
    assert TIMERS.is_status_due(seconds, has_news=has_news)
