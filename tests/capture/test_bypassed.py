"""Files of a captured database that were changed behind SQLite's locks: another timeline, and only states that were."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.capture import notebook as notebooks
from tests.capture import product
from tests.capture.notebook import Notebook, notebook
from tests.capture.product import Host, await_base, await_captured
from tests.support.processes import until

SUFFIXES = ("", "-wal", "-shm")


@pytest.fixture
def host(scratch: Path) -> Host:
    made = product.make(scratch / "h1")
    for suffix in SUFFIXES:
        _file(made, suffix).unlink(missing_ok=True)
    notebooks.make(made.database)
    return made


def _file(host: Host, suffix: str) -> Path:
    return host.database.with_name(host.database.name + suffix)


def _put_in_place(host: Host, copies: Path, suffixes: tuple[str, ...]) -> None:
    """Write copies over the files, as `cp` does: the files stay the same ones."""
    for suffix in suffixes:
        data = (copies / f"copy{suffix}").read_bytes()
        with _file(host, suffix).open("r+b") as file:
            file.write(data)
            file.truncate(len(data))


def _move_in_place(host: Host, copies: Path, suffixes: tuple[str, ...]) -> None:
    """Put copies in the place of the files, as `rsync` does."""
    for suffix in suffixes:
        (copies / f"copy{suffix}").replace(_file(host, suffix))


def _delete(host: Host, _: Path, suffixes: tuple[str, ...]) -> None:
    for suffix in suffixes:
        _file(host, suffix).unlink(missing_ok=True)


Change = Callable[[Host, Path, tuple[str, ...]], None]
CHANGES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "all three written back": (_put_in_place, SUFFIXES),
    "the database written over": (_put_in_place, ("",)),
    "the directory moved back": (_move_in_place, SUFFIXES),
    "-wal deleted": (_delete, ("-wal",)),
    "-shm deleted": (_delete, ("-shm",)),
    "-wal and -shm deleted": (_delete, ("-wal", "-shm")),
}


def _copied(host: Host, scratch: Path) -> Path:
    copies = scratch / "copies"
    copies.mkdir()
    for suffix in SUFFIXES:
        shutil.copyfile(_file(host, suffix), copies / f"copy{suffix}")
    return copies


def _copied_back(busy: Notebook) -> None:
    """Have all frames copied back, as soon as the pin of the capture lets it."""
    assert until(lambda: busy.tell("checkpoint PASSIVE") == "whole", seconds=60)


def _commits(busy: Notebook, kind: str, n_commits: int) -> int:
    """Commit, each time until SQLite does: it may not while its files are not what it knows."""
    label = 0
    for _ in range(n_commits):
        until(lambda: bool(_note(busy, kind)), seconds=60)
        label = max(busy.digests)
        time.sleep(0.1)
    return label


def _note(busy: Notebook, kind: str) -> int:
    made = busy.commit(kind)
    if not made:
        time.sleep(0.2)
    return made


@contextmanager
def _story(host: Host, scratch: Path, change: str, *, kind: str, stopped: bool) -> Iterator[tuple[Notebook, int]]:
    """Commit, take copies, commit, change the files, commit again; the capture runs at the end. Yields the last label."""
    act, suffixes = CHANGES[change]
    with notebook(host.database) as busy, host.captured() as agent:
        if suffixes != ("",):  # else it is copied before its log begins: what is written back is a state that was
            await_captured(host, _commits(busy, kind, 3))
        copies = _copied(host, scratch)
        await_captured(host, _commits(busy, kind, 4))
        if suffixes == ("",):
            _copied_back(busy)
        time.sleep(1.5)
        if stopped:
            agent.kill()
        if suffixes == ("",) and kind == "long":
            busy.tell("quit")  # its cache is of the file as it was: what it went on to write would be malformed
        act(host, copies, suffixes)
        if kind == "long" and suffixes != ("",) and act is not _put_in_place:
            time.sleep(0 if stopped else 1.5)
            busy.commit(kind)  # nobody but this connection sees it
            busy.tell("quit")
        if stopped:
            agent.restart()
        else:
            assert until(lambda: len(_timelines(host)) > 1, seconds=90), host.status()
        agent.wait_ready()
        assert until(lambda: host.status().get("state") == "running", seconds=90), host.status()
        last = _commits(busy, kind, 3)
        await_captured(host, last)
        await_base(host)
        yield busy, last
        agent.terminate()


def _timelines(host: Host) -> set[str]:
    return {one.timeline for one in host.stored()}


def _check_all(host: Host, busy: Notebook, target: Path) -> None:
    """Restore every commit that the history offers: another SQLite finds it sound, and as it was when it was committed."""
    for one in host.stored():
        if one.n not in busy.digests:
            assert one.resumed  # the state in which the first timeline began has no label
            continue
        said = host.continuum("backup", "restore", "--commit", one.number, "--timeline", one.timeline, "--target", target)
        assert said.code in (0, product.BackupNotFound.exit_code), said.err
        if said.code == 0:
            assert notebooks.judged(target) == ("ok", one.n, busy.digests[one.n]), one
        target.unlink(missing_ok=True)


@pytest.mark.proof
@pytest.mark.parametrize("kind", ["short", "long"])
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_behind_sqlite_is_a_hole_and_every_commit_offered_is_a_state_that_was(
    host: Host, scratch: Path, change: str, stopped: bool, kind: str
) -> None:
    with _story(host, scratch, change, kind=kind, stopped=stopped) as (busy, last):
        live = notebooks.judged(host.database)
        assert live == ("ok", last, busy.digests[last])
        made = host.continuum("backup", "create", "--strategy", "incremental", "--force", "--format", "json").ok().json
        assert made["status"] == "completed"
        target = scratch / "restored.db"
        host.continuum("backup", "restore", made["backup_id"], "--target", target, "--format", "json").ok()
        assert notebooks.judged(target) == live
        target.unlink()
    resumed = [one for one in host.stored() if one.resumed]
    # With the service stopped, too, an index is made again from the log, and a log that has all pages makes any file right.
    harmless = stopped and change in ("-shm deleted", "the database written over")
    assert len(resumed) == 2 or (harmless and len(resumed) == 1), resumed
    if not stopped:
        assert len({one.timeline for one in resumed}) == 2
    _check_all(host, busy, target)


@pytest.mark.slow
def test_a_change_that_no_rule_sees_is_found_by_the_next_proof(scratch: Path) -> None:
    """A byte of a page that is not in the log, changed so that not even the time of the file tells."""
    host = product.make(scratch / "h1", product.Options(capture="proof_every = 5s"))
    for suffix in SUFFIXES:
        _file(host, suffix).unlink(missing_ok=True)
    notebooks.make(host.database)
    with notebook(host.database) as busy, host.captured() as agent:
        await_captured(host, _commits(busy, "short", 3))
        await_base(host)
        before = host.continuum("backup", "create", "--strategy", "incremental", "--force", "--format", "json").ok().json
        proven = host.config.state_dir / "capture" / "main" / "standing.json"
        assert until(lambda: json.loads(proven.read_text())["proven_commit"] >= 4, seconds=90), host.status()
        assert len(_timelines(host)) == 1, "what is not changed is not doubted"
        _flip(host.database)
        await_captured(host, _commits(busy, "short", 1))
        made = host.continuum("backup", "create", "--strategy", "incremental", "--force", "--format", "json").ok().json
        assert until(lambda: len(_timelines(host)) > 1, seconds=120), host.status()
        assert until(lambda: host.status().get("state") == "running", seconds=90), host.status()
        await_base(host)
        found = host.continuum("backup", "health", "--format", "json")
        agent.terminate()
    assert "differs from what was captured" in found.out
    assert "critical" in found.out.lower()
    listed = {one["backup_id"]: one for one in host.continuum("backup", "list", "--format", "json").ok().json}
    assert listed[made["backup_id"]]["failed_at"] is not None
    assert listed[before["backup_id"]]["failed_at"] is None
    newest = max(listed.values(), key=lambda one: one["created_at"])
    assert newest["strategy"] == "full"
    target = scratch / "restored.db"
    host.continuum("backup", "restore", newest["backup_id"], "--target", target, "--format", "json").ok()
    assert notebooks.judged(target) == notebooks.judged(host.database)


def _flip(database: Path) -> None:
    """Change a letter in a row that no commit of the service touches."""
    status, data = database.stat(), database.read_bytes()
    at = data.index(b"b 300 b 300")
    with database.open("r+b") as file:
        file.seek(at)
        file.write(b"x")
    os.utime(database, ns=(status.st_atime_ns, status.st_mtime_ns))
