from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from continuum_tasks.errors import KeyMissing, StorageUnreachable
from continuum_tasks.host.jobs import open_jobs

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_notes_come_back_in_order_once_and_go_with_their_job(tmp_path: Path) -> None:
    jobs = open_jobs(tmp_path / "metadata.db")
    job = jobs.add("create_backup", {}, now=NOW)
    other = jobs.add("create_backup", {}, now=NOW)
    for text in ("one", "two"):
        jobs.note(job.id, text)
    jobs.note(other.id, "elsewhere")
    first, second = jobs.notes(job.id)
    assert (first[1], second[1]) == ("one", "two")
    assert jobs.notes(job.id, after=first[0]) == [second]
    claimed = jobs.claim(job.id, "w", lease_seconds=60, now=NOW)
    assert claimed is not None
    jobs.finish(job.id, claimed.token, None, now=NOW)
    assert jobs.forget(NOW + timedelta(days=1)) == 1
    assert jobs.notes(job.id) == [] and len(jobs.notes(other.id)) == 1
    jobs.close()


def test_the_last_runs_of_a_kind_come_newest_first_without_what_is_open_or_a_part(tmp_path: Path) -> None:
    jobs = open_jobs(tmp_path / "metadata.db")
    for n, error in enumerate((KeyMissing("a"), None, StorageUnreachable("b"))):
        now = NOW + timedelta(minutes=n)
        job = jobs.add("create_backup", {}, now=now, database="memory", max_attempts=1)
        part = jobs.add("create_backup", {}, now=now, database="memory", max_attempts=1, parent_id=job.id)
        for one in (job, part):
            claimed = jobs.claim(one.id, "w", lease_seconds=60, now=now)
            assert claimed is not None
            if error is None:
                jobs.finish(one.id, claimed.token, None, now=now)
            else:
                jobs.fail(one.id, claimed.token, error, retry=False, now=now)
    jobs.add("create_backup", {}, now=NOW, database="memory")
    ended = jobs.ended("create_backup", database="memory", limit=9)
    assert [None if job.error is None else job.error.name for job in ended] == ["StorageUnreachable", None, "KeyMissing"]
    assert len(jobs.ended("create_backup", database="memory", limit=2)) == 2
    assert jobs.ended("create_backup", database="other", limit=2) == ()
    jobs.close()
