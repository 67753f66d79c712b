from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from continuum_tasks.config import Check, ChecksumMode, StorageType, find_config_directory, load_config
from continuum_tasks.config.load import read_config
from continuum_tasks.config.schema import FILES, STORAGE
from continuum_tasks.errors import ConfigError, UsageError
from continuum_tasks.model import Cipher, Codec
from tests.support import other
from tests.unit.config.texts import BACKUP, RETENTION, load, write
from tests.unit.config.texts import STORAGE as STORAGE_TEXT

S3 = "[storage:s3]\ntype = s3\nbucket = continuum-backups\n"


def test_the_least_configuration_takes_every_default(tmp_path: Path) -> None:
    config = load(tmp_path, host="h1")

    assert config.default_database == "memory"
    assert config.default_storage == "local"
    assert config.state_dir == tmp_path / "state"
    assert config.keys_dir == tmp_path / "keys"
    assert (config.backup.compression_algorithm, config.backup.compression_level) == (Codec.ZSTD, 1)
    assert config.backup.encryption is Cipher.AES_256_GCM
    assert config.backup.chunk_bytes == 32 * 1024 * 1024
    assert config.broker.url is None
    assert (config.workers.agent, config.workers.transfer, config.workers.verify, config.workers.control) == (2, 4, 1, 1)
    database = config.database("")
    assert (database.busy_timeout_seconds, database.busy_window_seconds, database.check) == (5, 4, Check.QUICK)
    assert (database.full_every_seconds, database.incremental_every_seconds) == (7 * 86400, 240)
    retention = config.retention
    assert (retention.hourly, retention.daily, retention.weekly, retention.monthly, retention.yearly) == (24, 7, 4, 12, 0)
    assert (retention.min_backups, retention.max_age_seconds, retention.only_verified) == (3, 0, True)


def test_the_system_directory_has_the_paths_of_the_runbook() -> None:
    texts = {"backup.conf": BACKUP, "storage.conf": STORAGE_TEXT, "retention.conf": RETENTION}

    config = read_config(texts, directory=Path("/etc/continuum"), environment={})

    assert str(config.state_dir) == "/var/lib/continuum/backups"
    assert str(config.temp_dir) == "/tmp/continuum-backup"
    assert str(config.log_file) == "/var/log/continuum/backup.log"


def test_several_databases_and_storages_are_found_by_name(tmp_path: Path) -> None:
    backup = (
        "[continuum]\ndefault_database = notes\n"
        "[database:memory]\npath = /srv/memory.db\nstorage = s3\n"
        "[database:notes]\npath = ~/notes.db\nfull_every = never\nincremental_every = 0\nverify_every = off\ncheck = full\n"
    )
    storage = f"[storages]\ndefault = local\n{STORAGE_TEXT}{S3}endpoint = http://127.0.0.1:9000\nchecksum_mode = required\n"

    config = load(tmp_path, backup=backup, storage=storage)

    assert config.database("memory").storage == "s3"
    notes = config.database("")
    assert (notes.name, notes.storage, notes.path) == ("notes", "local", Path.home() / "notes.db")
    assert (notes.full_every_seconds, notes.incremental_every_seconds, notes.verify_every_seconds) == (0, 0, 0)
    s3 = config.storage("s3")
    assert (s3.type, s3.bucket, s3.prefix, s3.endpoint) == (StorageType.S3, "continuum-backups", "", "http://127.0.0.1:9000")
    assert s3.checksum_mode is ChecksumMode.REQUIRED
    with pytest.raises(UsageError, match="'nope'"):
        config.database("nope")
    with pytest.raises(UsageError, match="'nope'"):
        config.storage("nope")


def test_uploads_at_once_reach_every_storage(tmp_path: Path) -> None:
    config = load(tmp_path, backup=f"[backup]\nmax_concurrent_uploads = 8\n{BACKUP}")

    assert [s.max_concurrent_uploads for s in config.storages] == [8]


@pytest.mark.parametrize(("algorithm", "level"), [("zstd", 1), ("lz4", 0), ("gzip", 6), ("none", 0)])
def test_a_level_that_is_left_out_is_the_algorithms_own(tmp_path: Path, algorithm: str, level: int) -> None:
    config = load(tmp_path, backup=f"[backup]\ncompression_algorithm = {algorithm}\n{BACKUP}")

    assert config.backup.compression_level == level


