from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuum_tasks.config import (
    BackupSettings,
    BrokerSettings,
    Check,
    ChecksumMode,
    Config,
    DatabaseConfig,
    DrillSettings,
    Invariant,
    RetentionSettings,
    StorageConfig,
    StorageType,
    WorkerSettings,
    load_config,
    render_config,
    write_config,
)
from continuum_tasks.config.schema import BACKUP, BROKER, DATABASE, DRILL, FILES, RETENTION, STORAGE, STORAGES, WORKERS
from continuum_tasks.config.settings import LEVEL_RANGES
from continuum_tasks.config.values import is_database_name, show_duration, show_size
from continuum_tasks.errors import ConfigError
from continuum_tasks.model import Cipher, Codec
from continuum_tasks.setup import init

ROOT = Path(__file__).parents[3]
REGENERATE = "render_config(init.plan(...)) and deploy/etc disagree: change both"


def sample() -> Config:
    return init.plan_configuration(init.InitRequest(config_dir=Path("/etc/continuum")), key_id="backup-key-v1")


_seconds = st.integers(0, 400 * 86400)
_printable = st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=("C", "Z"), exclude_characters="/")
_part = st.text(_printable, min_size=1, max_size=12).filter(lambda t: t.isprintable())
_path = st.lists(_part, min_size=1, max_size=3).map(lambda parts: Path("/data", *parts))
_database_names = st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True).filter(is_database_name)
_storage_names = st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True)
_or_none = lambda strategy: st.one_of(st.none(), strategy)  # noqa: E731


@st.composite
def _backup(draw: st.DrawFn) -> BackupSettings:
    algorithm = draw(st.sampled_from(Codec))
    return BackupSettings(
        compression_algorithm=algorithm,
        compression_level=draw(st.integers(*LEVEL_RANGES[algorithm])),
        encryption=draw(st.sampled_from(Cipher)),
        encryption_key_id=draw(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True)),
        chunk_bytes=draw(st.integers(1, 8192)) * 65536,
        max_concurrent_uploads=draw(st.integers(1, 64)),
        lease_seconds=draw(st.integers(5, 3600)),
        max_attempts=draw(st.integers(1, 100)),
    )


@st.composite
def _storage(draw: st.DrawFn, name: str, uploads: int) -> StorageConfig:
    if draw(st.booleans()):
        return StorageConfig(name=name, type=StorageType.LOCAL, path=draw(_path), max_concurrent_uploads=uploads)
    return StorageConfig(
        name=name,
        type=StorageType.S3,
        bucket=draw(st.from_regex(r"[a-z0-9][a-z0-9-]{2,20}", fullmatch=True)),
        prefix=draw(st.sampled_from(["", "a", "a/b.c/d_e"])),
        endpoint=draw(_or_none(st.sampled_from(["http://127.0.0.1:9000", "https://s3.example.com/x"]))),
        region=draw(_or_none(st.just("us-west-2"))),
        profile=draw(_or_none(_part.filter(lambda t: "[" not in t and "]" not in t))),
        credentials_file=draw(_or_none(_path)),
        checksum_mode=draw(st.sampled_from(ChecksumMode)),
        max_concurrent_uploads=uploads,
    )


@st.composite
def _drill(draw: st.DrawFn, databases: list[str]) -> DrillSettings:
    commands = st.sampled_from(["", "pytest tests/integration/", "sh -c 'a \"b\" = c'", "/opt/check --quick"])
    sql = st.sampled_from(["SELECT count(*) > 0 FROM t", "with a as (select 1) select * from a", "SELECT 1 = '='"])
    names = draw(st.lists(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True), max_size=3, unique=True))
    return DrillSettings(
        drill_command=draw(commands),
        drill_directory=draw(_or_none(_path)),
        drill_time_limit_seconds=draw(st.integers(1, 7 * 86400)),
        drill_log=draw(_or_none(_path)),
        invariants=tuple(
            Invariant(name=name, database=draw(st.sampled_from(["", *databases])), sql=draw(sql)) for name in names
        ),
    )


