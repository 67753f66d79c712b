"""Each way to be misled, made on purpose: what was never committed, a log begun anew or deleted, a clock that steps back."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from tests.capture import product, rawwal, workload
from tests.capture.product import Host, Stored, await_captured
from tests.capture.service import service
from tests.support.processes import ROOT


@pytest.fixture
def host(scratch: Path) -> Host:
    return product.make(scratch / "h1")


def _wal(host: Host) -> Path:
    return host.database.with_name(host.database.name + "-wal")


def _shm_head(host: Host) -> rawwal.ShmHead:
    found = rawwal.read_shm_head(host.database.with_name(host.database.name + "-shm"))
    assert found is not None
    return found


def _numbers(stored: list[Stored]) -> list[int]:
    return [one.n for one in stored]


@contextmanager
def _phantom(database: Path) -> Iterator[None]:
    """Leave a valid commit frame in the log that was never committed; the writer that failed stays connected."""
    words = [sys.executable, "-m", "tests.capture.phantom", str(database)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "refused\n"
        yield
    finally:
        process.kill()
        process.communicate()


def test_a_commit_frame_that_sqlite_never_committed_is_not_captured(host: Host) -> None:
    with service(host.database) as busy, host.captured() as agent:
        busy.tell("hold")
        busy.commit(3)
        with _phantom(host.database):
            committed = _shm_head(host).n_frames
            assert rawwal.valid_commits(_wal(host))[-1] > committed, "the harness made no phantom"
            time.sleep(2.5)  # two rotations: whoever believes the log alone has taken it by now
            assert workload.NEVER not in _numbers(host.stored())
            last = busy.commit(2)  # written over it
            stored = await_captured(host, last)
        agent.terminate()
    assert _numbers(stored) == [*range(last + 1)]
    assert not any(one.resumed for one in stored[1:])


def test_a_log_begun_anew_behind_a_pin_in_slot_0_loses_nothing(host: Host) -> None:
    salts = []
    with service(host.database) as busy, host.captured() as agent:
        busy.tell("hold")
        for _ in range(4):
            await_captured(host, busy.commit(250))  # 6 MB: so much that the agent itself has it copied back and pins again
            busy.tell("checkpoint PASSIVE")
            salts += [_shm_head(host).salts]
            busy.commit(3)
        last = busy.commit(1)
        stored = await_captured(host, last)
        agent.terminate()
    print(f"the log was begun anew {len(set(salts)) - 1} times")
    assert len(set(salts)) > 1, "the log only grows: no pin was ever in slot 0"
    assert _numbers(stored) == [*range(last + 1)]
    assert not any(one.resumed for one in stored[1:])


def test_a_pin_taken_on_a_log_all_copied_back_sees_the_next_commit_begin_it_anew(host: Host) -> None:
    with service(host.database) as busy:
        busy.tell("hold")
        busy.commit(5)
        busy.tell("checkpoint FULL")
        salts = _shm_head(host).salts
        with host.captured() as agent:  # nobody else reads: its first pin is in slot 0
            last = busy.commit(4)
            assert _shm_head(host).salts != salts, "the log was not begun anew"
            stored = await_captured(host, last)
            agent.terminate()
    assert _numbers(stored) == [5, 6, 7, 8, 9]


def test_a_log_deleted_by_the_last_close_while_the_agent_is_down_is_a_hole(host: Host) -> None:
    with service(host.database) as busy, host.captured() as agent:
        busy.tell("hold")
        await_captured(host, busy.commit(3))
        agent.kill()
        busy.commit(2)
        busy.tell("drop")
        busy.commit(1)  # its connection is the last one
        assert not _wal(host).exists()
        busy.commit(2)
        agent.restart()
        agent.wait_ready()
        last = busy.commit(2)
        stored = await_captured(host, last)
        agent.terminate()
    assert _numbers(stored) == [0, 1, 2, 3, 8, 9, 10]
    assert [one.n for one in stored if one.resumed] == [0, 8]
    hole = stored[4]
    assert hole.unseen_us > 0
    assert hole.observed_us - hole.unseen_us >= stored[3].observed_us
    assert len({one.timeline for one in stored}) == 1


def test_a_log_only_grown_while_the_agent_is_down_is_no_hole(host: Host) -> None:
    with service(host.database) as busy, host.captured() as agent:
        busy.tell("hold")
        await_captured(host, busy.commit(3))
        agent.kill()
        busy.commit(4)
        agent.restart()
        last = busy.commit(1)
        stored = await_captured(host, last)
        agent.terminate()
    assert _numbers(stored) == [*range(last + 1)]
    assert not any(one.resumed for one in stored[1:])


def test_a_journal_mode_changed_while_the_agent_is_down_is_a_hole(host: Host) -> None:
    with service(host.database) as busy, host.captured() as agent:
        await_captured(host, busy.commit(3))
        agent.kill()
        busy.tell("sql PRAGMA journal_mode = DELETE")
        busy.commit(2)
        busy.tell("sql PRAGMA journal_mode = WAL")
        busy.commit(1)
        agent.restart()
        agent.wait_ready()
        stored = await_captured(host, busy.commit(1))
        agent.terminate()
    assert [(one.n, one.resumed) for one in stored][-2:] == [(6, True), (7, False)]


def test_a_page_size_changed_while_the_agent_is_down_begins_a_new_timeline(host: Host) -> None:
    with service(host.database) as busy, host.captured() as agent:
        await_captured(host, busy.commit(3))
        agent.kill()
        busy.tell("sql PRAGMA journal_mode = DELETE")
        busy.tell("sql PRAGMA page_size = 8192; VACUUM; PRAGMA journal_mode = WAL")
        agent.restart()
        agent.wait_ready()
        stored = await_captured(host, busy.commit(2))
        agent.terminate()
    timelines = list(dict.fromkeys(one.timeline for one in stored))
    assert len(timelines) == 2
    assert [(one.number, one.n) for one in stored if one.timeline == timelines[1]] == [(1, 3), (2, 4), (3, 5)]


@pytest.mark.parametrize(("step_seconds", "most_timelines"), [(-30, 1), (-3600, 3)])
def test_a_clock_that_steps_back_never_makes_a_commit_older_than_its_predecessor_on_a_timeline(
    host: Host, step_seconds: int, most_timelines: int
) -> None:
    """The process takes its clock as an argument: here it is one that follows the offset (seconds) written in a file.

    A new timeline may begin when it steps far; what is in none was committed between the end of one and the start of the next.
    """
    offset = host.config.directory / "clock-offset"
    offset.write_text("0")
    with service(host.database) as busy, host.captured(module="tests.capture.stepping") as agent:
        busy.tell("hold")
        await_captured(host, busy.commit(3))
        offset.write_text(str(step_seconds))
        await_captured(host, busy.commit(3))
        agent.kill()
        agent.restart()  # what it said before must hold after a restart too
        await_captured(host, busy.commit(3))
        offset.write_text("0")
        time.sleep(1.1)
        last = busy.commit(2)
        stored = await_captured(host, last)
        agent.terminate()
    timelines = [[one for one in stored if one.timeline == name] for name in {one.timeline for one in stored}]
    timelines.sort(key=lambda line: line[0].n)  # by what they hold: by the clock the later one may have begun earlier
    for line in timelines:
        assert [one.observed_us for one in line] == sorted(one.observed_us for one in line)
        assert _numbers(line) == [*range(line[0].n, line[-1].n + 1)]
        assert not any(one.resumed for one in line[1:])
        assert all(one.unseen_us >= 0 for one in line)
    # A look without a commit may notice the step: then the later one begins with the very state the earlier one ended with.
    assert all(later[0].resumed and later[0].n >= earlier[-1].n for earlier, later in pairwise(timelines))
    assert timelines[0][0].n == 0
    assert len(timelines) <= most_timelines
    newest = timelines[-1][-1]
    assert newest.n == last
    now = datetime.now(UTC)
    assert now - timedelta(minutes=5) < datetime.fromtimestamp(newest.observed_us / 1e6, UTC) <= now  # and it finds back
