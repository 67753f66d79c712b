from __future__ import annotations

from dataclasses import replace

import pytest

from continuum_tasks.capture.plan.continuity import (
    BYPASSED,
    MAX_STEPS,
    NO_SALTS,
    Continuity,
    Found,
    LastPosition,
    Sighting,
    bypassed,
    judge_continuity,
)
from continuum_tasks.model import Mark

STOOD = LastPosition(
    mark=Mark(salts="0011223344556677", frame=10, checksum=(1, 2)), page_size=4096, source="1:2", stamp="8192:5"
)
FOUND = Found(salts="0011223344556677", max_frame=10, page_size=4096, source="1:2", stamp="8192:5", said=(1, 2))


def test_the_same_log_is_read_on_from_where_it_stood() -> None:
    assert judge_continuity(STOOD, FOUND).verdict is Continuity.GO_ON
    assert judge_continuity(STOOD, replace(FOUND, max_frame=99, stamp="9000:9")).verdict is Continuity.GO_ON


def test_a_state_that_was_restored_into_the_live_file_begins_a_timeline() -> None:
    judgement = judge_continuity(STOOD, replace(FOUND, restored_online=True))
    assert judgement.verdict is Continuity.NEW_TIMELINE and "restore --online" in judgement.reason


def test_a_database_that_was_never_captured_begins_a_timeline() -> None:
    assert judge_continuity(None, FOUND).verdict is Continuity.NEW_TIMELINE