@st.composite
def _configs(draw: st.DrawFn) -> Config:
    backup = draw(_backup())
    storage_names = draw(st.lists(_storage_names, min_size=1, max_size=3, unique=True))
    names = draw(st.lists(_database_names, min_size=1, max_size=3, unique=True))
    urls = _or_none(st.sampled_from(["redis://h:1/0", "redis+socket://:p@/x.sock?virtual_host=1"]))
    keep_within = draw(_seconds)
    return Config(
        directory=Path("/nowhere"),
        state_dir=draw(_path),
        temp_dir=draw(_path),
        log_file=draw(_path),
        keys_dir=Path("/keys"),
        host=draw(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)),
        default_database=draw(st.sampled_from(names)),
        default_storage=draw(st.sampled_from(storage_names)),
        databases=tuple(
            DatabaseConfig(
                name=name,
                path=Path(f"/databases/{name}"),
                storage=draw(st.sampled_from(storage_names)),
                busy_timeout_seconds=draw(st.integers(0, 3600)),
                busy_window_seconds=draw(st.integers(1, 3600)),
                accept_file_system=draw(st.sampled_from([(), ("nfs4",), ("9p", "fuse.sshfs")])),
                check=draw(st.sampled_from(Check)),
                full_every_seconds=draw(_seconds),
                incremental_every_seconds=incremental,
                verify_every_seconds=draw(_seconds),
                test_restore_every_seconds=draw(_seconds),
                drill_every_seconds=draw(_seconds),
                rpo_target_seconds=incremental + draw(st.integers(1, 3600)),
            )
            for name, incremental in ((name, draw(_seconds)) for name in names)
        ),
        storages=tuple(draw(_storage(name, backup.max_concurrent_uploads)) for name in storage_names),
        backup=backup,
        broker=BrokerSettings(url=draw(urls), result_url=draw(urls)),
        drill=draw(_drill(names)),
        workers=WorkerSettings(**{pool: draw(st.integers(1, 64)) for pool in ("agent", "transfer", "verify", "control")}),
        retention=RetentionSettings(
            **{period: draw(st.integers(0, 10_000)) for period in ("hourly", "daily", "weekly", "monthly", "yearly")},
            keep_within_seconds=keep_within,
            min_backups=draw(st.integers(1, 10_000)),
            max_age_seconds=draw(st.sampled_from([0, keep_within])),
            grace_period_seconds=draw(_seconds),
            only_verified=draw(st.booleans()),
            max_expire_per_run=draw(st.integers(1, 100_000)),
            max_roll_forward_per_run=draw(st.integers(0, 1000)),
        ),
    )


@settings(max_examples=40, deadline=None)
@given(config=_configs())
def test_what_is_written_loads_as_what_was_meant(config: Config) -> None:
    with tempfile.TemporaryDirectory() as name:
        config = replace(config, directory=Path(name))
        write_config(config)

        assert load_config(Path(name), environment={}) == config


@settings(max_examples=80, deadline=None)
@given(text=st.text(min_size=1, max_size=20))
def test_a_path_is_written_so_that_it_reads_back_or_refused(text: str) -> None:
    base = sample()
    config = replace(base, host="h", temp_dir=Path("/" + text), directory=Path("/nowhere"))
    with tempfile.TemporaryDirectory() as name:
        config = replace(config, directory=Path(name))
        try:
            write_config(config)
        except ConfigError:
            assert not list(Path(name).iterdir())
            return
        assert load_config(Path(name), environment={}).temp_dir == config.temp_dir


def test_an_empty_host_is_written_as_whatever_machine_reads_it(tmp_path: Path) -> None:
    write_config(replace(sample(), directory=tmp_path))

    assert "\nhost =\n" in (tmp_path / "backup.conf").read_text()
    assert load_config(tmp_path, environment={"CONTINUUM_HOST": "b"}).host == "b"


