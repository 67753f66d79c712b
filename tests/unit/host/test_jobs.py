"""What the job rows promise, alone and with several processes at once."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from continuum_tasks.errors import IntegrityError, JobFailed, SourceBusy, StaleClaim
from continuum_tasks.host.jobs import POOL_SILENT_SECONDS, Job, Jobs, JobState, open_jobs
from continuum_tasks.model import Progress
from continuum_tasks.process import holder_died, worker_id

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LEASE = 60.0
ROOT = Path(__file__).resolve().parents[3]


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    opened = open_jobs(tmp_path / "metadata.db")
    yield opened
    opened.close()


def claim(jobs: Jobs, job_id: str = "a", *, worker: str = "w1", at: datetime = NOW) -> Job | None:
    return jobs.claim(job_id, worker, lease_seconds=LEASE, now=at)


def claimed(jobs: Jobs, job_id: str = "a", *, worker: str = "w1", at: datetime = NOW) -> Job:
    job = claim(jobs, job_id, worker=worker, at=at)
    assert job is not None
    return job


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


HOLDER = """
    import sys
    from datetime import datetime
    from pathlib import Path
    from continuum_tasks.host.jobs import open_jobs
    from continuum_tasks.process import worker_id
    jobs = open_jobs(Path(sys.argv[1]))
    print("open", flush=True)
    sys.stdin.readline()
    job = jobs.claim("a", worker_id("h"), lease_seconds=3600, now=datetime.fromisoformat(sys.argv[2]))
    print("lost" if job is None else f"won {job.token}", flush=True)
    sys.stdin.readline()
