"""`test-restore` and `drill`: what they prove, what they say, and that a drill can fail."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from shlex import quote

import pytest

from tests.support.cli import PROGRAM
from tests.unit.cli.calls import create, flip
from tests.unit.cli.conftest import Call

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
CHECK = "import os, sqlite3; c = sqlite3.connect(os.environ['CONTINUUM_DRILL_DATABASE']); print(*c.execute('{}'))"


def configure(site: Path, *lines: str) -> None:
    path = site / "etc" / "backup.conf"
    text = path.read_text()
    for line in lines:
        key = line.partition(" =")[0]
        text = re.sub(rf"^{key} =.*$", lambda _, line=line: line, text, flags=re.M) if f"\n{key} =" in text else text
        text = text if line in text else text.replace("\n[drill]\n", f"\n[drill]\n{line}\n")
    path.write_text(text)


def python(code: str) -> str:
    return f"drill_command = {quote(sys.executable)} -c {quote(code)}"


def log_lines(site: Path) -> list[str]:
    path = site / "etc/log/dr-drills.log"
    return path.read_text().splitlines() if path.exists() else []


def scratch(site: Path) -> list[Path]:
    return list((site / "etc/tmp").glob("*"))


def records(site: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text())["body"]["value"] for path in sorted((site / "store/drills").rglob("*.json"))]


def test_a_test_restore_proves_measures_every_phase_and_makes_the_backup_verified(call: Call, site: Path, full: str) -> None:
    done = call("backup", "test-restore", "--latest", "--format", "json")

    assert done.code == 0, done.err
    assert (done.json["backup_id"], done.json["passed"], done.json["kind"]) == (full, True, "test-restore")
    assert [phase["phase"] for phase in done.json["phases"]] == ["plan", "fetch", "sync", "prove", "check"]
    assert done.json["rto_seconds"] == pytest.approx(sum(phase["seconds"] for phase in done.json["phases"]), abs=0.1)
    assert all(phase["n_bytes"] >= 1024 * 1024 for phase in done.json["phases"][1:])
    assert [b["backup_id"] for b in call("backup", "list", "--verified-only", "--format", "json").json] == [full]
    assert [record["kind"] for record in records(site)] == ["test-restore"]
    assert not scratch(site) and not log_lines(site)


def test_test_restore_needs_exactly_one_backup(call: Call, site: Path, full: str) -> None:
    assert call("backup", "test-restore").code == 2
    assert call("backup", "test-restore", full, "--latest").code == 2
    assert call("backup", "test-restore", full).code == 0


def test_a_drill_that_holds_says_success_once_keeps_its_record_and_leaves_no_scratch(call: Call, site: Path, full: str) -> None:
    question = "SELECT count(*) > 0 FROM entities"
    configure(site, python(CHECK.format(question)), f"sql.rows = {question}")

    done = call("backup", "drill", full, "--format", "json")

    assert done.code == 0, done.err
    (line,) = log_lines(site)
    assert re.fullmatch(rf"DR Drill 20\S+Z: SUCCESS {full} \(database memory, storage local, host h1\): ready after .*", line)
    assert [phase["phase"] for phase in done.json["phases"]] == ["plan", "fetch", "sync", "prove", "check", "sql", "command"]
    assert Path(done.json["output"]).read_text() == "(1,)\n"
    assert [stat.S_IMODE(Path(done.json[name]).stat().st_mode) for name in ("output", "log")] == [0o600, 0o600]
    assert [(record["passed"], record["kind"]) for record in records(site)] == [(True, "drill")]
    assert done.json["rto_seconds"] < sum(phase["seconds"] for phase in done.json["phases"])  # its own checks come after
    assert not scratch(site)


def test_the_command_gets_the_restored_database_its_name_and_its_backup_and_no_shell(call: Call, site: Path, full: str) -> None:
    said = "*(os.environ['CONTINUUM_DRILL_' + key] for key in ('NAME', 'BACKUP_ID'))"
    configure(site, python(f"import os, sys; print(sys.argv[1:], os.getcwd(), {said})") + " '$HOME;' *")

    done = call("backup", "drill", "--format", "json")

    assert Path(done.json["output"]).read_text() == f"['$HOME;', '*'] {site}/etc memory {full}\n"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([python("import sys; print('no rows'); sys.exit(3)")], "the command exited with 3"),
        ([python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")], "the command was killed by SIGSEGV"),
        ([python("import os; os.kill(os.getpid(), 40)")], "the command was killed by signal 40"),
        (["drill_command = /no/such/program"], "cannot be run: No such file or directory"),
        ([python("import time; time.sleep(60)"), "drill_time_limit = 1s"], "the command took longer than 1 s"),
        (["sql.empty = SELECT count(*) = 0 FROM entities"], "sql.empty: answers (0,)"),
        (["sql.memory.gone = SELECT 1 FROM no_such_table"], "sql.gone: no such table: no_such_table"),
        (["sql.ids = SELECT id FROM entities ORDER BY id LIMIT 1"], "sql.ids: answers with a row of a table"),
    ],
)
def test_a_drill_whose_checks_fail_says_failed_and_why_and_exits_7(
    call: Call, site: Path, full: str, lines: list[str], reason: str
) -> None:
    configure(site, *lines)

    done = call("backup", "drill", full)

    assert done.code == 7
    (line,) = log_lines(site)
    assert f": FAILED {full} " in line and reason in line and "SUCCESS" not in line
    assert reason in done.err
    (record,) = records(site)
    assert record["passed"] is False and reason in str(record["findings"])
    assert not scratch(site)
    assert call("backup", "list", "--verified-only", "--format", "json").json  # it restores: that much was proven


def test_a_drill_of_a_damaged_backup_fails_names_the_object_and_is_a_bad_verdict(call: Call, site: Path, full: str) -> None:
    configure(site, python(f"open({str(site / 'ran')!r}, 'w')"))
    chunk = next((site / "store/layers").rglob("*.chunk"))
    flip(chunk, chunk.stat().st_size // 2)

    done = call("backup", "drill", full)

    assert done.code == 7
    (line,) = log_lines(site)
    assert ": FAILED " in line and chunk.name in line
    assert not (site / "ran").exists()
    assert call("backup", "list", "--format", "json").json[0]["failed_at"] is not None
    assert not scratch(site)


def test_a_drill_whose_storage_is_gone_is_a_line_in_the_log_and_in_the_catalog(call: Call, site: Path, full: str) -> None:
    call("backup", "list")
    (site / "store").rename(site / "elsewhere")

    assert call("backup", "drill", full).code != 0

    (line,) = log_lines(site)
    assert ": FAILED " in line


def test_a_drill_whose_record_cannot_be_stored_is_no_success(call: Call, site: Path, full: str) -> None:
    (site / "store/drills").write_text("in the way")
    assert call("backup", "drill", full).code != 0
    configure(site, python("import sys; sys.exit(3)"))
    assert call("backup", "drill", full).code == 7

    first, second = log_lines(site)
    assert f": FAILED {full}: ended before its end: " in first
    assert f": FAILED {full} " in second and second.count(full) == 1 and ": the command exited with 3" in second


def test_everything_the_command_started_ends_with_it(call: Call, site: Path, full: str) -> None:
    pid = site / "pid"
    started = f"import subprocess; p = subprocess.Popen(['sleep', '60']); open({str(pid)!r}, 'w').write(str(p.pid))"
    configure(site, python(started))

    assert call("backup", "drill", full).code == 0

    with pytest.raises(ProcessLookupError):
        for _ in range(300):
            os.kill(int(pid.read_text()), 0)
            time.sleep(0.1)


def test_a_log_that_is_a_pipe_nobody_reads_stops_the_drill_too(call: Call, site: Path, full: str) -> None:
    os.mkfifo(site / "pipe")
    configure(site, f"drill_log = {site}/pipe")

    assert call("backup", "drill", full).code == 3


def test_an_unwritable_log_stops_the_drill_before_any_work(call: Call, site: Path, full: str) -> None:
    configure(site, f"drill_log = {site}/memory.db/x.log")

    done = call("backup", "drill", full)

    assert done.code == 3 and "drill_log" in done.err
    assert not records(site)


def test_drills_go_round_all_backups_before_one_comes_twice(call: Call, site: Path, full: str) -> None:
    ids = {full, create(call, "incremental"), create(call, "incremental")}

    assert {call("backup", "drill", "--random", "--format", "json").json["backup_id"] for _ in range(3)} == ids
    assert len(log_lines(site)) == 3


def test_drill_options_that_contradict_each_other_are_refused(call: Call, site: Path, full: str) -> None:
    assert call("backup", "drill", full, "--random").code == 2
    assert call("backup", "drill", full, "--database", "memory").code == 2
    assert call("backup", "drill", "--database", "other").code == 8


def test_people_see_how_long_each_phase_took(call: Call, site: Path, full: str) -> None:
    done = call("backup", "drill")

    assert f"picked: {full}" in done.err
    assert "everything held" in done.out and "ready after" in done.out
    assert "dr-drills.log" in "".join(done.out.split())  # a long path is wrapped
    assert max(map(len, done.out.splitlines())) <= 100


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_drill_that_is_killed_never_says_success_and_its_scratch_goes(
    call: Call, site: Path, full: str, sent: signal.Signals
) -> None:
    """By SIGTERM at once, and by SIGKILL with the next run that needs scratch once the leftover is a minute old."""
    started = site / "started"
    configure(site, python(f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(60)"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*PROGRAM, "backup", "drill", full],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (started.exists() and started.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    command = int(started.read_text())
    process.send_signal(sent)
    process.wait(120)
    with pytest.raises(ProcessLookupError):
        for _ in range(300):
            os.kill(command, 0)
            time.sleep(0.1)

    assert not [line for line in log_lines(site) if "SUCCESS" in line]
    if sent is signal.SIGTERM:
        assert len(log_lines(site)) == 1 and ": FAILED " in log_lines(site)[0]
    else:
        (left,) = scratch(site)
        os.utime(left, (0, 0))
        assert call("backup", "verify", full).code == 0
    assert not scratch(site)