def test_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        paths = write_config(replace(sample(), directory=tmp_path))
    finally:
        os.umask(before)

    assert {p.name for p in paths} == set(FILES) == {p.name for p in tmp_path.iterdir()}
    assert {stat.S_IMODE(p.stat().st_mode) for p in paths} == {0o600}


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_file_is_overwritten_and_a_refused_write_leaves_nothing_new(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")

    with pytest.raises(ConfigError, match="already initialised"):
        write_config(replace(sample(), directory=tmp_path))

    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_configuration_that_would_not_load_is_not_written(tmp_path: Path) -> None:
    config = replace(sample(), directory=tmp_path, keys_dir=Path("/var/backups/continuum/keys"))

    with pytest.raises(ConfigError, match="holds keys_dir"):
        write_config(config)

    assert not list(tmp_path.iterdir())


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written: no such file or directory"):
        write_config(replace(sample(), directory=tmp_path / "none"))


@pytest.mark.parametrize("name", sorted(FILES))
def test_the_samples_are_what_init_writes(name: str) -> None:
    assert (ROOT / "deploy" / "etc" / name).read_text() == render_config(sample())[name], REGENERATE


def test_the_retention_sample_says_that_backups_expire_and_how_to_see_it_first() -> None:
    assert "--dry-run" in (ROOT / "deploy" / "etc" / "retention.conf").read_text()


def test_every_field_has_a_key_so_that_nothing_is_lost_in_writing() -> None:
    pairs = [
        (BackupSettings, BACKUP, set()),
        (BrokerSettings, BROKER, set()),
        (WorkerSettings, WORKERS, set()),
        (DatabaseConfig, DATABASE, {"name"}),
        (DrillSettings, DRILL, {"invariants"}),
        (RetentionSettings, RETENTION, set()),
        (StorageConfig, (*STORAGE[StorageType.LOCAL], *STORAGE[StorageType.S3]), {"name", "max_concurrent_uploads"}),
    ]
    for cls, keys, other in pairs:
        assert {f.name for f in fields(cls)} - other == {key.target for key in keys}


def test_every_key_is_documented_with_what_is_allowed_and_its_default() -> None:
    text = (ROOT / "docs" / "CONFIGURATION.md").read_text()
    defaults = sample()
    s3 = StorageConfig(name="s3", type=StorageType.S3, bucket="b")
    tables = [
        (defaults.backup, BACKUP),
        (defaults.broker, BROKER),
        (defaults.workers, WORKERS),
        (defaults.databases[0], DATABASE),
        (defaults.drill, DRILL),
        (defaults.retention, RETENTION),
        (s3, STORAGE[StorageType.S3]),
        (defaults, FILES["backup.conf"]["continuum"]),
        (None, STORAGES),
        (None, STORAGE[StorageType.LOCAL]),
    ]
    for values, keys in tables:
        for key in keys or ():
            line = next((line for line in text.splitlines() if line.startswith(f"| `{key.name}` |") and key.note in line), "")
            assert key.kind.allowed in line, f"{key.name}: {key.kind.allowed}: {key.note}"
            if values is not None and not key.required and key.kind.show(getattr(values, key.target)):
                default = "(the default one)" if key.name == "storage" else key.kind.show(getattr(values, key.target))
                assert key.name == "default_database" or default in line, f"{key.name} defaults to {default}"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (60, "1m"), (90, "90s"), (3600, "1h"), (86400, "1d"), (90000, "25h")]
)
def test_durations_are_written_in_the_largest_unit(seconds: int, text: str) -> None:
    assert show_duration(seconds) == text


@pytest.mark.parametrize(("n_bytes", "text"), [(0, "0"), (1, "1"), (65536, "64K"), (32 << 20, "32M"), (1 << 30, "1G")])
def test_sizes_are_written_in_the_largest_unit(n_bytes: int, text: str) -> None:
    assert show_size(n_bytes) == text
