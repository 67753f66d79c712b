"""Changing one setting: it reads back, every other line stays, and what would not load changes nothing."""

from __future__ import annotations

import multiprocessing
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from continuum_tasks.config import load_config, write_config
from continuum_tasks.config import schema as config_schema
from continuum_tasks.config.load import read_config
from continuum_tasks.config.named import Setting, effective, find_setting, settings_of
from continuum_tasks.config.schema import FILES
from continuum_tasks.errors import ConfigError, ContinuumError, KeyMissing, LockError, UsageError
from continuum_tasks.model import Cipher
from continuum_tasks.setup import configure, init
from tests.unit.config.texts import RETENTION, write

NOW = datetime(2026, 11, 23, tzinfo=UTC)
ENVIRONMENT = {"CONTINUUM_HOST": "h1"}
BACKUP = """\
# head
[continuum]
; state
state_dir = {directory}/state

[backup]
# how hard
compression_level   =  3
encryption=none
[broker]
url = redis://:hunter2@broker/0
[database:memory]
path = /srv/memory.db
# the end
[drill]
sql.has_rows = SELECT count(*) > 0 FROM t"""
STORAGE = """\
[storages]
default = local
[storage:local]
type = local
path = /srv/backups
[storage:s3]
type = s3
bucket = bucket
"""
VALUES = {
    "a program": st.sampled_from(["/bin/true 'a b'", "true"]),
    "one SELECT": st.sampled_from(["SELECT 1", "WITH a AS (SELECT 1) SELECT * FROM a -- é"]),
    "http": st.sampled_from(["https://s3.example:9000", "http://h/p"]),
    "a redis": st.sampled_from(["redis://:pass@h/1", "redis+socket:///run/x?virtual_host=1"]),
    "an absolute path": st.sampled_from(["/data/é", "/data/a b", "~/x"]),
    "one of": st.sampled_from(["zstd", "lz4", "gzip", "none", "quick", "full", "local", "s3", "auto", "required"]),
    "a whole number": st.integers(-3, 70).map(str),
    "a number with s": st.tuples(st.integers(0, 90), st.sampled_from("smhd")).map(lambda t: f"{t[0]}{t[1]}"),
    "a number with K": st.integers(0, 40).map(lambda n: f"{64 * n}K"),
    "yes": st.sampled_from(["yes", "no"]),
}
NAMES = st.one_of(st.sampled_from(["memory", "local", "s3", "h1", "bucket", "eu-west-1", "", "never"]), st.text(max_size=12))


def make(directory: Path) -> Path:
    return write(directory, backup=BACKUP.format(directory=directory), storage=STORAGE, retention=RETENTION)


def put(directory: Path, name: str, value: str | None) -> configure.Changed:
    request = configure.SettingChange(setting=name, value=value, directory=directory, environment=ENVIRONMENT, by="me")
    return configure.change_setting(request, now=NOW)


def texts(directory: Path) -> dict[str, str]:
    return {name: (directory / name).read_text(encoding="utf-8") for name in FILES}


def all_settings(directory: Path) -> tuple[Setting, ...]:
    return settings_of(texts(directory), directory=directory)


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_value_that_is_taken_reads_back_and_leaves_every_other_line(tmp_path: Path, data: st.DataObject) -> None:
    make(tmp_path)
    before = texts(tmp_path)
    setting = data.draw(st.sampled_from(all_settings(tmp_path)))
    kind = next((s for start, s in VALUES.items() if setting.key.kind.allowed.startswith(start)), NAMES)
    value = data.draw(st.one_of(kind, kind, kind, NAMES))
    try:
        changed = put(tmp_path, setting.name, value)
    except ContinuumError:
        assert texts(tmp_path) == before
        return
    after = texts(tmp_path)
    assert load_config(tmp_path, environment=ENVIRONMENT)
    found = find_setting(setting.name, all_settings(tmp_path))
    assert found.entry is not None and found.entry.text == value.strip(" \t")
    assert {n for n in FILES if before[n] != after[n]} <= {setting.file}
    kept = after[setting.file].split("\n")
    del kept[changed.line - 1]
    was = before[setting.file].split("\n")
    if setting.entry is not None:
        del was[setting.entry.place.line - 1]
    added = [line for line in kept if line and line not in was]
    assert [line for line in kept if line] == [line for line in was if line] or added == [f"[{setting.kind}]"]
    assert found.entry.place.line == changed.line


