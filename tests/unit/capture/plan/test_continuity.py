from __future__ import annotations

from dataclasses import replace

import pytest

from continuum_tasks.capture.plan.continuity import NO_SALTS, Continuity, Found, LastPosition, judge_continuity
from continuum_tasks.model import Mark

STOOD = LastPosition(
    mark=Mark(salts="0011223344556677", frame=10, checksum=(1, 2)), page_size=4096, source="1:2", stamp="8192:5"
)
FOUND = Found(salts="0011223344556677", max_frame=10, page_size=4096, source="1:2", stamp="8192:5", said=(1, 2))


def test_the_same_log_is_read_on_from_where_it_stood() -> None:
    assert judge_continuity(STOOD, FOUND).verdict is Continuity.GO_ON
    assert judge_continuity(STOOD, replace(FOUND, max_frame=99, stamp="9000:9")).verdict is Continuity.GO_ON


def test_a_database_that_was_never_captured_begins_a_timeline() -> None:
    assert judge_continuity(None, FOUND).verdict is Continuity.NEW_TIMELINE


@pytest.mark.parametrize(
    ("found", "verdict", "word"),
    [
        (replace(FOUND, source="1:3"), Continuity.NEW_TIMELINE, "replaced"),
        (replace(FOUND, page_size=1024), Continuity.NEW_TIMELINE, "from 4096 to 1024"),
        (replace(FOUND, salts="1011223344556677"), Continuity.HOLE, "begun anew"),
        (replace(FOUND, behind_seconds=7200.0), Continuity.NEW_TIMELINE, "set back by 7200 s"),
        (replace(FOUND, max_frame=9), Continuity.NEW_TIMELINE, "frame 10"),
        (replace(FOUND, said=(1, 3)), Continuity.NEW_TIMELINE, "frame 10"),
        (replace(FOUND, said=None), Continuity.NEW_TIMELINE, "frame 10"),
    ],
)
def test_what_is_not_the_same_log_is_named(found: Found, verdict: Continuity, word: str) -> None:
    judgement = judge_continuity(STOOD, found)
    assert judgement.verdict is verdict and word in judgement.reason


def test_a_log_that_was_begun_anew_and_not_written_yet_is_known_by_its_salts_alone() -> None:
    stood = replace(STOOD, mark=replace(STOOD.mark, frame=0))
    assert judge_continuity(stood, replace(FOUND, max_frame=0, said=None)).verdict is Continuity.GO_ON
    assert judge_continuity(stood, replace(FOUND, max_frame=7, said=(9, 9))).verdict is Continuity.GO_ON


def test_a_log_without_a_name_is_the_same_only_while_the_database_file_was_not_written() -> None:
    """Whoever closes last copies all frames back and removes the log: the next one has no salts either."""
    stood = replace(STOOD, mark=Mark(salts=NO_SALTS, frame=0, checksum=(0, 0)))
    found = replace(FOUND, salts=NO_SALTS, max_frame=0, said=None)
    assert judge_continuity(stood, found).verdict is Continuity.GO_ON
    assert (
        judge_continuity(stood, replace(found, salts="0011223344556677", max_frame=9, said=(4, 4))).verdict is Continuity.GO_ON
    )
    assert (
        judge_continuity(stood, replace(found, salts="0011223344556677", max_frame=9, stamp="8192:6")).verdict
        is Continuity.HOLE
    )
    assert judge_continuity(stood, replace(found, stamp="8192:6")).verdict is Continuity.HOLE
