from __future__ import annotations

from dataclasses import replace

import pytest

from continuum_tasks.errors import NoSpace, TargetBusy
from continuum_tasks.restore.plan.online import SPACE_MARGIN_BYTES, PageDifference, online_plan, online_refusal

MIB = 1024 * 1024
FOUND = PageDifference(wal=True, n_differ=255, n_pages=1000, n_pages_now=900, page_size=4096, compare_seconds=0.5)


def test_the_log_has_a_frame_for_each_page_that_differs_and_for_page_1() -> None:
    plan = online_plan("memory.db", FOUND, busy_window_seconds=4)
    assert plan.log_bytes == 32 + 256 * (4096 + 24)
    assert plan.space_bytes == plan.log_bytes + 100 * 4096  # the database grows


def test_a_journal_has_the_pages_that_are_replaced_alone() -> None:
    found = replace(FOUND, wal=False, n_differ=980, n_pages_now=20)
    assert online_plan("memory.db", found, busy_window_seconds=4).log_bytes == 4096 + 20 * (4096 + 8)


def test_the_lock_lasts_for_comparing_and_for_writing_each_page_three_times() -> None:
    found = replace(FOUND, n_differ=25 * 256 * 4 - 1)  # 100 MiB with page 1
    assert online_plan("memory.db", found, busy_window_seconds=4).lock_seconds == 0.5 + 3 + 0.2


def test_nothing_is_needed_where_nothing_differs() -> None:
    plan = online_plan("memory.db", replace(FOUND, n_differ=0, n_pages_now=1000), busy_window_seconds=4)
    assert (plan.log_bytes, plan.space_bytes, plan.lock_seconds) == (0, 0, 0)
    assert online_refusal(plan, free_bytes=SPACE_MARGIN_BYTES, wait_writers=False) is None


@pytest.mark.parametrize(("window", "wait_writers", "refused"), [(4, False, False), (0.5, False, True), (0.5, True, False)])
def test_a_lock_longer_than_the_busy_window_is_refused_unless_writers_are_to_wait(
    window: float, wait_writers: bool, refused: bool
) -> None:
    plan = online_plan("memory.db", FOUND, busy_window_seconds=window)
    found = online_refusal(plan, free_bytes=1024 * MIB, wait_writers=wait_writers)
    assert isinstance(found, TargetBusy) is refused
    if found is not None:
        assert "--wait-writers" in found.hint


@pytest.mark.parametrize("wal", [True, False])
def test_a_full_disk_is_refused_before_anything_is_locked(wal: bool) -> None:
    plan = online_plan("memory.db", replace(FOUND, wal=wal), busy_window_seconds=4)
    need_bytes = plan.space_bytes + SPACE_MARGIN_BYTES
    assert isinstance(online_refusal(plan, free_bytes=need_bytes - 1, wait_writers=True), NoSpace)
    assert online_refusal(plan, free_bytes=need_bytes, wait_writers=False) is None
