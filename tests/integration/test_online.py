"""restore --online under a capture and a service that go on."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from tests.support.capturing import PATIENT, a_host, capturing, settled, status, writing
from tests.support.cli import command
from tests.support.processes import until
from tests.support.sandbox import Sandbox

JUDGE = """
import json, sqlite3, sys
c = sqlite3.connect(sys.argv[1], timeout=30)
(first, last, n), = c.execute("SELECT min(id), max(id), count(*) FROM notes WHERE text LIKE 'note %'")
print(json.dumps([c.execute('PRAGMA integrity_check').fetchone()[0], n,
                  [row[0] for row in c.execute("SELECT text FROM notes WHERE text NOT LIKE 'note %'")]]))
"""


def judged(path: Path) -> tuple[str, int, list[str]]:
    """Look with another SQLite in another process: soundness, how many notes of the service, and the others."""
    done = subprocess.run([sys.executable, "-IS", "-c", JUDGE, str(path)], capture_output=True, text=True, check=True)
    sound, n_notes, others = json.loads(done.stdout)
    return str(sound), int(n_notes), list(others)


def commit_of(sandbox: Sandbox) -> int:
    found = status(sandbox)
    return 0 if found is None else found.commit


def test_a_captured_database_is_restored_online_and_its_capture_begins_a_new_timeline(tmp_path: Path) -> None:
    sandbox = a_host(tmp_path / "host")
    with closing(sqlite3.connect(sandbox.database)) as service, capturing(sandbox.config):
        assert until(lambda: settled(sandbox), seconds=PATIENT), status(sandbox)
        service.execute("INSERT INTO notes (text) VALUES ('good')")
        service.commit()
        assert until(lambda: settled(sandbox) and commit_of(sandbox) == 2, seconds=PATIENT), status(sandbox)
        before = status(sandbox)
        assert before is not None
        service.execute("UPDATE notes SET text = 'bad'")
        service.commit()
        target = ("--target", str(sandbox.database))
        with writing(sandbox.database) as writer:
            assert until(lambda: writer.n_rows > 20, seconds=PATIENT)
            commit = ("--commit", str(before.commit), "--timeline", before.timeline)
            done = command(sandbox, "backup", "restore", *commit, *target, "--online", "--local", "--format", "json").ok()
            n_then = writer.n_rows
            assert until(lambda: writer.n_rows > n_then + 20, seconds=PATIENT)
        assert done.json["online"]["n_pages_written"] > 0
        assert service.execute("SELECT text FROM notes WHERE text NOT LIKE 'note %'").fetchall() == [("good",)]
        sound, n_notes, others = judged(sandbox.database)
        assert (sound, others) == ("ok", ["good"]) and 20 < n_notes < writer.n_rows
        kept = judged(Path(done.json["quarantine"]) / sandbox.database.name)
        assert kept == ("ok", writer.n_rows - n_notes, ["bad"])  # to the last commit before it: none is lost

        def is_captured() -> bool:
            """Tell whether the newest commit that is durable is the live state: a status may be older than the last commits."""
            found = status(sandbox)
            if found is None or found.timeline == before.timeline or not settled(sandbox):
                return False
            copy, point = tmp_path / f"{found.commit}.db", ("--commit", str(found.commit), "--timeline", found.timeline)
            command(sandbox, "backup", "restore", *point, "--target", str(copy), "--overwrite", "--local").ok()
            return judged(copy) == ("ok", n_notes, ["good"])

        assert until(is_captured, seconds=PATIENT), status(sandbox)
        listed = command(sandbox, "backup", "history", "--format", "json").ok()
        assert "restore --online" in listed.out
        copy, point = tmp_path / "last.db", ("--commit", str(before.commit + 1), "--timeline", before.timeline)
        command(sandbox, "backup", "restore", *point, "--target", str(copy), "--local").ok()
        assert judged(copy) == ("ok", 0, ["bad"])
