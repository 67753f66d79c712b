from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest

from continuum_tasks.capture.pins.base_copy import read_base
from continuum_tasks.capture.pins.client import PinsLost
from continuum_tasks.capture.plan.continuity import Continuity
from continuum_tasks.capture.reader import first_page
from continuum_tasks.capture.reader.follower import Bypassed, CommitFollower, Lost
from continuum_tasks.capture.reader.wal_files import TransactionTooLarge
from continuum_tasks.capture.state import progress, restored
from continuum_tasks.errors import NoSpace, SourceBusy
from tests.support.other import sql
from tests.support.service import Service, make, serving
from tests.unit.capture.conftest import Setting
from tests.unit.capture.following import begun, commits, insert, spooled


def test_a_timeline_begins_with_the_state_that_is_there(setting: Setting, service: Service) -> None:
    insert(service, 3)
    follower = begun(setting)
    (first,) = commits(follower, setting)
    assert first.resumed and first.number == 1 and first.unseen_us == 0
    (segment,) = spooled(follower, setting)
    (page,) = [bytes(page) for _, pgno, page in segment.pages() if pgno == 1]
    assert page[:16] == b"SQLite format 3\0"


def test_every_commit_is_captured_once_and_in_order(setting: Setting, service: Service) -> None:
    follower = begun(setting)
    for n in (1, 5, 0, 40):
        insert(service, n)
        follower.rotate()
    found = commits(follower, setting)
    assert [commit.number for commit in found] == list(range(1, 48))
    assert [commit.resumed for commit in found] == [True] + 46 * [False]
    assert setting.pins.count(setting.path) == 1


def test_a_transaction_that_was_rolled_back_or_is_open_is_no_commit(setting: Setting, service: Service) -> None:
    follower = begun(setting)
    service.run("PRAGMA cache_size=5", "BEGIN", *(f"INSERT INTO t(x) VALUES (hex(randomblob({9000 + n})))" for n in range(40)))
    follower.rotate()  # its frames are in the log: they were spilled
    service.run("ROLLBACK")
    insert(service, 1)
    follower.rotate()
    assert [commit.number for commit in commits(follower, setting)] == [1, 2]