def test_settings_of_all_three_files_are_set_by_key_or_by_section(tmp_path: Path) -> None:
    make(tmp_path)
    for name, value in (("max_attempts", "9"), ("storage:s3.region", "eu-west-1"), ("retention.daily", "9")):
        assert put(tmp_path, name, value).written
    loaded = load_config(tmp_path, environment=ENVIRONMENT)
    assert (loaded.backup.max_attempts, loaded.storage("s3").region, loaded.retention.daily) == (9, "eu-west-1", 9)


def test_only_the_value_of_its_line_changes(tmp_path: Path) -> None:
    make(tmp_path)
    before = (tmp_path / "backup.conf").read_text()
    put(tmp_path, "compression_level", "7")
    assert (tmp_path / "backup.conf").read_text() == before.replace("compression_level   =  3", "compression_level   =  7")


def test_windows_line_ends_and_a_byte_order_mark_stay(tmp_path: Path) -> None:
    make(tmp_path)
    path = tmp_path / "retention.conf"
    path.write_bytes(b"\xef\xbb\xbf[retention]\r\n# days\r\ndaily = 5\r\nhourly = 2")
    put(tmp_path, "daily", "6")
    put(tmp_path, "weekly", "1")
    assert path.read_bytes() == b"\xef\xbb\xbf[retention]\r\n# days\r\ndaily = 6\r\nhourly = 2\nweekly = 1"


def test_a_section_that_is_not_there_is_made(tmp_path: Path) -> None:
    make(tmp_path)
    put(tmp_path, "workers.verify", "3")
    assert (tmp_path / "backup.conf").read_text().endswith("FROM t\n\n[workers]\nverify = 3\n")


def test_the_default_counts_again_when_the_line_is_taken_out(tmp_path: Path) -> None:
    make(tmp_path)
    changed = put(tmp_path, "compression_level", None)
    assert (changed.old, changed.new, changed.line) == ("3", "1", 0)
    assert "compression_level" not in (tmp_path / "backup.conf").read_text()
    assert not put(tmp_path, "compression_level", None).written
    with pytest.raises(ConfigError, match="nothing was changed"):
        put(tmp_path, "database:memory.path", None)


HOSTILE = (
    *("a\nb", "9\n[broker]", "9\r", "\0", "1\x1b[31m", "\ud800", "\u202e", "9 # why", "9 ; why", "\u2028", "٣"),
    *("x" * 2_000_000, "9" * 5000, "/" + "x" * 5000, "", " ", "=", "[x]", "-1", "1e3"),
)


@pytest.mark.parametrize("name", ["compression_level", "state_dir", "broker.url", "sql.has_rows", "storage:s3.profile", "host"])
@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_value_changes_nothing_or_one_value(tmp_path: Path, name: str, value: str) -> None:
    make(tmp_path)
    before = texts(tmp_path)
    try:
        changed = put(tmp_path, name, value)
    except ContinuumError as err:
        assert texts(tmp_path) == before
        assert len(err.message) < 600
    else:
        found = find_setting(name, all_settings(tmp_path))
        assert changed.written and found.entry is not None and found.entry.text == value.strip(" \t")
    assert load_config(tmp_path, environment=ENVIRONMENT)


def test_what_would_load_alone_but_not_with_the_rest_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    for name, value in (
        ("database:memory.rpo_target", "2m"),
        ("database:memory.storage", "nowhere"),
        ("storages.default", "nowhere"),
        ("storage:s3.type", "local"),
        ("keys_dir", "/srv/backups/keys"),
    ):
        before = texts(tmp_path)
        with pytest.raises(ConfigError, match="nothing was changed"):
            put(tmp_path, name, value)
        assert texts(tmp_path) == before


def test_a_broken_value_can_be_repaired(tmp_path: Path) -> None:
    make(tmp_path)
    path = tmp_path / "backup.conf"
    path.write_text(path.read_text().replace("compression_level   =  3", "compression_level = 99"))
    assert put(tmp_path, "compression_level", "2").old == "99"
    assert load_config(tmp_path, environment=ENVIRONMENT).backup.compression_level == 2


def test_an_encryption_key_that_is_not_here_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    before = texts(tmp_path)
    with pytest.raises(KeyMissing, match="nothing was changed"):
        put(tmp_path, "backup.encryption", Cipher.AES_256_GCM.value)
    assert texts(tmp_path) == before
    assert put(tmp_path, "encryption_key_id", "other").written  # encryption is off: nothing needs it


