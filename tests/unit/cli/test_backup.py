from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from continuum_tasks.sample.change import change
from tests.unit.cli.calls import create, flip
from tests.unit.cli.conftest import Call

NEEDED = {
    *("backup_id", "strategy", "status", "verified", "created_at", "database", "original_size_bytes", "stored_size_bytes"),
    *("compression_ratio", "parent_id", "storage", "base_id", "finished_at", "page_size", "n_pages", "layer_size_bytes"),
    *("key_id", "host", "suspect_reasons"),
}


def test_a_chain_is_made_listed_newest_first_verified_and_restored(call: Call, site: Path) -> None:
    first = create(call)
    original = (site / "memory.db").read_bytes()
    change(site / "memory.db", fraction=0.01, seed=7)
    second = call("backup", "create", "--strategy", "incremental", "--format", "json").json
    assert second["parent_id"] == first
    assert second["reason"] == f"builds on {first}"
    listed = call("backup", "list", "--format", "json").json
    assert [backup["backup_id"] for backup in listed] == [second["backup_id"], first]
    assert all(set(backup) >= NEEDED for backup in listed)
    assert call("backup", "restore", first, "--target", "first.db", "--verify").code == 0
    assert call("backup", "restore", "--latest", "--target", "latest.db").code == 0
    assert (site / "first.db").read_bytes()[100:] == original[100:]
    verified = call("backup", "verify", first, second["backup_id"], "--format", "json").json
    assert [verdict["passed"] for verdict in verified] == [True, True]
    assert all(backup["verified"] for backup in call("backup", "list", "--format", "json").json)


def test_json_output_is_alone_on_standard_output_and_nothing_on_standard_error(call: Call, site: Path) -> None:
    done = call("backup", "create", "--strategy", "full", "--format", "json")
    assert done.json["verified"] is False
    assert done.err == ""


def test_progress_without_a_terminal_is_plain_lines_on_standard_error(call: Call, site: Path) -> None:
    done = call("backup", "create", "--strategy", "full")
    assert [line.split(": ")[1].split()[0] for line in done.err.splitlines()] == ["stage", "store", "check", "commit"]


def test_tables_fit_100_columns_and_never_cut_an_id(call: Call, site: Path, full: str) -> None:
    call("backup", "verify", full)
    for words in (["list"], ["info", full], ["test-storage"], ["reindex"], ["verify", full]):
        done = call("backup", *words)
        assert max(map(len, done.out.splitlines())) <= 100
    assert full in call("backup", "list").out


def test_an_id_stays_in_one_piece_however_many_columns_stand_beside_it(call: Call, site: Path, full: str) -> None:
    """`list | awk '{print $1}'` and a double click both take what stands on one line."""
    conf = site / "etc/backup.conf"
    conf.write_text(f"{conf.read_text()}\n[database:another-database]\npath = {site / 'copy.db'}\nstorage = local\n")
    (site / "copy.db").write_bytes((site / "memory.db").read_bytes())
    done = call("backup", "create", "--strategy", "full", "--database", "another-database", "--format", "json")
    named = done.json["backup_id"]
    shown = call("backup", "list").out.splitlines()
    assert [line.split()[0] for line in shown[2:]] == [named, full]
    assert named in call("backup", "verify", named, "--level", "objects").out


def test_list_limits_and_filters(call: Call, site: Path, full: str) -> None:
    second = create(call, "incremental")
    call("backup", "verify", full)
    assert [b["backup_id"] for b in call("backup", "list", "--limit", "1", "--format", "json").json] == [second]
    assert [b["backup_id"] for b in call("backup", "list", "--verified-only", "--format", "json").json] == [full]
    assert len(call("backup", "list", "--database", "memory", "--format", "json").json) == 2
    unknown = call("backup", "list", "--database", "other")
    assert unknown.code == 2 and "known: memory" in unknown.err


