"""logs and audit: what is there is shown, what was changed is named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from continuum_tasks.host import audit
from tests.support.cli import PROGRAM
from tests.unit.cli.conftest import Call

ROOT = Path(__file__).resolve().parents[3]


def line(number: int, *, level: str = "info", age: timedelta = timedelta(0), **more: object) -> bytes:
    at = (datetime.now(UTC) - age).isoformat(timespec="milliseconds")
    fields = {"at": at, "level": level, "process": 7, "logger": "continuum_tasks.x", "event": f"event {number}", **more}
    return json.dumps(fields).encode() + b"\n"


@pytest.fixture
def log(site: Path) -> Path:
    path = site / "etc/log/backup.log"
    path.parent.mkdir(exist_ok=True)
    return path


def test_a_log_that_is_not_there_yet_is_no_error(call: Call, site: Path) -> None:
    done = call("backup", "logs", "--tail", "100")
    assert (done.code, done.out) == (0, "") and "nothing was logged yet" in done.err
    assert call("backup", "logs", "--format", "json").json == []


def test_level_since_and_tail_pick_lines(call: Call, log: Path) -> None:
    old, new = timedelta(hours=3), timedelta(minutes=5)
    log.with_name("backup.log.1").write_bytes(line(1, level="error", age=old) + line(2, age=old))
    os.utime(log.with_name("backup.log.1"), (time.time() - 9000, time.time() - 9000))
    log.write_bytes(line(3, level="warning", age=new) + line(4, level="critical", age=new) + line(5, age=new))

    def events(*words: str) -> list[str]:
        return [fields["event"][-1] for fields in call("backup", "logs", *words, "--format", "json").json]

    assert events() == ["1", "2", "3", "4", "5"]
    assert events("--tail", "4") == ["2", "3", "4", "5"]
    assert events("--level", "error") == ["1", "4"]
    assert events("--level", "error", "--since", "1h") == ["4"]
    assert events("--level", "error", "--tail", "1") == ["4"]
    assert events("--since", "1h", "--tail", "1") == ["5"]
    assert events("--since", "1m") == []


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:30Z"])
def test_the_first_instant_there_is_asks_for_everything(call: Call, log: Path, since: str) -> None:
    log.write_bytes(line(1))

    assert [fields["event"] for fields in call("backup", "logs", "--since", since, "--format", "json").json] == ["event 1"]


def test_lines_that_are_no_json_are_shown_as_they_are(call: Call, log: Path) -> None:
    odd = [
        b"Traceback (most recent call last):",
        b'{"at": NaN}',
        b"[" * 100_000,
        b"\xff\x1b[31m",
        b"7",
        b'{"at": 5, "event": {"a": 1}}',
    ]
    log.write_bytes(line(1) + b"\n".join(odd) + b"\n" + line(2, traceback="Traceback:\n  File x", level="error") + b"torn")
    done = call("backup", "logs", "--level", "error")
    assert done.code == 0, done.err
    assert "event 1" not in done.out and "\x1b" not in done.out
    assert all(
        text in done.out for text in ("Traceback (most", "[[[[", "\\x1b[31m", "event 2\n    Traceback:\n      File x", "torn")
    )
    assert call("backup", "logs", "--format", "json").json[1] == {
        "schema_version": 1,
        "unreadable": "Traceback (most recent call last):",
    }


def test_the_command_line_s_own_defects_are_in_it_as_errors(call: Call, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from continuum_tasks.cli.setup import config

    monkeypatch.setattr(config, "_load", lambda: 1 // 0)
    assert call("backup", "config", "list").code == 70
    found = call("backup", "logs", "--level", "error", "--since", "1h", "--format", "json").json
    assert [fields["event"] for fields in found] == ["unexpected error"] and "ZeroDivisionError" in found[0]["traceback"]


def test_following_shows_what_comes_over_a_rotation_and_ends_with_130(call: Call, site: Path, log: Path) -> None:
    log.write_bytes(line(1) + line(2)[:30])
    words = [*PROGRAM, "backup", "logs", "--follow", "--format", "json", "--level", "info"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=ROOT) as process:
        assert process.stdout is not None

        def event() -> str:
            return str(json.loads(process.stdout.readline())["event"])  # type: ignore[union-attr]

        try:
            assert event() == "event 1"
            with log.open("ab") as file:
                file.write(line(2)[30:] + line(3, level="debug") + line(4))
            assert [event(), event()] == ["event 2", "event 4"]
            log.rename(log.with_name("backup.log.1"))
            log.write_bytes(line(5))
            assert event() == "event 5"
        finally:
            process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=120)
    assert (process.returncode, rest) == (130, b""), said


def test_a_log_that_is_something_else_is_refused(call: Call, site: Path, log: Path) -> None:
    log.mkdir()
    assert call("backup", "logs").code == 3
    log.rmdir()
    os.mkfifo(log)
    assert call("backup", "logs").code == 3


def test_the_audit_tells_who_did_what(call: Call, site: Path, full: str) -> None:
    call("backup", "verify", full)
    call("backup", "hold", full, "--reason", "incident 4711")
    call("backup", "restore", full, "--target", "out.db")
    call("backup", "restore", full, "--target", "out.db")
    call("backup", "apply-retention")
    found = call("backup", "audit", "--since", "1h", "--format", "json").json
    assert found["intact"] is True
    told = [(event["action"], event["outcome"]) for event in found["events"]]
    assert told == [
        *(("init", "done"), ("create", "begun"), ("create", "done"), ("verify", "begun"), ("verify", "done"), ("hold", "done")),
        *(
            ("restore", "begun"),
            ("restore", "done"),
            ("restore", "begun"),
            ("restore", "TargetExists"),
            ("apply-retention", "done"),
        ),
    ]
    assert len({event["user"] for event in found["events"]}) == 1
    assert full in found["events"][2]["detail"] and found["events"][7]["subject"] == str(site / "out.db")
    shown = call("backup", "audit")
    assert shown.code == 0 and "incident" in shown.out and "none changed" in shown.err
    assert call("backup", "audit", "--since", "1s").code == 0


def test_work_that_is_stopped_is_on_record(call: Call, site: Path, full: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from continuum_tasks.verify import verify

    def stopped(*_: object, **__: object) -> object:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(verify, "verify_backup_chain", stopped)
    assert call("backup", "verify", full).code == 130
    *_, last = audit.read_events(site / "etc/state" / audit.FILE)
    assert last.event is not None and (last.event.action, last.event.outcome) == ("verify", "stopped")


def test_a_changed_line_is_named_and_exit_7(call: Call, site: Path, full: str) -> None:
    path = site / "etc/state" / audit.FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"create", b"verify") + lines[2])
    done = call("backup", "audit", "--since", "1s")
    assert done.code == 7 and f"{path}:2: was changed" in done.err
    found = call("backup", "audit", "--format", "json")
    assert found.code == 7 and found.json["intact"] is False and [b["line"] for b in found.json["broken"]] == [2, 3]
    path.write_bytes(lines[0] + lines[2])
    assert "2: does not follow from line 1" in call("backup", "audit").err
    path.unlink()
    assert call("backup", "audit").code == 0
    path.mkdir()
    done = call("backup", "audit")
    assert done.code == 1 and f"{path}: is no regular file" in done.err


def test_a_record_that_cannot_be_written_stops_no_restore(call: Call, site: Path, full: str) -> None:
    path = site / "etc/state" / audit.FILE
    path.unlink()
    path.mkdir()
    done = call("backup", "restore", full, "--target", "out.db")
    assert done.code == 0 and "audit.log: not written" in done.err
    assert (site / "out.db").exists()