@pytest.mark.parametrize(
    ("algorithm", "good", "bad"),
    [("zstd", (1, 19), (0, 20)), ("gzip", (1, 9), (0, 10)), ("lz4", (0, 12), (-1, 13)), ("none", (0, 9), (-1, 20))],
)
def test_levels_are_held_to_the_algorithms_range(
    tmp_path: Path, algorithm: str, good: tuple[int, int], bad: tuple[int, int]
) -> None:
    head = f"[backup]\ncompression_algorithm = {algorithm}\ncompression_level = "
    for level in good:
        assert load(tmp_path, backup=f"{head}{level}\n{BACKUP}").backup.compression_level == level
    for level in bad:
        with pytest.raises(ConfigError, match=rf"backup\.conf:3: .*compression_level = '?{level}'?"):
            load(tmp_path, backup=f"{head}{level}\n{BACKUP}")


def test_the_host_comes_from_the_environment_first_then_the_file(tmp_path: Path) -> None:
    backup = f"[continuum]\nhost = from-file\n{BACKUP}"

    assert load(tmp_path, backup=backup).host == "from-file"
    assert load(tmp_path, backup=backup, host="other").host == "other"
    assert load(tmp_path).host != ""


@pytest.mark.parametrize("host", ["Upper", "a b", "-x", "x/y", "x" * 64])
def test_a_host_that_cannot_name_a_queue_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match="CONTINUUM_HOST"):
        load(tmp_path, host=host)
    with pytest.raises(ConfigError, match=r"backup\.conf:2: \[continuum\] host"):
        load(tmp_path, backup=f"[continuum]\nhost = {host}\n{BACKUP}")


WRONG_BACKUP = [
    (f"[backups]\n{BACKUP}", 1, "unknown section '[backups]'", "did you mean [backup]?"),
    (f"[backup:x]\n{BACKUP}", 1, "unknown section", "[backup]"),
    ("[database]\npath = /x\n", 1, "unknown section '[database]'", "[database:NAME]"),
    (f"{BACKUP}pth = /x\n", 3, "unknown key 'pth'", "did you mean path?"),
    ("[database:memory]\n", 1, "lacks 'path'", "add path ="),
    ("", 1, "no [database:NAME]", "[database:memory]"),
    ("[database:memory]\npath = srv/memory.db\n", 2, "path = 'srv/memory.db'", "an absolute path"),
    ("[database:memory]\npath =\n", 2, "path = ''", "an absolute path"),
    ("[database:memory]\npath = ~no-such-user-here/x\n", 2, "path = '~no-such", "an absolute path"),
    (f"{BACKUP}storage = tape\n", 3, "storage = 'tape' is not declared", "declared: local"),
    ("[database:Memory]\npath = /x\n", 1, "database name 'Memory'", "a-z"),
    ("[database:memory-2]\npath = /x\n", 1, "database name 'memory-2'", "'-' with a number at the end"),
    ("[database:a--b]\npath = /x\n", 1, "database name 'a--b'", "no '--'"),
    ("[database:a-]\npath = /x\n", 1, "database name 'a-'", "at the end"),
    (f"{BACKUP}busy_window = 4\n", 3, "busy_window = '4'", "s, m, h or d"),
    (f"{BACKUP}busy_window = 0s\n", 3, "busy_window = '0s'", "from 1s"),
    (f"{BACKUP}full_every = 7w\n", 3, "full_every = '7w'", "or never"),
    (f"{BACKUP}check = deep\n", 3, "check = 'deep'", "one of quick, full, none"),
    (f"[backup]\nchunk_bytes = 32MB\n{BACKUP}", 2, "chunk_bytes = '32MB'", "from 64K to 512M"),
    (f"[backup]\nchunk_bytes = 100K\n{BACKUP}", 2, "chunk_bytes = '100K'", "a multiple of 64K"),
    (f"[backup]\nchunk_bytes = 1G\n{BACKUP}", 2, "chunk_bytes = '1G'", "from 64K to 512M"),
    (f"[backup]\ncompression_level = fast\n{BACKUP}", 2, "compression_level = 'fast'", "a whole number from 0 to 19"),
    (f"[backup]\ncompression_level = \u0663\n{BACKUP}", 2, "compression_level = '\u0663'", "a whole number"),
    (f"[backup]\nmax_attempts = {'9' * 5000}\n{BACKUP}", 2, "max_attempts = '999", "from 1 to 100"),
    (f"[backup]\nencryption = rot13\n{BACKUP}", 2, "encryption = 'rot13'", "one of aes-256-gcm, none"),
    (f"[backup]\nencryption_key_id = ../k\n{BACKUP}", 2, "encryption_key_id = '../k'", "a-z"),
    (f"[workers]\nagent = 0\n{BACKUP}", 2, "agent = '0'", "from 1 to 64"),
    (f"{BACKUP}[database:twin]\npath = /srv/memory.db\n", 4, "is database 'memory' already", "one section per file"),
    (f"{BACKUP}[database:b]\npath = /b\n", 1, "lacks 'default_database'", "memory, b"),
    (f"[continuum]\ndefault_database = nope\n{BACKUP}", 2, "default_database = 'nope' is not declared", "declared: memory"),
]


