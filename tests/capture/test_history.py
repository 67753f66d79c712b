"""A long history, and the commands that find their way in it."""

from __future__ import annotations

import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from continuum_tasks.sample import oracle
from tests.capture import crew, expected, product, verdict
from tests.capture.product import Host, await_captured
from tests.capture.service import service
from tests.capture.sizes import N_COMMITS, N_RESTORES
from tests.support.cli import PROGRAM
from tests.support.processes import ROOT, environment

_BASE_SECONDS = 5.0
_MOST_SECONDS = 3600.0


class _Bases:
    """Makes an incremental backup every few seconds, so that no restore has to replay a hundred thousand commits."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._due = _BASE_SECONDS
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, elapsed: float) -> None:
        if elapsed < self._due or (self._process is not None and self._process.poll() is None):
            return
        words = [*PROGRAM, "backup", "create", "--strategy", "incremental"]
        self._process = subprocess.Popen(
            words, stdout=subprocess.DEVNULL, cwd=ROOT, env=environment(self._host.config, CONTINUUM_LOCAL="1")
        )
        self._due = elapsed + _BASE_SECONDS

    def wait(self) -> None:
        assert self._process is None or self._process.wait(timeout=60) == 0


@pytest.mark.sampled
def test_random_commits_out_of_a_long_history_restore_exactly(scratch: Path) -> None:
    host = product.make(scratch / "h1")
    plan = crew.Plan(page_size=4096, seconds=_MOST_SECONDS, seed=8, hostile=("checkpoint",), kill_writers=False, last=N_COMMITS)
    with host.captured() as agent:
        product.await_base(host)
        bases = _Bases(host)
        story = crew.run(host.database, plan, meanwhile=bases)
        bases.wait()
        agent.terminate()
    stored = host.stored()
    judged = verdict.judge(product.as_seen(stored), final=story.final, witnessed=story.witnessed)
    print(f"\n{judged}; {sum(path.stat().st_size for path in host.store.rglob('*.segment')) / 1e6:.1f} MB of segments")
    assert judged.is_sound, str(judged)
    assert story.final == N_COMMITS

    chosen = Random(11).sample([one for one in stored if not one.resumed], N_RESTORES)
    right = expected.hashes({one.n for one in chosen}, page_size=4096)
    began = time.monotonic()
    found = host.hashes_at([(one.timeline, one.number) for one in chosen], scratch / "restored.db")
    wrong = [one for one, sha256 in zip(chosen, found, strict=True) if sha256 != right[one.n]]
    print(f"{len(chosen)} commits restored and hashed, {(time.monotonic() - began) / len(chosen):.2f} s each")
    assert not wrong


def test_the_commit_of_a_deletion_is_found_and_the_state_one_commit_earlier_restored(scratch: Path) -> None:
    """Scenario 2 of the runbook with a recovery point of one commit."""
    host = product.make(scratch / "h1")
    target = scratch / "restored.db"
    with service(host.database) as busy, host.captured() as agent:
        busy.tell("hold")
        product.await_base(host)
        last_good = busy.commit(20)
        time.sleep(1.5)
        noticed = datetime.now(UTC)
        busy.tell("sql BEGIN IMMEDIATE; DELETE FROM notes; PRAGMA user_version = 21; COMMIT")
        time.sleep(1.5)
        busy.commit(5)
        await_captured(host, 26)
        agent.terminate()

    words = ("backup", "history", "--around", noticed.isoformat(), "--limit", 20, "--format", "json")
    listed = host.continuum(*words).ok().json["commits"]
    deletion = next(
        entry
        for entry in sorted(listed, key=lambda entry: int(entry["number"]))
        if datetime.fromisoformat(entry["observed_at"]) >= noticed
    )
    restore = ("backup", "restore", "--target", target, "--overwrite")
    assert host.continuum(*restore, "--commit", deletion["number"]).code == 0
    assert oracle.logical_hash(target).counts["notes"] == 0
    assert host.continuum(*restore, "--commit", deletion["number"] - 1).code == 0
    assert oracle.logical_hash(target).sha256 == expected.hashes([last_good], page_size=4096)[last_good]
    said = host.continuum(*restore, "--pitr", noticed.isoformat())
    assert said.code == 0, said.err
    assert str(deletion["number"] - 1) in said.err + said.out  # it says which commit it took
    assert oracle.logical_hash(target).sha256 == expected.hashes([last_good], page_size=4096)[last_good]


def test_a_time_inside_a_hole_is_refused_with_the_hole_s_edges(scratch: Path) -> None:
    host = product.make(scratch / "h1")
    with service(host.database) as busy, host.captured() as agent:
        product.await_base(host)
        await_captured(host, busy.commit(3))
        agent.kill()
        time.sleep(1.5)
        inside = datetime.now(UTC)
        busy.commit(2)
        time.sleep(1.5)
        agent.restart()
        agent.wait_ready()
        stored = await_captured(host, busy.commit(2))
        product.await_base(host)
        agent.terminate()
    hole = next(one for one in stored if one.resumed and one.number > 1)
    said = host.continuum("backup", "restore", "--pitr", inside.isoformat(), "--target", scratch / "restored.db")
    assert said.code != 0
    assert str(hole.number) in said.err
    assert str(hole.number - 1) in said.err
    assert not (scratch / "restored.db").exists()


def test_a_time_before_the_first_or_after_the_last_point_is_refused(scratch: Path) -> None:
    host = product.make(scratch / "h1")
    with service(host.database) as busy, host.captured() as agent:
        product.await_base(host)
        await_captured(host, busy.commit(3))
        agent.terminate()
    for when in ("2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"):
        said = host.continuum("backup", "restore", "--pitr", when, "--target", scratch / "restored.db")
        assert said.code != 0, when
        assert not (scratch / "restored.db").exists()


def test_a_restore_over_the_database_starts_a_timeline_and_the_old_one_stays_reachable(scratch: Path) -> None:
    host = product.make(scratch / "h1")
    with service(host.database) as busy, host.captured() as agent:
        product.await_base(host)
        stored = await_captured(host, busy.commit(6))
        third = next(one for one in stored if one.n == 3)
        time.sleep(1)
        at_rest = datetime.now(UTC)
        words = ("backup", "restore", "--commit", third.number, "--target", host.database, "--overwrite")
        said = host.continuum(*words)
        assert said.code == 0, said.err
        agent.wait_ready()
        product.await_base(host)
        again = await_captured(host, busy.commit(1), not_on=third.timeline)
        until_new = [one for one in again if one.timeline != third.timeline]
        assert [one.n for one in until_new][-2:] == [3, 4]
        last = busy.commit(4)
        await_captured(host, last)
        agent.terminate()
    said = host.continuum("backup", "restore", "--pitr", at_rest.isoformat(), "--target", scratch / "at-rest.db")
    assert said.code == 0, said.err
    assert oracle.logical_hash(scratch / "at-rest.db").sha256 == expected.hashes([6], page_size=4096)[6]
    old = next(one for one in stored if one.n == 6)
    assert [one.n for one in host.stored() if one.timeline == old.timeline] == [*range(7)]
    (found,) = host.hashes_at([(old.timeline, old.number)], scratch / "restored.db")
    assert found == expected.hashes([6], page_size=4096)[6]
