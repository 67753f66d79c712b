"""The demonstration: a live database is backed up, damaged and brought back, and an independent program says it is right.

Everything goes through the real command line, a real broker and real worker processes; `make demo` runs it. The proof
shares nothing with the product: the sample writer can replay its commits, so the state after commit N is made a second
time, from the start, by SQLite alone, and must have the same logical hash as what came back from the backup.
"""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / ".demo"
DATABASE, CONFIG, STORAGE = PLACE / "memory.db", PLACE / "etc", PLACE / "backups"
CONTINUUM = Path(sys.executable).with_name("continuum")
SIZE, SEED, RATE = "48M", 7, 40
console = Console(highlight=False)


def main() -> int:
    """Run the demonstration; 0 when every step did what it says."""
    began = time.monotonic()
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(mode=0o700)
    with _stack_after_setup():
        with _writer():
            ids = _make_backups()
            _show("what there is now", "backup", "list")
            _step("prove the newest one: restore it to scratch, check it, store the verdict")
            _continuum("backup", "verify", ids[-1], "--no-local")
            _step("restore the full one elsewhere while the service goes on committing")
            _continuum("backup", "restore", ids[0], "--target", str(PLACE / "elsewhere.db"), "--verify", "--no-local")
        _prove(PLACE / "elsewhere.db")
        lost_after = _damage()
        _step("bring it back: the damaged file goes to quarantine, the proven one takes its place")
        _continuum("backup", "restore", "--latest", "--target", str(DATABASE), "--overwrite", "--verify", "--no-local")
        _prove(DATABASE)
        _continuum("backup", "compare-counts", ids[-1], str(DATABASE))
        console.print(f"  commits after the last backup are lost: {lost_after - _last_commit(DATABASE)} of {lost_after}")
        _step("the service goes on, on the restored database")
        with _writer():
            time.sleep(1)
            _create("incremental")
            _step("from now on each commit is captured: it can be restored by itself")
            _continuum("backup", "create", "--strategy", "continuous")
            time.sleep(2)
        _undo_a_deletion()
        _show("what there is now", "backup", "list", "--verified-only")
    took = time.monotonic() - began
    console.print(f"\n[bold green]demo: success[/] in {took:.0f} s; look around in {PLACE.relative_to(ROOT)}/")
    return 0


@contextmanager
def _stack_after_setup() -> Iterator[None]:
    _step(f"make a CONTINUUM database of {SIZE} in WAL mode, and keep a copy of the start for the proof")
    _sample("generate", DATABASE, "--size", SIZE, "--seed", str(SEED), "--journal-mode", "wal")
    shutil.copyfile(DATABASE, PLACE / "start.db")
    _step("make a configuration, a key and a storage")
    _run(str(CONTINUUM), "init", "--config-dir", CONFIG, "--database", DATABASE, "--storage", STORAGE, "--yes")
    _step("start broker, worker pools, beat and Flower")
    log = PLACE / "up.log"
    with log.open("wb") as out:
        stack = subprocess.Popen([str(CONTINUUM), "--config-dir", str(CONFIG), "up"], stdout=out, stderr=out)
    try:
        _await_ready(stack, log)
        yield
    finally:
        stack.send_signal(signal.SIGINT)
        stack.wait(60)