@pytest.mark.parametrize(("text", "line", "said", "hint"), WRONG_BACKUP)
def test_an_error_names_file_line_bad_text_and_what_is_allowed(
    tmp_path: Path, text: str, line: int, said: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, backup=text)

    assert caught.value.message.startswith(f"{tmp_path}/backup.conf:{line}: ")
    assert said in caught.value.message
    assert hint in caught.value.hint
    assert len(caught.value.message) < 400 + len(str(tmp_path))


WRONG_STORAGE = [
    ("", 1, "no [storage:NAME]"),
    ("[storage:local]\npath = /x\n", 1, "lacks 'type'"),
    ("[storage:local]\ntype = memory\n", 2, "type = 'memory'"),
    ("[storage:local]\ntype = local\n", 1, "lacks 'path'"),
    ("[storage:local]\ntype = local\npath = /x\nbucket = b\n", 4, "unknown key 'bucket'"),
    ("[storage:s3]\ntype = s3\n", 1, "lacks 'bucket'"),
    (f"{S3}path = /x\n", 4, "unknown key 'path'"),
    (f"{S3}prefix = a//b\n", 4, "prefix = 'a//b'"),
    (f"{S3}prefix = ../b\n", 4, "prefix = '../b'"),
    (f"{S3}prefix = /b\n", 4, "prefix = '/b'"),
    (f"{S3}endpoint = localhost:9000\n", 4, "endpoint = 'localhost:9000'"),
    (f"{S3}endpoint = http://h:99999\n", 4, "endpoint = "),
    (f"{S3}endpoint = http://[\n", 4, "endpoint = "),
    (f"{S3}region = US West\n", 4, "region = 'US West'"),
    (f"{S3}checksum_mode = never\n", 4, "checksum_mode = 'never'"),
    ("[storage:s3]\ntype = s3\nbucket = a/b\n", 3, "bucket = 'a/b'"),
    ("[storage:S3]\ntype = local\npath = /x\n", 1, "storage name 'S3'"),
    (f"[storages]\ndefault = tape\n{STORAGE_TEXT}", 2, "default = 'tape' is not declared"),
    (f"[storages]\n{STORAGE_TEXT}{S3}", 1, "lacks 'default'"),
]


@pytest.mark.parametrize(("text", "line", "said"), WRONG_STORAGE)
def test_a_wrong_storage_is_named_with_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, storage=text)

    assert caught.value.message.startswith(f"{tmp_path}/storage.conf:{line}: ")
    assert said in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[retention]\ndaily = -1\n", 2, "daily = '-1'"),
        ("[retention]\nmin_backups = 0\n", 2, "min_backups = '0'"),
        ("[retention]\nonly_verified = true\n", 2, "only_verified = 'true'"),
        ("[retention]\nkeep_within = 30d\nmax_age = 7d\n", 3, "max_age = '7d' is shorter than keep_within"),
        ("[retention]\ngrace_period = soon\n", 2, "grace_period = 'soon'"),
    ],
)
def test_wrong_retention_is_refused_already_now(tmp_path: Path, text: str, line: int, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, retention=text)

    assert caught.value.message.startswith(f"{tmp_path}/retention.conf:{line}: ")
    assert said in caught.value.message