@pytest.mark.parametrize("mode", ["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
def test_nothing_is_lost_when_others_checkpoint_between_two_looks(setting: Setting, service: Service, mode: str) -> None:
    follower = begun(setting)
    for _ in range(6):
        insert(service, 3)
        service.run(f"PRAGMA wal_checkpoint({mode})", on="other")
        insert(service, 2)
        follower.rotate()
        service.run(f"PRAGMA wal_checkpoint({mode})", on="other")
    assert len(commits(follower, setting)) == 31


def test_the_pin_in_slot_0_lets_the_log_be_begun_anew_only_when_it_was_read(setting: Setting, service: Service) -> None:
    follower = begun(setting)
    insert(service, 4)
    follower.rotate()
    service.run("PRAGMA wal_checkpoint(PASSIVE)")
    follower.rotate()  # all is copied back: this pin is in slot 0
    assert follower.standing is not None
    before = follower.standing.mark
    insert(service, 1)
    follower.rotate()
    assert follower.standing.mark.salts != before.salts and follower.standing.mark.frame < before.frame
    assert len(commits(follower, setting)) == 6


def test_a_log_that_has_grown_is_helped_to_be_begun_anew(setting: Setting, service: Service) -> None:
    service.run("PRAGMA wal_autocheckpoint=0")
    follower = begun(setting)
    for _ in range(4):
        service.run(*(f"INSERT INTO t(x) VALUES (zeroblob({600_000 + n}))" for n in range(3)))
        follower.rotate()
    assert follower.log_bytes < 4_500_000
    assert [commit.number for commit in commits(follower, setting)] == list(range(1, 14))


def test_a_writer_goes_on_while_the_log_is_held(setting: Setting, service: Service) -> None:
    begun(setting)
    assert service.answer("INSERT INTO t(x) VALUES (1)") == [[]]  # with a timeout of 0


def test_capture_goes_on_where_it_stood_when_the_log_is_still_that_one(setting: Setting, service: Service) -> None:
    follower = begun(setting)
    insert(service, 3)
    follower.rotate()
    follower.let_go()
    insert(service, 4)
    again = setting.follower()
    judgement = again.begin(watched_until_us=0)
    again.rotate()
    assert judgement is not None and judgement.verdict is Continuity.GO_ON
    assert [commit.number for commit in commits(again, setting)] == list(range(1, 9))
    assert not any(commit.resumed for commit in commits(again, setting)[1:])


def test_a_log_that_was_begun_anew_meanwhile_is_a_hole_with_its_edges(setting: Setting, service: Service) -> None:
    follower = begun(setting)
    insert(service, 3)
    follower.rotate()
    watched = follower.times.observed_us
    follower.let_go()
    service.run("PRAGMA wal_checkpoint(TRUNCATE)")
    insert(service, 2)
    again = setting.follower()
    again.begin(watched_until_us=watched)
    insert(service, 1)
    again.rotate()
    *_, hole, last = commits(again, setting)
    assert hole.resumed and hole.number == 5 and hole.observed_us - hole.unseen_us == watched
    assert last.number == 6 and not last.resumed
    assert again.standing is not None and again.standing.base_after == 5
    reason = "SQLite restarted the write-ahead log while capture was not attached"
    assert spooled(again, setting)[-2].index.head.reasons == ((5, reason),)


def test_a_log_that_the_last_one_out_removed_is_a_hole_too(setting: Setting, service: Service) -> None:
    follower = begun(setting)
    insert(service, 1)
    follower.rotate()
    follower.let_go()
    insert(service, 1)
    service.close()  # nobody holds it: all frames are copied back and the log is gone
    assert not setting.path.with_name("memory.db-wal").exists()
    again = setting.follower()
    judgement = again.begin(watched_until_us=follower.times.observed_us)
    assert judgement is not None and judgement.verdict is Continuity.HOLE


def test_a_database_that_nobody_wrote_to_has_no_hole_after_a_restart(setting: Setting) -> None:
    follower = begun(setting)
    follower.let_go()
    again = setting.follower()
    judgement = again.begin(watched_until_us=0)
    assert judgement is not None and judgement.verdict is Continuity.GO_ON


def test_the_copy_to_begin_with_is_the_database_to_the_byte_while_others_commit(setting: Setting, service: Service) -> None:
    insert(service, 30)
    follower = setting.follower()
    follower.begin(watched_until_us=0)
    insert(service, 30)
    while follower.base.busy:
        assert follower.base.step() is None
        time.sleep(0.01)
    found = read_base(follower.directory)
    assert found is not None and found.commit == 1
    service.process.kill()
    copies = [setting.path.with_name(f"replayed.db{suffix}") for suffix in ("", "-wal")]
    for copy, suffix in zip(copies, ("", "-wal"), strict=True):
        copy.write_bytes(setting.path.with_name(f"memory.db{suffix}").read_bytes())
    assert follower.standing is not None
    with copies[1].open("r+b") as log:
        log.truncate(32 + follower.standing.mark.frame * (24 + 4096))
    sql(copies[0], "PRAGMA wal_checkpoint(TRUNCATE)")
    assert Path(found.path).read_bytes() == copies[0].read_bytes()


def test_a_file_that_was_put_in_its_place_begins_a_new_timeline(setting: Setting, service: Service, tmp_path: Path) -> None:
    follower = begun(setting)
    insert(service, 1)
    follower.rotate()
    assert follower.standing is not None
    old = follower.standing.timeline.id
    service.process.kill()
    make(tmp_path / "other.db")
    for suffix in ("-wal", "-shm"):
        setting.path.with_name(f"memory.db{suffix}").unlink()
    (tmp_path / "other.db").rename(setting.path)
    with pytest.raises(Lost, match="replaced"):
        follower.look()
    again = setting.follower()
    again.begin(watched_until_us=7_000_000)
    assert again.standing is not None
    assert again.standing.timeline.id != old and again.standing.timeline.previous == old
    assert again.standing.timeline.followed_until_us == 7_000_000
    assert [commit.number for commit in commits(again, setting)] == [1]


def test_times_never_go_backwards_when_the_clock_does(setting: Setting, service: Service) -> None:
    follower = begun(setting)
    insert(service, 1)
    follower.rotate()
    setting.time.offset = timedelta(seconds=-40)
    for _ in range(3):
        insert(service, 1)
        follower.rotate()
    follower.let_go()
    again = setting.follower()
    again.begin(watched_until_us=0)
    insert(service, 1)
    again.rotate()
    times = [commit.observed_us for commit in commits(again, setting)]
    assert times == sorted(times)
    assert all(0 <= commit.unseen_us < 60_000_000 for commit in commits(again, setting))


def test_a_clock_that_is_set_back_by_much_begins_a_new_timeline(setting: Setting, service: Service) -> None:
    """Else all that is committed until it is that late again would have one time."""
    follower = begun(setting)
    insert(service, 1)
    follower.rotate()
    assert follower.standing is not None
    old = follower.standing.timeline
    setting.time.offset = timedelta(hours=-2)
    insert(service, 1)
    with pytest.raises(Lost, match="clock"):
        follower.look()
    assert [commit.number for commit in commits(follower, setting)] == [1, 2, 3]
    follower.begin(watched_until_us=follower.times.observed_us)
    assert follower.standing.timeline.id != old.id and "set back by 7" in follower.standing.timeline.reason
    assert follower.standing.timeline.created_at < old.created_at
    (first,) = commits(follower, setting)
    assert first.observed_us < 1e6 * old.created_at.timestamp()


def test_a_full_spool_keeps_what_was_captured_and_reads_no_more_into_memory(setting: Setting, service: Service) -> None:
    follower = begun(setting, segment_bytes=1 << 20, spool_limit_bytes=1)
    with pytest.raises(NoSpace, match="spool_limit_bytes"):
        insert(service, 1)
        follower.rotate()
    service.run(*(f"INSERT INTO t(x) VALUES (zeroblob({900_000 + n}))" for n in range(3)))
    for _ in range(3):
        service.run("INSERT INTO t(x) VALUES (zeroblob(1500000))")
        with pytest.raises(NoSpace):
            follower.rotate()
    assert follower.pending_bytes < 4 << 20
    assert follower.log_bytes > 6 << 20, "a log that grows meanwhile has a limit"
    follower.let_go()
    assert setting.pins.count(setting.path) == 0
    again = begun(setting)
    again.rotate()
    assert [commit.number for commit in commits(again, setting)] == list(range(1, 9))
    assert not any(commit.resumed for commit in commits(again, setting)[1:])


def test_one_transaction_larger_than_memory_may_be_is_told(
    setting: Setting, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("continuum_tasks.capture.reader.wal_files.MAX_TRANSACTION_BYTES", 1 << 20)
    follower = begun(setting, segment_bytes=1 << 20)
    service.run("BEGIN", *("INSERT INTO t(x) VALUES (zeroblob(900000))" for _ in range(4)), "COMMIT")
    with pytest.raises(TransactionTooLarge):
        follower.look()


def test_a_commit_that_sqlite_never_made_is_not_captured(setting: Setting, service: Service) -> None:
    """A failed fsync leaves its frames in the log, whole and valid; the index header does not count them."""
    follower = begun(setting)
    insert(service, 1)
    follower.rotate()
    assert follower.standing is not None
    wal = setting.path.with_name("memory.db-wal")
    size, shm = wal.stat().st_size, setting.path.with_name("memory.db-shm")
    index = shm.read_bytes()[:136]
    insert(service, 1)
    assert wal.stat().st_size > size
    with shm.open("r+b") as file:  # as if the commit had failed after its frames were written
        file.write(index)
    follower.rotate()
    assert [commit.number for commit in commits(follower, setting)] == [1, 2]


def test_a_rollback_journal_database_is_not_held(setting: Setting, service: Service) -> None:
    service.run("PRAGMA journal_mode=DELETE")
    follower = setting.follower()
    assert follower.begin(watched_until_us=0) is None
    assert not follower.holds and follower.journal_mode == "delete" and setting.pins.count(setting.path) == 0
    assert service.answer("INSERT INTO t(x) VALUES (1)") == [[]]


def test_a_database_that_is_locked_or_gone_is_busy_and_nothing_is_held(setting: Setting) -> None:
    follower = setting.follower()
    setting.path.rename(setting.path.with_name("away.db"))
    with pytest.raises(SourceBusy):
        follower.begin(watched_until_us=0)
    assert not follower.holds and setting.pins.count(setting.path) == 0


def test_the_death_of_the_process_that_holds_pins_is_noticed(setting: Setting, service: Service) -> None:
    follower = begun(setting)
    insert(service, 1)
    assert setting.pins.pid is not None
    os.kill(setting.pins.pid, signal.SIGKILL)
    with pytest.raises(PinsLost):
        follower.rotate()
    setting.pins.start()
    again = begun(setting)
    again.rotate()
    assert [commit.number for commit in commits(again, setting)] == [1, 2]


@pytest.mark.parametrize("page_size", [512, 65536])
def test_other_page_sizes_are_captured(setting: Setting, tmp_path: Path, page_size: int) -> None:
    setting.path = tmp_path / f"{page_size}.db"
    make(setting.path, page_size=page_size)
    with serving(setting.path) as service:
        follower = begun(setting)
        insert(service, 9)
        follower.rotate()
        assert follower.standing is not None and follower.standing.timeline.page_size == page_size
        assert len(commits(follower, setting)) == 10


def test_a_death_behind_the_standing_leaves_no_page_1_that_is_older_than_it(
    setting: Setting, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup puts that page into its copy: an older one would tear it."""
    follower = begun(setting)
    service.run("CREATE TABLE u(x)")

    def dies(directory: Path, then: progress.CaptureProgress) -> None:
        save(directory, then)
        raise KeyboardInterrupt

    save = progress.save
    monkeypatch.setattr("continuum_tasks.capture.reader.follower.save", dies)
    with pytest.raises(KeyboardInterrupt):
        follower.rotate()
    found, stands = first_page.read_first_page(follower.directory), progress.load(follower.directory)
    assert found is not None and stands is not None
    assert (found.commit, stands.commit) == (2, 2)


def test_a_copy_to_begin_with_never_takes_the_place_of_one_that_a_backup_may_be_reading(
    setting: Setting, service: Service
) -> None:
    """It would go on in the other one, and store a state that never was."""
    follower = begun(setting)
    first = read_base(follower.directory)
    setting.time.offset = timedelta(hours=-2)
    again = begun(setting)
    second = read_base(again.directory)
    assert first is not None and second is not None
    assert first.timeline != second.timeline and first.path != second.path
    assert [str(path) for path in setting.place.temp_dir.iterdir()] == [second.path]
    again.base.close()
    assert list(setting.place.temp_dir.iterdir()) == []


def test_a_state_restored_into_the_live_file_begins_a_new_timeline_once(setting: Setting, service: Service) -> None:
    """The log goes on with the same salts, so only the note tells; a capture that did not run meanwhile finds it too."""
    insert(service, 3)
    follower = begun(setting)
    assert follower.standing is not None
    old = follower.standing.timeline.id
    follower.let_go()
    restored.note(follower.directory)
    service.run("DELETE FROM t")  # what the restore committed
    again = setting.follower()
    judgement = again.begin(watched_until_us=0)
    assert judgement is not None and again.standing is not None
    assert judgement.verdict is Continuity.NEW_TIMELINE and "restore --online" in judgement.reason
    timeline = again.standing.timeline
    assert (timeline.previous, again.standing.commit) == (old, 1) and timeline.reason == judgement.reason
    again.base.close()
    again.let_go()
    judgement = setting.follower().begin(watched_until_us=0)
    assert judgement is not None and judgement.verdict is Continuity.GO_ON


SUFFIXES = ("", "-wal", "-shm")


def doubted(setting: Setting, follower: CommitFollower) -> None:
    """See that a look notices, that it is known after a death in that instant, and that another timeline begins."""
    assert follower.standing is not None
    old, n_commits = follower.standing.timeline.id, follower.standing.commit
    with pytest.raises(Bypassed):
        follower.look()
    follower.let_go()
    again = setting.follower()
    with pytest.raises(SourceBusy, match="may still be written"):
        again.begin(watched_until_us=0)
    judgement = again.begin(watched_until_us=0)
    assert judgement is not None and judgement.verdict is Continuity.NEW_TIMELINE
    assert judgement.reason.startswith("not written by SQLite: ")
    assert again.standing is not None and again.standing.timeline.previous == old
    assert again.n_holes == 1 and n_commits > 1
    again.rotate()  # and it goes on from there


@pytest.mark.parametrize("restarted", [False, True])
def test_an_older_copy_of_all_files_written_back_is_no_restart(setting: Setting, service: Service, restarted: bool) -> None:
    follower = begun(setting)
    insert(service, 3)
    follower.rotate()
    files = [setting.path.with_name(f"memory.db{suffix}") for suffix in SUFFIXES]
    copies = [file.read_bytes() for file in files]
    if restarted:
        service.run("PRAGMA wal_checkpoint(PASSIVE)")
        follower.rotate()
    insert(service, 2)
    follower.rotate()
    for file, copy in zip(files, copies, strict=True):
        with file.open("r+b") as opened:
            opened.write(copy)
            opened.truncate(len(copy))
    doubted(setting, follower)


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_log_or_index_that_is_gone_is_no_restart(setting: Setting, service: Service, suffix: str) -> None:
    follower = begun(setting)
    insert(service, 3)
    follower.rotate()
    service.close()
    setting.path.with_name(f"memory.db{suffix}").unlink()
    doubted(setting, follower)


def test_a_database_file_that_is_written_without_a_checkpoint_is_doubted(setting: Setting, service: Service) -> None:
    insert(service, 40)
    follower = begun(setting)
    insert(service, 1)
    follower.rotate()
    with setting.path.open("r+b") as file:
        file.seek(4096)
        page = file.read(4096)
        file.seek(4096)
        file.write(page)
    doubted(setting, follower)


def test_nobody_s_commits_to_a_deleted_index_are_waited_for_in_silence(setting: Setting, service: Service) -> None:
    follower = begun(setting)
    insert(service, 1)
    follower.rotate()
    setting.path.with_name("memory.db-shm").unlink()
    with pytest.raises(Bypassed, match="-shm was deleted"):
        follower.look()
    with pytest.raises(SourceBusy, match="may still be written"):
        follower.begin(watched_until_us=0)
    for _ in range(2):
        with pytest.raises(SourceBusy, match=rf"pid {service.process.pid} \(.*\) still uses the deleted file"):
            follower.begin(watched_until_us=0)
    service.close()  # which copies back and removes the log: files change again
    with pytest.raises(SourceBusy, match="may still be written"):
        follower.begin(watched_until_us=0)
    judgement = follower.begin(watched_until_us=0)
    assert judgement is not None and judgement.verdict is Continuity.NEW_TIMELINE