"""


def test_a_new_job_is_queued_with_what_it_was_given(jobs: Jobs) -> None:
    args = {"strategy": "full", "n": 3, "deep": {"list": [1, None, True, 0.5]}}
    job = jobs.add("create_backup", args, id="a", database="main", priority=0, max_attempts=2, parent_id="p", now=NOW)
    assert (job.kind, job.args, job.database, job.priority, job.max_attempts) == ("create_backup", args, "main", 0, 2)
    assert (job.state, job.attempts, job.token, job.parent_id, job.created_at) == (JobState.QUEUED, 0, 0, "p", NOW)
    assert jobs.get("a") == job
    assert jobs.children("p") == (job,)


def test_adding_an_id_again_changes_nothing(jobs: Jobs) -> None:
    jobs.add("create_backup", {"strategy": "full"}, id="a", now=NOW)
    first = claimed(jobs)
    again = jobs.add("restore_backup", {"other": 1}, id="a", priority=9, now=later(5))
    assert again == first


def test_jobs_without_an_id_are_different_jobs(jobs: Jobs) -> None:
    assert jobs.add("k", {}, now=NOW).id != jobs.add("k", {}, now=NOW).id


def test_a_value_that_is_not_json_is_refused(jobs: Jobs) -> None:
    with pytest.raises(TypeError):
        jobs.add("k", {"at": NOW}, now=NOW)  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="Out of range float"):
        jobs.add("k", {"x": float("nan")}, now=NOW)


def test_a_time_without_zone_is_a_misuse(jobs: Jobs) -> None:
    with pytest.raises(RuntimeError, match="no time zone"):
        jobs.add("k", {}, now=datetime(2026, 1, 1))


def test_a_claimed_job_is_not_claimed_again_while_its_lease_holds(jobs: Jobs) -> None:
    jobs.add("k", {}, id="a", now=NOW)
    first = claimed(jobs)
    assert (first.state, first.attempts, first.token, first.lease_until) == (JobState.RUNNING, 1, 1, later(LEASE))
    assert claim(jobs, worker="w2", at=later(LEASE - 0.001)) is None


def test_an_ended_lease_hands_over_with_a_higher_token(jobs: Jobs) -> None:
    jobs.add("k", {}, id="a", now=NOW)
    claimed(jobs)
    second = claimed(jobs, worker="w2", at=later(LEASE))
    assert (second.token, second.attempts, second.claimed_by) == (2, 2, "w2")


def test_a_renewed_lease_counts_from_the_renewal(jobs: Jobs) -> None:
    jobs.add("k", {}, id="a", now=NOW)
    first = claimed(jobs)
    jobs.renew("a", first.token, lease_seconds=LEASE, now=later(50))
    assert claim(jobs, worker="w2", at=later(LEASE)) is None
    assert claim(jobs, worker="w2", at=later(50 + LEASE)) is not None


def test_whoever_lost_the_lease_is_refused_at_every_step(jobs: Jobs) -> None:
    jobs.add("k", {}, id="a", now=NOW)
    old = claimed(jobs).token
    new = claimed(jobs, worker="w2", at=later(LEASE)).token
    for step in (
        lambda token: jobs.check_current("a", token),
        lambda token: jobs.renew("a", token, lease_seconds=LEASE, now=later(LEASE)),
        lambda token: jobs.progress("a", token, progress=Progress(phase="seal"), now=later(LEASE)),
        lambda token: jobs.fail("a", token, SourceBusy("x"), retry=True, now=later(LEASE)),
        lambda token: jobs.finish("a", token, None, now=later(LEASE)),
    ):
        with pytest.raises(StaleClaim):
            step(old)
    jobs.check_current("a", new)
    jobs.finish("a", new, {"backup_id": "b"}, now=later(61))
    with pytest.raises(StaleClaim):
        jobs.check_current("a", new)


def test_progress_and_result_are_there_for_who_waits(jobs: Jobs) -> None:
    jobs.add("k", {}, id="a", now=NOW)
    token = claimed(jobs).token
    jobs.progress("a", token, progress=Progress(phase="seal", n_bytes=5, total_bytes=9, detail="chunk 1"), now=later(1))
    seen = jobs.get("a")
    assert seen is not None
    assert (seen.phase, seen.n_bytes, seen.total_bytes, seen.detail, seen.lease_until) == (
        "seal",
        5,
        9,
        "chunk 1",
        later(LEASE),
    )
    jobs.finish("a", token, {"backup_id": "b", "n": [1, 2]}, now=later(2))
    done = jobs.get("a")
    assert done is not None
    assert (done.state, done.result, done.error, done.lease_until, done.updated_at) == (
        JobState.DONE,
        {"backup_id": "b", "n": [1, 2]},
        None,
        None,
        later(2),
    )
    assert claim(jobs, at=later(9999)) is None


def test_a_stored_error_comes_back_as_its_class_with_its_hint(jobs: Jobs) -> None:
    jobs.add("k", {}, id="a", now=NOW)
    jobs.fail("a", claimed(jobs).token, SourceBusy("database main: busy", hint="enable WAL"), retry=False, now=later(1))
    job = jobs.get("a")
    assert job is not None and job.error is not None and job.state is JobState.FAILED
    error = job.error.to_error()
    assert isinstance(error, SourceBusy)
    assert (error.message, error.hint) == ("database main: busy", "enable WAL")


def test_a_foreign_error_is_stored_as_a_failed_job_that_names_it(jobs: Jobs) -> None:
    jobs.add("k", {}, id="a", now=NOW)
    jobs.fail("a", claimed(jobs).token, ZeroDivisionError("by zero"), retry=False, now=later(1))
    job = jobs.get("a")
    assert job is not None and job.error is not None
    assert isinstance(job.error.to_error(), JobFailed)
    assert job.error.message == "ZeroDivisionError: by zero"


def test_retries_end_at_the_attempt_cap(jobs: Jobs) -> None:
    jobs.add("k", {}, id="a", max_attempts=2, now=NOW)
    for expected in (JobState.QUEUED, JobState.FAILED):
        jobs.fail("a", claimed(jobs).token, SourceBusy("busy"), retry=True, now=later(1))
        job = jobs.get("a")
        assert job is not None and job.state is expected
    assert claim(jobs, at=later(9999)) is None


def test_silent_deaths_end_at_the_attempt_cap(jobs: Jobs) -> None:
    jobs.add("k", {}, id="a", max_attempts=3, now=NOW)
    for n in range(3):
        claimed(jobs, at=later(n * LEASE))
        assert jobs.abandon(later(n * LEASE + 1)) == ()
    end = later(3 * LEASE)
    assert claim(jobs, at=end) is None
    assert jobs.due(end) == ()
    (gone,) = jobs.abandon(end)
    assert gone.state is JobState.FAILED and gone.error is not None and "3 of 3 attempts" in gone.error.message
    assert jobs.abandon(end) == ()


def test_due_is_what_anyone_may_claim_most_urgent_first(jobs: Jobs) -> None:
    for job_id, priority in (("low", 9), ("running", 3), ("urgent", 0), ("expired", 3), ("done", 0)):
        jobs.add("k", {}, id=job_id, priority=priority, now=NOW)
    claimed(jobs, "expired")
    claimed(jobs, "running", at=later(30))
    jobs.finish("done", claimed(jobs, "done").token, None, now=NOW)
    assert [j.id for j in jobs.due(later(LEASE))] == ["urgent", "expired", "low"]
    assert {j.id for j in jobs.unfinished()} == {"urgent", "expired", "low", "running"}


def test_a_job_that_was_just_rung_is_not_due_for_another_ring_until_it_was_claimed(jobs: Jobs) -> None:
    jobs.add("k", {}, id="a", now=NOW)
    jobs.mark_rung(["a"], now=later(10))
    assert jobs.due(later(20), not_rung_since=later(5)) == ()
    assert [j.id for j in jobs.due(later(20), not_rung_since=later(15))] == ["a"]
    claimed(jobs, at=later(20))
    assert [j.id for j in jobs.due(later(20 + LEASE), not_rung_since=later(5))] == ["a"]


def test_cancelling_a_job_ends_its_children_and_fences_their_holders(jobs: Jobs) -> None:
    jobs.add("k", {}, id="p", now=NOW)
    jobs.add("c", {}, id="p.0", parent_id="p", now=NOW)
    jobs.add("c", {}, id="p.1", parent_id="p", now=NOW)
    jobs.finish("p.1", claimed(jobs, "p.1").token, 1, now=NOW)
    token = claimed(jobs, "p.0").token
    assert jobs.cancel("p", reason="stopped by hand", now=later(1)) is True
    with pytest.raises(StaleClaim):
        jobs.check_current("p.0", token)
    assert [c.state for c in jobs.children("p")] == [JobState.FAILED, JobState.DONE]
    assert jobs.cancel("p", reason="again", now=later(2)) is False


def test_only_a_job_that_nobody_holds_is_ended_where_its_holder_is_to_go_on(jobs: Jobs) -> None:
    jobs.add("k", {}, id="a", now=NOW)
    jobs.add("k", {}, id="b", now=NOW)
    jobs.add("c", {}, id="b.0", parent_id="b", now=NOW)
    token = claimed(jobs, "b").token
    assert jobs.cancel_queued("a", reason="not needed", now=later(1)) is True
    assert jobs.cancel_queued("a", reason="again", now=later(2)) is False
    assert jobs.cancel_queued("b", reason="not needed", now=later(1)) is False
    jobs.check_current("b", token)
    assert [c.state for c in jobs.children("b")] == [JobState.QUEUED]
    ended = jobs.get("a")
    assert ended is not None and ended.state is JobState.FAILED and ended.error is not None
    assert ended.error.message == "job a: not needed"


def test_forgetting_spares_what_is_open_or_recent(jobs: Jobs) -> None:
    for job_id in ("old", "recent", "open"):
        jobs.add("k", {}, id=job_id, now=NOW)
    jobs.finish("old", claimed(jobs, "old").token, None, now=NOW)
    jobs.finish("recent", claimed(jobs, "recent").token, None, now=later(100))
    assert jobs.forget(later(50)) == 1
    assert (jobs.get("old"), jobs.get("recent") is None, jobs.get("open") is None) == (None, False, False)


def test_failed_jobs_are_told_the_last_first_since_an_instant_and_without_their_parts(jobs: Jobs) -> None:
    for name, seconds in (("a", 0), ("b", 10), ("part", 10), ("c", 20)):
        jobs.add("test", {}, id=name, now=NOW, parent_id="b" if name == "part" else None)
        if name != "c":
            jobs.fail(name, claimed(jobs, name).token, JobFailed(f"job {name}: no"), retry=False, now=later(seconds))

    assert [job.id for job in jobs.failed(NOW)] == ["b", "a"]
    assert [job.id for job in jobs.failed(later(1))] == ["b"]
    assert jobs.failed(later(11)) == ()


def test_of_eight_processes_exactly_one_wins_a_claim(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    jobs = open_jobs(path)
    jobs.add("k", {}, id="a", now=NOW)
    racers = [python(HOLDER, str(path), NOW.isoformat()) for _ in range(8)]
    try:
        for racer in racers:
            assert racer.stdout is not None and racer.stdout.readline() == "open\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("\n")
            racer.stdin.flush()
        answers = [racer.stdout.readline().strip() for racer in racers if racer.stdout is not None]
    finally:
        for racer in racers:
            racer.communicate(timeout=120)
    assert sorted(answers) == ["lost"] * 7 + ["won 1"]
    jobs.close()


def test_eight_processes_may_open_a_missing_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    code = """
        import sys
        from datetime import datetime
        from pathlib import Path
        from continuum_tasks.host.jobs import open_jobs
        sys.stdin.readline()
        jobs = open_jobs(Path(sys.argv[1]))
        for n in range(20):
            jobs.add("k", {}, id=f"{sys.argv[3]}-{n}", now=datetime.fromisoformat(sys.argv[2]))
    """
    writers = [python(code, str(path), NOW.isoformat(), str(n)) for n in range(8)]
    time.sleep(0.5)
    for writer in writers:
        writer.communicate("\n", timeout=120)
    assert [w.returncode for w in writers] == [0] * 8
    jobs = open_jobs(path)
    assert len(jobs.unfinished()) == 160
    jobs.close()


def test_the_lease_of_a_killed_process_ends_at_once(jobs: Jobs, tmp_path: Path) -> None:
    jobs.add("k", {}, id="a", now=NOW)
    with python(HOLDER, str(tmp_path / "metadata.db"), NOW.isoformat()) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert [holder.stdout.readline(), holder.stdout.readline()] == ["open\n", "won 1\n"]
        assert jobs.due(later(1)) == ()
        assert claim(jobs, at=later(1)) is None
        os.kill(holder.pid, signal.SIGKILL)
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # dead, but a zombie still
        assert [j.id for j in jobs.due(later(1))] == ["a"]
        assert claimed(jobs, at=later(1)).token == 2


def test_a_pid_that_was_given_away_again_is_not_the_holder(jobs: Jobs) -> None:
    me = worker_id("h")
    assert holder_died(me) is False
    assert holder_died(me.rpartition("/")[0] + "/1") is True


def test_a_worker_name_of_a_former_boot_is_dead_and_of_another_namespace_unknown() -> None:
    host, _, namespace, pid, started = worker_id("h").split("/")
    boot = worker_id("h").split("/")[1]
    assert holder_died(f"{host}/00000000/{namespace}/{pid}/{started}") is True
    assert holder_died(f"{host}/{boot}/1/{pid}/0") is False
    assert holder_died("some other name") is False


def test_the_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        jobs = open_jobs(tmp_path / "state" / "metadata.db")
        jobs.add("k", {}, now=NOW)
        modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "state").iterdir()}
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600} and "metadata.db-wal" in modes
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    jobs.close()


@pytest.mark.parametrize("leave_sidecars", [True, False])
def test_deleting_the_file_under_two_open_processes_starts_afresh_for_both(tmp_path: Path, *, leave_sidecars: bool) -> None:
    path = tmp_path / "metadata.db"
    first, second = open_jobs(path), open_jobs(path)
    first.add("k", {}, id="lost", now=NOW)
    assert second.get("lost") is not None
    path.unlink()
    if not leave_sidecars:
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink()
    assert first.get("lost") is None
    first.add("k", {}, id="new", now=NOW)
    assert second.get("new") is not None
    second.close()
    for n in range(50):
        first.add("k", {}, id=f"more-{n}", now=NOW)
    third = open_jobs(path)
    assert len(third.unfinished()) == 51
    first.close()
    third.close()


def test_sidecars_that_another_process_still_has_open_do_not_leak_into_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    code = """
        import sys
        from datetime import datetime
        from pathlib import Path
        from continuum_tasks.host.jobs import open_jobs
        now = datetime.fromisoformat(sys.argv[2])
        jobs = open_jobs(Path(sys.argv[1]))
        for n in range(20):
            jobs.add("k", {}, id=f"old-{n}", now=now)
        print("open", flush=True)
        sys.stdin.readline()
        print(sorted(j.id for j in jobs.unfinished()), flush=True)
        jobs.add("k", {}, id="theirs", now=now)
    """
    with python(code, str(path), NOW.isoformat()) as other:
        assert other.stdout is not None and other.stdout.readline() == "open\n"
        path.unlink()
        jobs = open_jobs(path)
        jobs.add("k", {}, id="mine", now=NOW)
        out, _ = other.communicate("\n", timeout=120)
    assert out == "['mine']\n"
    assert {j.id for j in jobs.unfinished()} == {"mine", "theirs"}
    jobs.close()


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    path.write_bytes(b"not a database, " * 512)
    with pytest.raises(IntegrityError) as caught:
        open_jobs(path)
    assert str(path) in caught.value.message and "reindex" in caught.value.hint


def test_a_fork_with_open_jobs_is_a_misuse_in_the_child(jobs: Jobs) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            jobs.get("a")
        except RuntimeError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_threads_may_share_one_connection(jobs: Jobs) -> None:
    def work(n: int) -> None:
        for i in range(25):
            jobs.add("k", {"n": n}, id=f"{n}-{i}", now=NOW)
            jobs.unfinished()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(jobs.unfinished()) == 150


def test_a_pool_is_alive_while_it_beats_and_its_process_lives(jobs: Jobs) -> None:
    jobs.beat("agent", "agent.h", host="h", now=NOW)
    (pool,) = jobs.pools(later(POOL_SILENT_SECONDS))
    assert (pool.pool, pool.queue, pool.host, pool.pid, pool.alive) == ("agent", "agent.h", "h", os.getpid(), True)
    assert jobs.pools(later(POOL_SILENT_SECONDS + 1))[0].alive is False
    jobs.beat("agent", "agent.h", host="h", now=later(20))
    assert [p.alive for p in jobs.pools(later(21))] == [True]
    jobs.leave("agent", host="h")
    assert jobs.pools(later(21)) == ()


def test_a_pool_whose_process_was_killed_is_not_alive_and_its_successor_is_not_removed_by_it(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    code = """
        import sys
        from datetime import datetime
        from pathlib import Path
        from continuum_tasks.host.jobs import open_jobs
        open_jobs(Path(sys.argv[1])).beat("agent", "q", host="h", now=datetime.fromisoformat(sys.argv[2]))
    """
    python(code, str(path), NOW.isoformat()).communicate(timeout=120)
    jobs = open_jobs(path)
    assert [p.alive for p in jobs.pools(NOW)] == [False]
    jobs.leave("agent", host="h")  # this process is not the one that reported
    assert len(jobs.pools(NOW)) == 1
    jobs.close()


class Leases(RuleBasedStateMachine):
    """Against a model that knows one rule: only the latest claim, until its end, may change a job."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.directory = tempfile.TemporaryDirectory()
        self.jobs = open_jobs(Path(self.directory.name) / "metadata.db")
        self.jobs.add("k", {}, id="a", max_attempts=4, now=NOW)
        self.at = 0.0
        self.lease_until = -1.0
        self.state = "queued"
        self.tokens: list[int] = []
        self.attempts = 0

    def teardown(self) -> None:
        self.jobs.close()
        self.directory.cleanup()

    @rule(seconds=st.sampled_from([0.5, 10.0, 60.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.at += seconds

    @rule()
    def claim(self) -> None:
        job = claim(self.jobs, at=later(self.at))
        free = self.state == "queued" or (self.state == "running" and self.lease_until <= self.at)
        assert (job is not None) == (free and self.attempts < 4)
        if job is not None:
            assert not self.tokens or job.token > self.tokens[-1]
            self.tokens.append(job.token)
            self.attempts += 1
            self.state, self.lease_until = "running", self.at + LEASE

    def _change(self, token: int, state: str) -> bool:
        return self.state == "running" and token == self.tokens[-1] and state != ""

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(self.tokens))
        if self._change(token, "running"):
            self.jobs.renew("a", token, lease_seconds=LEASE, now=later(self.at))
            self.lease_until = self.at + LEASE
        else:
            with pytest.raises(StaleClaim):
                self.jobs.renew("a", token, lease_seconds=LEASE, now=later(self.at))

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), retry=st.booleans())
    def fail(self, data: st.DataObject, *, retry: bool) -> None:
        token = data.draw(st.sampled_from(self.tokens))
        if self._change(token, "failed"):
            self.jobs.fail("a", token, SourceBusy("busy"), retry=retry, now=later(self.at))
            self.state = "queued" if retry and self.attempts < 4 else "failed"
        else:
            with pytest.raises(StaleClaim):
                self.jobs.fail("a", token, SourceBusy("busy"), retry=retry, now=later(self.at))

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(self.tokens))
        if self._change(token, "done"):
            self.jobs.finish("a", token, None, now=later(self.at))
            self.state = "done"
        else:
            with pytest.raises(StaleClaim):
                self.jobs.finish("a", token, None, now=later(self.at))

    @rule()
    def abandon(self) -> None:
        gone = self.jobs.abandon(later(self.at))
        spent = self.state == "running" and self.lease_until <= self.at and self.attempts >= 4
        assert bool(gone) == spent
        if spent:
            self.state = "failed"

    @invariant()
    def the_row_is_as_the_model_says(self) -> None:
        job = self.jobs.get("a")
        assert job is not None
        assert (job.state, job.attempts) == (self.state, self.attempts)
        free = self.state == "queued" or (self.state == "running" and self.lease_until <= self.at)
        assert bool(self.jobs.due(later(self.at))) == (free and self.attempts < 4)


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=40, stateful_step_count=25, deadline=None, derandomize=True)


def test_what_is_stored_is_plain_json(jobs: Jobs, tmp_path: Path) -> None:
    jobs.add("k", {"a": 1}, id="a", now=NOW)
    code = """
        import apsw, sys
        print(apsw.Connection(sys.argv[1]).execute("SELECT args FROM jobs").fetchone()[0])
    """
    out, _ = python(code, str(tmp_path / "metadata.db")).communicate(timeout=120)
    assert json.loads(out) == {"a": 1}