def test_an_empty_list_says_so_and_is_an_empty_array_in_json(call: Call, site: Path) -> None:
    assert call("backup", "list").out == "no backups\n"
    assert call("backup", "list", "--format", "json").json == []


def test_list_rebuilds_a_lost_catalog_by_itself_and_loses_no_verdict(call: Call, site: Path, full: str) -> None:
    call("backup", "verify", full)
    for path in (site / "etc/state").glob("metadata.db*"):
        path.unlink()
    done = call("backup", "list", "--format", "json")
    assert [(b["backup_id"], b["verified"]) for b in done.json] == [(full, True)]


def test_an_incremental_after_the_catalog_was_lost_builds_on_what_the_storage_has(call: Call, site: Path, full: str) -> None:
    for path in (site / "etc/state").glob("metadata.db*"):
        path.unlink()
    made = call("backup", "create", "--strategy", "incremental", "--format", "json")
    assert made.json["parent_id"] == full


def test_list_of_a_storage_shows_what_another_host_stored_and_leaves_the_catalog_alone(
    call: Call, site: Path, full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("backup", "list")
    state = site / "etc/state"
    state.rename(site / "state-of-h1")
    call("backup", "list")
    state.rename(site / "state-of-h2")
    (site / "state-of-h1").rename(state)
    second = create(call, "incremental")
    state.rename(site / "state-of-h1")
    (site / "state-of-h2").rename(state)
    assert len(call("backup", "list", "--format", "json").json) == 1
    assert len(call("backup", "list", "--storage", "local", "--format", "json").json) == 2
    assert len(call("backup", "list", "--format", "json").json) == 1
    assert call("backup", "info", second).code == 0
    assert call("backup", "restore", second, "--target", "second.db").code == 0


def test_a_damaged_manifest_is_a_warning_for_list_and_exit_7_for_reindex(call: Call, site: Path, full: str) -> None:
    second = create(call)
    manifest = next((site / "store").rglob(f"manifests/*/{second}.json"))
    flip(manifest, 200)
    call("backup", "list")
    done = call("backup", "list", "--storage", "local", "--format", "json")
    assert done.code == 0 and [b["backup_id"] for b in done.json] == [full]
    assert "warning: object manifests/" in done.err
    again = call("backup", "reindex", "--format", "json")
    assert again.code == 7
    assert again.json[0]["n_backups"] == 1 and second in again.json[0]["damaged"][0]
    assert second in again.err


def test_info_shows_chain_and_verdicts(call: Call, site: Path, full: str) -> None:
    second = create(call, "incremental")
    call("backup", "verify", second, "--level", "objects")
    for words in ((), ("--storage", "local")):
        found = call("backup", "info", second, "--format", "json", *words).json
        assert found["chain"] == [full, second] and found["usable"] is True
        assert [verdict["level"] for verdict in found["attestations"]] == ["objects"]
        assert found["verified"] is False
    shown = call("backup", "info", second).out
    assert f"{full} > {second}" in shown and "objects" in shown


def test_a_flipped_bit_fails_verify_and_restore_with_the_object_s_name_and_leaves_the_target(
    call: Call, site: Path, full: str
) -> None:
    chunk = next((site / "store/layers").rglob("*.chunk"))
    flip(chunk, chunk.stat().st_size // 2)
    (site / "target.db").write_bytes(b"as it was")
    done = call("backup", "restore", full, "--target", "target.db", "--overwrite", "--format", "json")
    assert done.code == 7 and chunk.name in done.json["error"]["message"]
    assert (site / "target.db").read_bytes() == b"as it was"
    good = create(call)
    verified = call("backup", "verify", full, good, "--format", "json")
    assert verified.code == 7
    assert [verdict["passed"] for verdict in verified.json] == [False, True]
    assert chunk.name in verified.json[0]["error"]["message"] and chunk.name in verified.err
    assert "failed" in call("backup", "list").out
    assert call("backup", "verify", full).code == 7


def test_latest_passes_over_suspect_and_failed_backups(call: Call, site: Path, full: str) -> None:
    healthy = (site / "memory.db").read_bytes()
    flip(site / "memory.db", 5 * 4096 + 3)
    damaged = call("backup", "create", "--strategy", "full", "--format", "json")
    assert damaged.code == 0 and damaged.json["status"] == "suspect"
    assert "warning: backup" in damaged.err
    assert call("backup", "restore", "--latest", "--target", "r.db", "--format", "json").json["backup_id"] == full
    suspect = call("backup", "restore", damaged.json["backup_id"], "--target", "s.db")
    assert suspect.code == 0 and "is suspect" in suspect.err
    (site / "memory.db").write_bytes(healthy)
    third = create(call)
    chunk = next((site / f"store/layers/memory/{third}").rglob("*.chunk"))
    flip(chunk, 5000)
    assert call("backup", "verify", third).code == 7
    assert call("backup", "restore", "--latest", "--target", "t.db", "--format", "json").json["backup_id"] == full


def test_latest_without_a_usable_backup_is_not_found(call: Call, site: Path) -> None:
    assert call("backup", "restore", "--latest", "--target", "r.db").code == 8
    assert call("backup", "restore", "--latest", "--database", "other", "--target", "r.db").code == 8


@pytest.mark.parametrize(
    "words",
    [
        ("--target", "x.db"),
        ("backup-full-20251206-010000", "--latest", "--target", "x.db"),
        ("backup-full-20251206-010000", "--database", "memory", "--target", "x.db"),
        ("null", "--target", "x.db"),
        ("backup-full-20251206-010000",),
    ],
)
def test_a_restore_that_names_no_one_backup_or_no_target_is_refused(call: Call, site: Path, words: tuple[str, ...]) -> None:
    assert call("backup", "restore", *words).code == 2


def test_restore_over_a_file_needs_overwrite_and_keeps_the_old_one(call: Call, site: Path, full: str) -> None:
    (site / "there.db").write_bytes(b"old")
    assert call("backup", "restore", full, "--target", "there.db").code == 9
    done = call("backup", "restore", full, "--target", "there.db", "--overwrite", "--format", "json")
    assert done.code == 0
    kept = Path(done.json["quarantine"])
    assert any(path.read_bytes() == b"old" for path in kept.rglob("*") if path.is_file())


def test_compare_counts_exits_1_and_shows_the_tables_that_differ(call: Call, site: Path, full: str) -> None:
    same = call("backup", "compare-counts", full, "memory.db")
    assert same.code == 0 and same.out.startswith("the same: ")
    with closing(sqlite3.connect(site / "memory.db")) as connection:
        connection.execute("DELETE FROM embeddings WHERE rowid = (SELECT min(rowid) FROM embeddings)")
        connection.execute("CREATE TABLE extra (x)")
        connection.commit()
    different = call("backup", "compare-counts", full, "memory.db")
    assert different.code == 1
    assert "embeddings" in different.out and "no table" in different.out and "messages" not in different.out
    found = call("backup", "compare-counts", full, "memory.db", "--format", "json")
    assert found.code == 1 and found.json["same"] is False
    rows = {row["table"]: row for row in found.json["tables"]}
    assert rows["embeddings"]["difference"] == -1 and rows["extra"]["backup"] is None and rows["messages"]["same"]


def test_compare_counts_with_no_database_there_is_a_source_error(call: Call, site: Path, full: str) -> None:
    assert call("backup", "compare-counts", full, "nowhere.db").code == 4
    assert call("backup", "compare-counts", full, ".").code == 4


def test_test_storage_shows_every_step_and_what_the_storage_can_do(call: Call, site: Path) -> None:
    report = call("backup", "test-storage", "local", "--format", "json").json
    assert {"write large", "read range", "list", "create only", "delete"} <= {step["name"] for step in report["steps"]}
    assert report["type"] == "local" and report["capabilities"]["conditional_put"] is True
    assert "conditional writes" in call("backup", "test-storage").out
    assert not list((site / "store/.probe").rglob("*/*"))
    assert call("backup", "test-storage", "nope").code == 2


def test_a_storage_that_cannot_be_read_does_not_hide_the_backups_of_the_others(call: Call, site: Path, full: str) -> None:
    with (site / "etc/storage.conf").open("a") as file:
        file.write(f"\n[storage:second]\ntype = local\npath = {site}/second\n")
    (site / "second").symlink_to("second")
    shown = call("backup", "list")
    assert full in shown.out and shown.code == 6
    assert call("backup", "restore", full, "--target", "r.db").code == 0
    assert call("backup", "restore", "--latest", "--target", "l.db").code == 0
    done = call("backup", "reindex", "--format", "json")
    assert done.code == 6 and done.json[0]["n_backups"] == 1 and done.json[1]["error"]["name"].startswith("Storage")


def test_no_local_refuses_where_no_worker_serves(call: Call, site: Path, full: str) -> None:
    for words in (["create", "--strategy", "full"], ["restore", full, "--target", "r.db"], ["verify", full]):
        done = call("backup", *words, "--no-local")
        assert done.code == 11
        assert "no pool serves queue" in done.err and "continuum up" in done.err


def test_without_a_worker_it_says_so_and_does_the_work_here(call: Call, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONTINUUM_LOCAL")
    done = call("backup", "create", "--strategy", "full", "--no-wait", "--format", "json")
    assert done.code == 0 and done.json["strategy"] == "full"
    assert done.err.splitlines() == [
        "no worker is reachable (no pool serves queue agent.h1 on this host): working in this process"
    ]


def test_a_broker_that_nobody_reaches_counts_as_no_worker(call: Call, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONTINUUM_LOCAL")
    conf = site / "etc/backup.conf"
    conf.write_text(conf.read_text().replace("\nurl =", "\nurl = redis://127.0.0.1:1/0"))
    assert call("backup", "create", "--strategy", "full", "--no-local").code == 11
    done = call("backup", "create", "--strategy", "full")
    assert done.code == 0 and "no worker is reachable (broker redis://127.0.0.1:1/0" in done.err


def test_local_and_no_wait_exclude_each_other(call: Call, site: Path) -> None:
    assert call("backup", "create", "--strategy", "full", "--local", "--no-wait").code == 2


@pytest.mark.parametrize(("text", "code"), [("1", 0), ("yes", 0), ("perhaps", 3)])
def test_continuum_local_is_read(call: Call, site: Path, monkeypatch: pytest.MonkeyPatch, text: str, code: int) -> None:
    monkeypatch.setenv("CONTINUUM_LOCAL", text)
    done = call("backup", "create", "--strategy", "full")
    assert done.code == code
    assert "no worker" not in done.err


def test_failpoints_of_the_environment_are_armed(call: Call, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from continuum_tasks import failpoints

    monkeypatch.setenv("CONTINUUM_FAILPOINTS", "create.before_manifest=raise")
    try:
        assert call("backup", "create", "--strategy", "full").code == 6
    finally:
        failpoints._armed.clear()
    monkeypatch.delenv("CONTINUUM_FAILPOINTS")
    assert call("backup", "list", "--format", "json").json == []


def test_a_wrong_key_says_so(call: Call, site: Path, full: str) -> None:
    key = next((site / "etc/keys").glob("*.key"))
    key.rename(site / "kept.key")
    missing = call("backup", "restore", full, "--target", "r.db")
    assert missing.code == 5 and key.stem in missing.err
    assert not (site / "r.db").exists()
    assert call("backup", "verify", full, "--level", "objects").code == 0


def test_a_missing_source_is_a_source_error(call: Call, site: Path) -> None:
    (site / "memory.db").unlink()
    done = call("backup", "create", "--strategy", "full")
    assert done.code == 4 and str(site / "memory.db") in done.err