def test_keys_inside_a_storage_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"storage\.conf:3: .* holds keys_dir") as caught:
        load(tmp_path, storage=f"[storage:local]\ntype = local\npath = {tmp_path}/x/..\n")

    assert "away from the backups" in caught.value.hint


@pytest.mark.parametrize("url", ["amqp://:hunter2@h/0", "redis://", "redis+socket://:hunter2", "redis://:hunter2@h:99999/0"])
def test_a_bad_broker_url_is_refused_without_showing_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"backup\.conf:2: \[broker\] url") as caught:
        load(tmp_path, backup=f"[broker]\nurl = {url}\n{BACKUP}")

    assert "hunter2" not in f"{caught.value} {caught.value.hint} {caught.value.__cause__}"


@pytest.mark.parametrize(
    "url", ["redis://h", "rediss://:p@h:6380/1", "redis+socket://:password@/run/x.sock?virtual_host=1", "redis://[::1]:6379/0"]
)
def test_broker_urls_are_kept_and_not_shown(tmp_path: Path, url: str) -> None:
    config = load(tmp_path, backup=f"[broker]\nurl = {url}\nresult_url =\n{BACKUP}")

    assert (config.broker.url, config.broker.result_url) == (url, None)
    assert url not in repr(config)


@pytest.mark.parametrize("name", sorted(FILES))
def test_each_file_must_be_there(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    (tmp_path / name).unlink()

    with pytest.raises(ConfigError, match=f"{name}: there is no such file") as caught:
        load_config(tmp_path, environment={})

    assert "continuum init" in caught.value.hint


def _directory(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _huge(path: Path) -> None:
    path.write_bytes(b"#" * (1024 * 1024 + 1))


def _latin_1(path: Path) -> None:
    path.write_bytes(b"[retention]\n# caf\xe9\n")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_directory, "not a regular file"),
        (_loop, "symbolic links"),
        (_fifo, "not a regular file"),
        (_huge, "longer than 1048576 bytes"),
        (_latin_1, "retention.conf:2: byte 0xe9 is not UTF-8"),
    ],
)
def test_a_file_that_is_no_small_text_file_is_refused(tmp_path: Path, make, said: str) -> None:
    write(tmp_path)
    (tmp_path / "retention.conf").unlink()
    make(tmp_path / "retention.conf")

    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path, environment={})

    assert said in caught.value.message
    assert "retention.conf" in caught.value.message


def test_a_refused_file_leaves_no_descriptor_open(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "retention.conf").unlink()
    (tmp_path / "retention.conf").mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))

    for _ in range(5):
        with pytest.raises(ConfigError):
            load_config(tmp_path, environment={})

    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_file_this_user_may_not_read_is_refused(folder: Path) -> None:
    write(folder)
    (folder / "storage.conf").chmod(0)
    with other.unprivileged(folder), pytest.raises(ConfigError, match=r"storage\.conf: cannot be read: permission denied"):
        load_config(folder, environment={})


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    write(tmp_path, retention="\ufeff[retention]\ndaily = 3\n")

    assert load_config(tmp_path, environment={}).retention.daily == 3


def test_the_directory_is_the_option_then_the_environment_then_the_system_one() -> None:
    environment = {"CONTINUUM_CONFIG_DIR": "/from/environment"}

    assert find_config_directory("/from/option", environment) == Path("/from/option")
    assert find_config_directory(None, environment) == Path("/from/environment")
    assert find_config_directory(None, {}) == Path("/etc/continuum")
    assert find_config_directory(None, {"CONTINUUM_CONFIG_DIR": ""}) == Path("/etc/continuum")
    assert find_config_directory("here", {}) == Path.cwd() / "here"
    for bad in ("", " ", "~no-such-user-here"):
        with pytest.raises(ConfigError):
            find_config_directory(bad, {})