def _await_ready(stack: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        lines = log.read_text().splitlines()
        if "ready" in lines:
            console.print("\n".join(f"  {line}" for line in lines), style="dim")
            return
        if stack.poll() is not None:
            break
        time.sleep(0.1)
    sys.exit(f"the stack did not come up:\n{log.read_text()}")


@contextmanager
def _writer() -> Iterator[None]:
    """Commit like the service does until the context ends."""
    _step(f"the service commits {RATE} times a second from now on")
    command = [sys.executable, "-m", "continuum_tasks.sample", "write", str(DATABASE), "--forever", "--rate", str(RATE)]
    with (PLACE / "writer.log").open("ab") as log:
        writer = subprocess.Popen([*command, "--seed", str(SEED)], cwd=ROOT, stdout=log, stderr=log)
    try:
        yield
        if writer.poll() is not None:
            sys.exit(f"the writer stopped: {(PLACE / 'writer.log').read_text()[-500:]}")
    finally:
        writer.terminate()
        writer.wait(30)


def _make_backups() -> list[str]:
    ids = []
    for strategy in ("full", "incremental", "differential", "incremental"):
        time.sleep(2)
        ids.append(_create(strategy))
    return ids


def _create(strategy: str) -> str:
    _step(f"back it up: {strategy}")
    _continuum("backup", "create", "--strategy", strategy, "--no-local")
    newest: dict[str, Any] = json.loads(_output("backup", "list", "--limit", "1", "--format", "json"))[0]
    return str(newest["backup_id"])


def _damage() -> int:
    """Stop the service, as the runbook says, and overwrite a part of the file; returns the last commit's number."""
    last = _last_commit(DATABASE)
    _step("the service stops; a part of the file is overwritten")
    with DATABASE.open("r+b") as file:
        file.seek(4096 * 300)
        file.write(b"\xde\xad\xbe\xef" * 64 * 1024)
    with sqlite3.connect(DATABASE) as connection:
        try:
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        except sqlite3.DatabaseError as err:
            found = str(err)
    connection.close()
    console.print(f"  integrity_check: [red]{str(found).splitlines()[0]}[/]")
    if found == "ok":
        sys.exit("the damage did no harm: the demonstration would prove nothing")
    return last


def _undo_a_deletion() -> None:
    """Delete rows as somebody might in error, find that very commit, and restore the state one commit earlier."""
    last = _newest_commit(after=0)
    _step("somebody deletes all that the service had to say")
    connection = sqlite3.connect(DATABASE)
    with connection:
        connection.execute("DELETE FROM auto_messages")
    connection.close()
    deleted = _newest_commit(after=last)
    _continuum("backup", "history", "--limit", "4")
    _step(f"the deletion is commit {deleted}: restore the state one commit earlier")
    target = PLACE / "before-the-deletion.db"
    _continuum("backup", "restore", "--commit", str(deleted - 1), "--target", str(target), "--verify", "--no-local")
    _prove(target)


def _newest_commit(*, after: int) -> int:
    """Return the number of the newest commit in the storage once there is one after `after` and none more comes."""
    found = [-1]
    for _ in range(200):
        listed = json.loads(_output("backup", "history", "--limit", "1", "--format", "json"))
        found.append(int(listed["commits"][0]["number"]))
        if found[-1] > after and found[-1] == found[-2]:
            return found[-1]
        time.sleep(1.2)
    sys.exit(f"no commit after {after} came to the storage")


def _prove(restored: Path) -> None:
    """Make the state after the restored file's last commit again from the start, and compare logical hashes."""
    n_commits = _last_commit(restored) - _last_commit(PLACE / "start.db")
    _step(f"prove {restored.name}: replay {n_commits} commits from the start and compare")
    replayed = PLACE / "replayed.db"
    for suffix in ("", "-wal", "-shm"):
        Path(f"{replayed}{suffix}").unlink(missing_ok=True)
    shutil.copyfile(PLACE / "start.db", replayed)
    if n_commits:
        _sample("write", replayed, "--commits", str(n_commits), "--rate", "100000", "--seed", str(SEED))
    hashes = [json.loads(_sample("oracle", path))["sha256"] for path in (restored, replayed)]
    if hashes[0] != hashes[1]:
        sys.exit(f"{restored} is not the state after commit {n_commits}: {hashes}")
    console.print(f"  [green]the same[/]: {hashes[0][:32]}...")


def _last_commit(path: Path) -> int:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return int(connection.execute("SELECT coalesce(max(sequence), 0) FROM thinking_snapshots").fetchone()[0])
    finally:
        connection.close()


def _sample(verb: str, path: Path, *options: str) -> str:
    return _run(sys.executable, "-m", "continuum_tasks.sample", verb, path, *options)


def _show(title: str, *words: str) -> None:
    _step(title)
    _continuum(*words)


def _continuum(*words: str) -> None:
    console.print(f"  $ continuum {' '.join(words).replace(str(PLACE), '.demo')}", style="cyan")
    done = subprocess.run([str(CONTINUUM), "--config-dir", str(CONFIG), *words], cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(f"continuum {' '.join(words)} ended with exit code {done.returncode}")


def _output(*words: str) -> str:
    return _run(str(CONTINUUM), "--config-dir", CONFIG, *words)


def _run(*words: str | Path) -> str:
    done = subprocess.run([str(word) for word in words], cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))} ended with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _step(text: str) -> None:
    console.print(f"\n[bold]{text}[/]")


if __name__ == "__main__":
    sys.exit(main())
