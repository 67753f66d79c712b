from __future__ import annotations

import json
from pathlib import Path

from continuum_tasks.cli.main import run_command
from tests.unit.cli.conftest import Call

PHASES = ["stage", "plan", "hash", "compress", "seal", "upload", "check", "count", "commit"]


def setting(site: Path, text: str) -> None:
    path = site / "etc/backup.conf"
    path.write_text(path.read_text().replace("min_interval = never", text))


def test_profile_prints_every_phase_and_the_manifest_keeps_all_but_the_last(call: Call, site: Path) -> None:
    made = call("backup", "create", "--strategy", "full", "--profile", "--format", "json").json
    assert [cost["phase"] for cost in made["profile"]] == PHASES
    assert all(cost["seconds"] >= 0 for cost in made["profile"])
    by_phase = {cost["phase"]: cost["n_bytes"] for cost in made["profile"]}
    assert by_phase["compress"] == by_phase["hash"] == by_phase["stage"] == made["original_size_bytes"]
    assert by_phase["upload"] == by_phase["seal"] == made["stored_size_bytes"]
    manifest = next((site / "store").rglob(f"manifests/*/{made['backup_id']}.json"))
    stored = json.loads(manifest.read_text())["body"]["value"]
    assert stored["profile"] == made["profile"][:-1]
    assert dict(stored["row_counts"])["messages"] > 0 and len(stored["schema_digest"]) == 64


def test_profile_is_a_table_for_people_and_absent_unless_asked_for(call: Call, site: Path) -> None:
    shown = call("backup", "create", "--strategy", "full", "--profile").out
    assert [line.split()[0] for line in shown.splitlines() if line.split() and line.split()[0] in PHASES] == PHASES
    assert max(map(len, shown.splitlines())) <= 100
    assert "profile" not in call("backup", "create", "--strategy", "full", "--format", "json").json


def test_debug_says_on_standard_error_and_in_the_log_what_was_decided_and_why(call: Call, site: Path, full: str) -> None:
    done = call("backup", "create", "--strategy", "incremental", "--debug", "--format", "json")
    assert done.json["parent_id"] == full
    steps = [line.partition(" s: ")[2] for line in done.err.splitlines() if line.startswith("debug ")]
    assert steps[0].startswith(f"source {site / 'memory.db'}: ")
    assert steps[1] == "the database is copied: its commits are not captured"
    assert steps[2] == "the copy stands on no timeline: its commits are not captured"
    assert f"incremental, parent {full} (builds on {full}), key backup-key-v1" in steps[3]
    assert steps[4].startswith("0 of ") and "pages are stored" in steps[4]
    assert "check: nothing wrong; pages take" in steps[-1] and steps[-1].endswith("no anomaly")
    lines = [json.loads(line) for line in (site / "etc/log/backup.log").read_text().splitlines()]
    assert [line["event"].partition(": ")[2] for line in lines] == steps
    assert {"at", "level", "process", "logger", "event"} == set(lines[0])


def test_debug_shows_each_chunk(call: Call, site: Path) -> None:
    path = site / "etc/backup.conf"
    path.write_text(path.read_text().replace("chunk_bytes = 32M", "chunk_bytes = 256K"))
    done = call("backup", "create", "--strategy", "full", "--debug")
    assert all(f"chunk {n}: 64 pages, 262144 bytes became" in done.err for n in (1, 2, 3, 4))


def test_a_log_that_cannot_be_written_is_said_once_and_does_not_stop_it(call: Call, site: Path) -> None:
    (site / "etc/log").mkdir(exist_ok=True)
    (site / "etc/log/backup.log").symlink_to("/dev/null")
    done = call("backup", "create", "--strategy", "full", "--debug")
    assert done.code == 0 and done.err.count("cannot be written") == 1


def test_by_default_no_run_by_hand_is_refused_for_being_soon(call: Call, site: Path, full: str) -> None:
    assert call("backup", "create", "--strategy", "full").code == 0


def test_within_min_interval_create_declines_with_10_and_force_makes_one(call: Call, site: Path, full: str) -> None:
    setting(site, "min_interval = 1h")
    done = call("backup", "create", "--strategy", "full", "--format", "json")
    assert done.code == 10 and done.json["error"]["name"] == "Declined"
    assert full in done.json["error"]["message"] and "--force" in done.json["error"]["hint"]
    assert len(call("backup", "list", "--format", "json").json) == 1
    assert call("backup", "create", "--strategy", "full", "--force").code == 0
    setting(site, "min_interval = 1s")


def test_accept_of_what_is_not_there_or_without_a_reason_is_refused(call: Call, site: Path, full: str) -> None:
    assert call("backup", "accept", "backup-full-20200101-000000", "--reason", "x").code == 8
    assert call("backup", "accept", full, "--reason", " ").code == 2
    assert call("backup", "accept", full).code == 2
    assert call("backup", "accept", full, "--reason", "x").code == 2
    assert run_command(["backup", "accept", full, "--reason", "x" * 501]) == 2