@pytest.mark.parametrize(
    ("found", "verdict", "word"),
    [
        (replace(FOUND, source="1:3"), Continuity.NEW_TIMELINE, "replaced"),
        (replace(FOUND, page_size=1024), Continuity.NEW_TIMELINE, "from 4096 to 1024"),
        (replace(FOUND, salts="1011223344556677"), Continuity.HOLE, "restarted"),
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


def test_a_beginning_that_failed_before_anything_was_durable_begins_again() -> None:
    stood = replace(STOOD, mark=Mark(salts="", frame=0, checksum=(0, 0)))
    judgement = judge_continuity(stood, FOUND)
    assert (judgement.verdict, judgement.reason) == (Continuity.HOLE, "capture begins")


SEEN = Sighting(
    salts="0011223344556677",
    max_frame=10,
    n_attempted=4,
    n_copied=4,
    stamp="8192:5",
    later_stamp="8192:5",
    wal="1:8",
    shm="1:9",
)
NEXT = replace(SEEN, salts="00112234aaaaaaaa", max_frame=1, n_attempted=0, n_copied=0)


@pytest.mark.parametrize(
    ("now", "is_drawn"),
    [
        (SEEN, False),
        (replace(SEEN, max_frame=11), False),
        (replace(SEEN, n_attempted=10, stamp="8192:6"), False),  # a checkpoint is at work
        (replace(SEEN, n_attempted=10, n_copied=10, stamp="9000:6"), False),
        (replace(SEEN, n_attempted=10, n_copied=0, stamp="8192:6"), False),  # another process made the index again
        (NEXT, False),
        (replace(NEXT, max_frame=0), False),
        (replace(NEXT, salts="00112239aaaaaaaa", max_frame=0), False),  # TRUNCATE, six times
        (replace(NEXT, salts="f0112234aaaaaaaa"), True),  # TRUNCATE, then a connection that had restarted no log
        (replace(NEXT, salts=NO_SALTS, max_frame=0), False),
        (replace(NEXT, stamp="9000:6"), False),
    ],
)
def test_what_sqlite_does_under_a_pin_is_not_doubted(now: Sighting, is_drawn: bool) -> None:
    assert bypassed(SEEN, now, is_drawn=is_drawn) == ""


@pytest.mark.parametrize(
    ("now", "word"),
    [
        (replace(SEEN, wal=""), "-wal was deleted"),
        (replace(SEEN, wal="1:18"), "-wal was replaced"),
        (replace(SEEN, shm=""), "-shm was deleted"),
        (replace(SEEN, shm="1:19"), "-shm was replaced"),
        (replace(SEEN, max_frame=9), "ends at frame 9, 10"),
        (replace(SEEN, stamp="8192:6"), "without a checkpoint"),
        (replace(SEEN, max_frame=12, stamp="8192:6"), "without a checkpoint"),
        (replace(NEXT, salts="00112233aaaaaaaa"), "cannot follow"),
        (replace(NEXT, salts="00112232aaaaaaaa"), "cannot follow"),
        (replace(NEXT, salts="f0112234aaaaaaaa"), "cannot follow"),
        (replace(NEXT, salts=f"{0x00112233 + MAX_STEPS + 1:08x}aaaaaaaa"), "cannot follow"),
        (replace(NEXT, salts=NO_SALTS, max_frame=1), "cannot follow"),
    ],
)
def test_what_sqlite_never_does_under_a_pin_is_named(now: Sighting, word: str) -> None:
    assert word in bypassed(SEEN, now, is_drawn=False)


def test_a_log_whose_salt_went_back_is_an_older_one_whoever_wrote_its_header() -> None:
    assert "cannot follow" in bypassed(SEEN, replace(NEXT, salts="00112230aaaaaaaa"), is_drawn=True)


def test_the_first_salt_steps_over_its_end() -> None:
    before = replace(SEEN, salts="ffffffff55667788")
    assert bypassed(before, replace(NEXT, salts="00000000aaaaaaaa"), is_drawn=False) == ""
    assert bypassed(replace(SEEN, salts=NO_SALTS, max_frame=0), replace(NEXT, salts="12345678aaaaaaaa"), is_drawn=False) == ""


STOOD_SEEN = replace(STOOD, sighting=SEEN)
FOUND_SEEN = replace(FOUND, sighting=SEEN)


@pytest.mark.parametrize(
    ("stood", "found", "word"),
    [
        (replace(STOOD_SEEN, doubt="the -wal was deleted"), FOUND_SEEN, "the -wal was deleted"),
        (STOOD_SEEN, replace(FOUND_SEEN, unlike=7), "page 7"),
        (STOOD_SEEN, replace(FOUND_SEEN, sighting=replace(SEEN, wal="1:18")), "-wal was replaced"),
        (STOOD_SEEN, replace(FOUND_SEEN, stamp="8192:6", sighting=replace(SEEN, stamp="8192:6")), "without a checkpoint"),
        (STOOD_SEEN, replace(FOUND_SEEN, salts="00112233aaaaaaaa"), "an older one"),
        (STOOD_SEEN, replace(FOUND_SEEN, salts="00112230aaaaaaaa"), "an older one"),
        (STOOD_SEEN, replace(FOUND_SEEN, salts=NO_SALTS, max_frame=0), "never copied back"),
        (STOOD_SEEN, replace(FOUND_SEEN, salts="f0112230aaaaaaaa"), "never copied back"),
    ],
)
def test_what_was_not_sqlites_doing_while_nobody_looked_begins_a_timeline(stood: LastPosition, found: Found, word: str) -> None:
    judgement = judge_continuity(stood, found)
    assert judgement.verdict is Continuity.NEW_TIMELINE and word in judgement.reason and judgement.reason.startswith(BYPASSED)


@pytest.mark.parametrize(
    ("stood", "found", "verdict"),
    [
        (STOOD_SEEN, FOUND_SEEN, Continuity.GO_ON),
        (STOOD_SEEN, replace(FOUND_SEEN, sighting=replace(SEEN, shm="1:19")), Continuity.GO_ON),
        (STOOD_SEEN, replace(FOUND_SEEN, sighting=None), Continuity.GO_ON),
        (
            STOOD_SEEN,
            replace(FOUND_SEEN, sighting=replace(SEEN, n_attempted=10, n_copied=10, stamp="9000:6")),
            Continuity.GO_ON,
        ),
        (STOOD_SEEN, replace(FOUND_SEEN, salts="00112234aaaaaaaa", stamp="9000:6"), Continuity.HOLE),
        (STOOD_SEEN, replace(FOUND_SEEN, salts="f0112234aaaaaaaa", stamp="9000:6"), Continuity.HOLE),
        (
            replace(STOOD_SEEN, sighting=replace(SEEN, n_attempted=10)),
            replace(FOUND_SEEN, salts=NO_SALTS, max_frame=0),
            Continuity.HOLE,
        ),
    ],
)
def test_what_may_have_been_sqlites_doing_while_nobody_looked_is_judged_as_before(
    stood: LastPosition, found: Found, verdict: Continuity
) -> None:
    assert judge_continuity(stood, found).verdict is verdict