_names = sorted({key.name for keys in FILES["backup.conf"].values() for key in keys or ()} | {"path", "storage", "full_every"})
_names += sorted({key.name for keys in STORAGE.values() for key in keys})
_sections = [
    "[continuum]",
    "[backup]",
    "[broker]",
    "[workers]",
    "[database:memory]",
    "[storage:local]",
    "[storages]",
    "[retention]",
]
_values = st.one_of(
    st.sampled_from(
        ["", "never", "0", "7d", "32M", "/x", "~", "~/x", "s3", "local", "yes", "zstd", "redis://h", "http://[", "http://h"]
    ),
    st.text(max_size=20),
    st.integers().map(str),
)
_line = st.one_of(
    st.sampled_from(_sections),
    st.tuples(st.sampled_from(_names), _values).map(" = ".join),
    st.text(max_size=30),
)
_text = st.lists(_line, max_size=12).map("\n".join)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(backup=_text, storage=_text, retention=_text, host=st.text(max_size=8))
def test_any_text_gives_a_configuration_or_a_config_error(backup: str, storage: str, retention: str, host: str) -> None:
    for texts in (
        {"backup.conf": backup, "storage.conf": storage, "retention.conf": retention},
        {"backup.conf": f"{backup}\n{BACKUP}", "storage.conf": STORAGE_TEXT, "retention.conf": RETENTION},
        {"backup.conf": BACKUP, "storage.conf": f"{STORAGE_TEXT}\n{storage}", "retention.conf": f"{RETENTION}\n{retention}"},
    ):
        try:
            read_config(texts, directory=Path("/etc/continuum"), environment={"CONTINUUM_HOST": host})
        except ConfigError as err:
            assert err.hint, err


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
def test_any_bytes_in_a_file_give_a_configuration_or_a_config_error(tmp_path: Path, data: bytes) -> None:
    write(tmp_path)
    (tmp_path / "backup.conf").write_bytes(BACKUP.encode() + data)
    try:
        load_config(tmp_path, environment={"CONTINUUM_HOST": "h"})
    except ConfigError as err:
        assert "backup.conf:" in err.message


def test_an_interval_that_cannot_keep_the_target_is_refused(tmp_path: Path) -> None:
    for text, line in (
        ("incremental_every = 5m\n", 3),
        ("rpo_target = 4m\n", 3),
        ("incremental_every = 1h\nrpo_target = 1h\n", 4),
    ):
        with pytest.raises(
            ConfigError, match=rf"backup.conf:{line}: .* incremental_every = .* cannot keep rpo_target"
        ) as refused:
            load(tmp_path, backup=BACKUP + text)
        assert "shorter than rpo_target" in refused.value.hint
    hourly = load(tmp_path, backup=f"{BACKUP}incremental_every = 1h\nrpo_target = 90m\n").databases[0]
    assert (hourly.rhythm.incremental_every_seconds, hourly.rhythm.rpo_target_seconds) == (3600, 5400)
    assert load(tmp_path, backup=f"{BACKUP}incremental_every = never\n").databases[0].rpo_target_seconds == 300
    captured = load(tmp_path, backup=f"{BACKUP}incremental_every = 1h\ncontinuous = yes\n").databases[0]
    assert (captured.incremental_every_seconds, captured.rpo_target_seconds) == (3600, 300)


def test_drills_have_a_command_and_questions_for_all_databases_or_one(tmp_path: Path) -> None:
    questions = "sql.rows = SELECT count(*) > 0 FROM t\nsql.memory.own = WITH a AS (SELECT 1) SELECT 1\n"
    config = load(tmp_path, backup=f"[drill]\ndrill_command = pytest 'my tests/'\n{questions}{BACKUP}")

    assert config.drill.drill_command == "pytest 'my tests/'"
    assert [(one.name, one.database) for one in config.drill.invariants] == [("rows", ""), ("own", "memory")]
    assert config.drill.invariants[0].sql == "SELECT count(*) > 0 FROM t"
    assert config.drill_log == tmp_path / "log" / "dr-drills.log"
    assert load(tmp_path, backup=f"[drill]\ndrill_log = /x/y.log\n{BACKUP}").drill_log == Path("/x/y.log")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("drill_command = pytest 'open", "drill_command = .* is not allowed"),
        ("sql.rows = DELETE FROM t", "sql.rows = .* is not allowed"),
        ("sql.rows =", "sql.rows = '' is not allowed"),
        ("sql. = SELECT 1", "'sql.' is not a name"),
        ("sql.other.rows = SELECT 1", "a database that is not declared"),
        ("drill_tests = x", "unknown key 'drill_tests'"),
    ],
)
def test_a_check_that_makes_no_sense_is_refused_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"backup.conf:2: .*{message}"):
        load(tmp_path, backup=f"[drill]\n{line}\n{BACKUP}")
