"""The commands around capture where no process captures, and what they say of one that does."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from continuum_tasks.capture.state import fence
from continuum_tasks.capture.state.environment import CAPTURE
from continuum_tasks.capture.state.status import CaptureHeartbeat, CaptureState, CaptureStatus, write_heartbeat, write_status
from continuum_tasks.cli.main import cli
from continuum_tasks.process import worker_id
from continuum_tasks.units import microseconds
from tests.unit.cli.conftest import Call

pytestmark = pytest.mark.slow

TIMELINE = "timeline-20261126-170000-0011aabb"


def now_us() -> int:
    return microseconds(datetime.now(UTC))


def a_status(**other: object) -> CaptureStatus:
    """A database that is captured by this very process, and all is well."""
    now = now_us()
    words: dict[str, object] = {
        **{
            "database": "memory",
            "state": CaptureState.RUNNING,
            "detail": "capture begins",
            "trouble": "",
            "worker": worker_id("h1"),
        },
        **{"storage": "local", "timeline": TIMELINE, "commit": 17, "observed_us": now, "durable_commit": 17},
        **{"watched_until_us": now, "settled_monotonic_ns": 5, "lag_seconds": 0.9, "lag_p50_seconds": 0.5},
        **{"lag_p95_seconds": 0.8, "wal_bytes": 4096, "wal_alarm": False, "spool_bytes": 0, "spool_segments": 0, "n_pins": 1},
        **{"n_holes": 0, "base_after": 0, "shipped_bytes": 9000, "n_requests": 4, "source": "1:2", "updated_us": now},
    }
    return CaptureStatus(**{**words, **other})  # type: ignore[arg-type]


def put(site: Path, status: CaptureStatus, *, silent_seconds: float = 0.0) -> None:
    """Write what a process that captures would, as this one."""
    state = site / "etc" / "state" / CAPTURE
    (state / status.database).mkdir(parents=True, exist_ok=True)
    write_status(state / status.database, status)
    write_heartbeat(state, CaptureHeartbeat(worker=worker_id("h1"), at_us=now_us() - round(silent_seconds * 1_000_000)))


def switch_on(site: Path) -> None:
    conf = site / "etc" / "backup.conf"
    conf.write_text(conf.read_text().replace("continuous = no\n", "continuous = yes\n"))


def continuous(site: Path) -> list[str]:
    return [line for line in (site / "etc" / "backup.conf").read_text().splitlines() if line.startswith("continuous")]


@pytest.fixture
def captured(site: Path) -> Path:
    switch_on(site)
    put(site, a_status())
    return site


def test_a_host_where_nothing_is_captured_says_how_it_begins(call: Call, site: Path) -> None:
    done = call("backup", "capture", "status")
    assert (done.code, done.out) == (0, "") and "--strategy continuous" in done.err


def test_a_wanted_database_without_a_process_is_an_error_that_names_the_remedy(call: Call, site: Path) -> None:
    done = call("backup", "create", "--strategy", "continuous", "--format", "json")
    assert done.code == 11
    assert done.json["error"]["message"] == "database memory: switched on, but no process captures on this host"
    assert "continuum up" in done.json["error"]["hint"] and "capture run" in done.json["error"]["hint"]
    assert continuous(site) == ["continuous = yes"]
    status = call("backup", "capture", "status", "--format", "json")
    assert status.code == 1
    assert (status.json[0]["wanted"], status.json[0]["state"], status.json[0]["commit"]) == (True, "stopped", None)
    assert status.json[0]["troubles"] == ["no process captures on this host"]


def test_no_wait_switches_on_and_only_warns_without_a_process(call: Call, site: Path) -> None:
    done = call("backup", "create", "--strategy", "continuous", "--no-wait", "--format", "json")
    assert done.code == 0 and done.json == {"schema_version": 1, "database": "memory", "changed": True, "fence": None}
    assert "warning: no process captures on this host" in done.err
    again = call("backup", "create", "--strategy", "continuous", "--no-wait")
    assert again.out == "database memory: switched on already\n"


def test_a_journal_database_is_told_of_wal_mode(call: Call, site: Path) -> None:
    done = call("backup", "create", "--strategy", "continuous", "--no-wait")
    assert "at most one in 15 s" in done.err and "continuum backup enable-wal memory" in done.err


@pytest.mark.parametrize("word", ["--profile", "--debug", "--force", "--local", "--priority=high", "--storage=local"])
def test_words_that_mean_nothing_beside_continuous_are_refused(call: Call, site: Path, word: str) -> None:
    done = call("backup", "create", "--strategy", "continuous", word)
    assert done.code == 2 and continuous(site) == ["continuous = no"]


@pytest.mark.parametrize("content", [None, b"no database at all, only some text" * 40])
def test_what_cannot_be_captured_is_refused_before_anything_changes(call: Call, site: Path, content: bytes | None) -> None:
    (site / "memory.db").unlink()
    if content is not None:
        (site / "memory.db").write_bytes(content)
    before = (site / "etc" / "backup.conf").read_bytes()
    done = call("backup", "create", "--strategy", "continuous")
    assert done.code == 4 and (site / "etc" / "backup.conf").read_bytes() == before


def test_create_prints_timeline_commit_and_lag_of_one_that_is_captured(call: Call, captured: Path) -> None:
    done = call("backup", "create", "--strategy", "continuous")
    assert done.code == 0, done.err
    assert TIMELINE in done.out and "17, seen " in done.out and "0.5/0.8 s" in done.out
    found = call("backup", "create", "--strategy", "continuous", "--format", "json").json
    assert (found["timeline"], found["commit"], found["changed"], found["fence"]) == (TIMELINE, 17, False, None)


def test_a_fence_is_taken_down_with_a_line_in_the_audit_log(call: Call, captured: Path) -> None:
    directory = captured / "etc" / "state" / CAPTURE / "memory"
    fence.put_up(directory, "another host captures this timeline")
    done = call("backup", "create", "--strategy", "continuous", "--format", "json")
    assert done.code == 0 and done.json["fence"] == "another host captures this timeline"
    assert not fence.is_up(directory) and "a new timeline" in done.err
    events = call("backup", "audit", "--format", "json").json["events"]
    assert [(e["action"], e["subject"]) for e in events if e["action"] == "new-timeline"] == [("new-timeline", "memory")]


def test_one_capture_is_shown_in_full_and_in_json_with_every_field(call: Call, captured: Path) -> None:
    shown = call("backup", "capture", "status")
    assert shown.code == 0 and shown.err == ""
    for text in (TIMELINE, "running: capture begins", "17 in local", "0.5/0.8 s", "4.0 KiB", "pins", "holes", "watched until"):
        assert text in shown.out
    (found,) = call("backup", "capture", "status", "memory", "--format", "json").json
    missing = {name.replace("_us", "") for name in CaptureStatus.__slots__} - {key.replace("_at", "") for key in found}  # type: ignore[attr-defined]
    assert missing == set()
    assert found["troubles"] == [] and 0 <= found["rpo_seconds"] < 60
    assert datetime.fromisoformat(found["observed_at"]).tzinfo is not None


def test_several_captures_are_a_table_no_wider_than_a_terminal(call: Call, captured: Path) -> None:
    conf = captured / "etc" / "backup.conf"
    names = [f"some-database-{letter}" for letter in "abc"]
    conf.write_text(
        conf.read_text() + "".join(f"\n[database:{name}]\npath = {captured}/{name}.db\ncontinuous = yes\n" for name in names)
    )
    put(
        captured,
        a_status(database=names[0], wal_bytes=300 << 20, wal_alarm=True, commit=123_456_789, durable_commit=123_456_700),
    )
    shown = call("backup", "capture", "status")
    assert shown.code == 1
    assert max(len(line) for line in shown.out.splitlines()) <= 100
    assert "some-database-a  running  123456789" in shown.out and "300.0 MiB !" in shown.out
    assert "warning: database some-database-a: its -wal has 314572800 bytes" in shown.err
    assert "warning: database some-database-c: its capture has not begun yet" in shown.err


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"state": CaptureState.WAITING, "detail": "key is not there"}, "waiting: key is not there"),
        ({"state": CaptureState.FENCED, "detail": "another host captures this timeline"}, "fenced: another host"),
        ({"trouble": "not shipped: storage away"}, "not shipped: storage away"),
        ({"spool_bytes": 5 << 30}, "more than spool_limit_bytes"),
        ({"wal_alarm": True}, "more than wal_alarm_bytes"),
    ],
)
def test_what_is_wrong_with_a_wanted_capture_is_exit_code_1(
    call: Call, captured: Path, other: dict[str, object], said: str
) -> None:
    put(captured, a_status(**other))
    done = call("backup", "capture", "status")
    assert done.code == 1 and said in done.err


def test_a_process_that_has_been_silent_for_long_counts_as_none(call: Call, captured: Path) -> None:
    put(captured, a_status(), silent_seconds=90.0)
    done = call("backup", "capture", "status")
    assert done.code == 1 and "has not reported for 90 s" in done.err


def test_a_capture_whose_process_is_gone_is_stopped(call: Call, captured: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        parts = worker_id("h1").rsplit("/", 2)
        worker = f"{parts[0]}/{ended.pid}/1"
    put(captured, replace(a_status(), worker=worker))
    done = call("backup", "capture", "status", "--format", "json")
    assert done.code == 1 and done.json[0]["state"] == "stopped" and done.json[0]["rpo_seconds"] is None


def test_what_nobody_wants_captured_is_no_error(call: Call, site: Path) -> None:
    put(site, a_status(state=CaptureState.STOPPED, detail="not wanted any more"))
    done = call("backup", "capture", "status")
    assert done.code == 0 and "stopped: not wanted any more" in done.out


def test_stop_switches_off_and_says_that_commits_are_no_longer_captured(call: Call, captured: Path) -> None:
    put(captured, a_status(state=CaptureState.STOPPED, detail="stopped", spool_segments=3, spool_bytes=3 << 20))
    done = call("backup", "capture", "stop")
    assert done.code == 0 and continuous(captured) == ["continuous = no"]
    assert (
        "no longer captured" in done.out and f"17 on {TIMELINE}" in done.out and "3 segments with 3.0 MiB wait here" in done.err
    )
    again = call("backup", "capture", "stop", "--format", "json")
    assert again.code == 0 and again.json["changed"] is False and again.json["wanted"] is False


def test_an_unknown_database_is_a_usage_error(call: Call, site: Path) -> None:
    for words in (["capture", "status", "other"], ["capture", "stop", "--database", "other"]):
        assert call("backup", *words).code == 2


def test_the_names_of_databases_are_completed(call: Call, site: Path) -> None:
    found = ShellComplete(cli, {}, "continuum", "_CONTINUUM_COMPLETE").get_completions(["backup", "capture", "status"], "mem")
    assert [item.value for item in found] == ["memory"]