def test_a_secret_is_in_no_message_and_no_outcome(tmp_path: Path) -> None:
    make(tmp_path)
    changed = put(tmp_path, "broker.url", "redis://:swordfish@other/0")
    for value in ("http://:swordfish@x", "redis://:swordfish@x\ny", "redis://:swordfish@x # y"):
        with pytest.raises(ConfigError) as refused:
            put(tmp_path, "broker.url", value)
        assert "swordfish" not in refused.value.message + refused.value.hint
    log = (tmp_path / "state" / "audit.log").read_text()
    assert log.count("config-set") == 4
    assert not [word for word in ("hunter2", "swordfish") if word in repr(changed) + log]


def test_mode_is_kept_and_links_are_followed(tmp_path: Path) -> None:
    make(tmp_path)
    elsewhere = tmp_path / "kept.conf"
    (tmp_path / "backup.conf").rename(elsewhere)
    (tmp_path / "backup.conf").symlink_to("kept.conf")
    elsewhere.chmod(0o640)
    put(tmp_path, "compression_level", "5")
    assert (tmp_path / "backup.conf").is_symlink() and stat.S_IMODE(elsewhere.stat().st_mode) == 0o640
    assert "=  5" in elsewhere.read_text() and not list(tmp_path.glob(".*.tmp"))


def test_a_read_only_file_is_left_alone(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "backup.conf").chmod(0o444)
    before = texts(tmp_path)
    with pytest.raises(ConfigError, match="read-only; nothing was changed"):
        put(tmp_path, "compression_level", "5")
    assert texts(tmp_path) == before and not list(tmp_path.glob(".*.tmp"))


def _many(directory: Path, name: str) -> None:
    for number in range(1, 31):
        put(directory, name, str(number))


def test_two_processes_change_two_settings_of_one_file_and_both_count(tmp_path: Path) -> None:
    make(tmp_path)
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_many, args=(tmp_path, name)) for name in ("hourly", "daily")]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0]
    retention = load_config(tmp_path, environment=ENVIRONMENT).retention
    assert (retention.hourly, retention.daily) == (30, 30)


def test_a_change_that_takes_its_time_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path)
    monkeypatch.setattr(configure, "WAIT_SECONDS", 0.05)
    with configure._alone(tmp_path), pytest.raises(LockError, match="another change"):
        put(tmp_path, "daily", "5")


def test_a_file_that_somebody_else_changes_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path)
    path = tmp_path / "retention.conf"
    real = os.fsync

    def slow(descriptor: int) -> None:
        path.write_text("[retention]\nweekly = 2\n")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    with pytest.raises(ConfigError, match="somebody else changed it"):
        put(tmp_path, "daily", "5")
    monkeypatch.undo()
    assert path.read_text() == "[retention]\nweekly = 2\n"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("compresion_level", "backup.compression_level"),
        ("backup.max_uploads", "backup.max_concurrent_uploads"),
        ("database:memry.path", "database:memory.path"),
        ("retention.dayly", "retention.daily"),
    ],
)
def test_a_mistyped_name_is_answered_with_what_was_meant(tmp_path: Path, name: str, meant: str) -> None:
    make(tmp_path)
    with pytest.raises(UsageError) as refused:
        find_setting(name, all_settings(tmp_path))
    assert meant in refused.value.hint


def test_a_name_that_several_have_names_them(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(UsageError) as refused:
        find_setting("path", all_settings(tmp_path))
    assert "database:memory.path" in refused.value.hint and "storage:local.path" in refused.value.hint
    assert find_setting("database.path", all_settings(tmp_path)).name == "database:memory.path"


def test_every_key_of_the_schema_has_a_name_and_a_value_that_can_be_set_to_itself(tmp_path: Path) -> None:
    config = init.plan_configuration(init.InitRequest(config_dir=tmp_path), key_id="k")
    write_config(config)
    found = all_settings(tmp_path)
    known = {key.name for keys in (*FILES["backup.conf"].values(), *FILES["retention.conf"].values()) for key in keys or ()}
    known |= {key.name for key in (*config_schema.DATABASE, *config_schema.STORAGE[config.storages[0].type])}
    assert known <= {setting.key.name for setting in found}
    before = texts(tmp_path)
    loaded = read_config(before, directory=tmp_path, environment=ENVIRONMENT)
    for setting in found:
        if setting.name in ("continuum.host", "backup.encryption", "backup.encryption_key_id", "continuum.keys_dir"):
            continue
        assert put(tmp_path, setting.name, effective(setting, loaded)).written is False, setting.name
    assert texts(tmp_path) == before
